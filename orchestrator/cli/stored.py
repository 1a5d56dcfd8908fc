"""The commands that read stored sweeps and look at this machine: status, list, report, export, doctor, data, track."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import (
    DEFAULT_HOME,
    AsJson,
    DataRoot,
    Experiment,
    Home,
    Plugins,
    SweepName,
    TrackingUri,
    make_tracker,
    use_plugins,
)

if TYPE_CHECKING:
    from orchestrator.home import SweepRecord

data_app = typer.Typer(
    help="Data sets: where each was found, and how to get it.", no_args_is_help=True, rich_markup_mode=None
)
track_app = typer.Typer(help="The MLflow store.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add this module's commands to the program."""
    for command in (status, report, export, doctor):
        app.command()(command)
    app.command("list")(list_)
    data_app.command("list")(data_list)
    data_app.command("fetch")(data_fetch)
    track_app.command("sync")(track_sync)
    track_app.command("fetch")(track_fetch)
    app.add_typer(data_app, name="data")
    app.add_typer(track_app, name="track")


def status(name: SweepName, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Say how far a sweep is, also while it runs.

    Example: teleport status quickstart
    """
    from orchestrator.cli.show import print_standing
    from orchestrator.home import find_sweep
    from orchestrator.sweep import standing

    found = standing(find_sweep(home, name))
    if as_json:
        print(json.dumps(asdict(found), indent=1))
    else:
        print_standing(found)


def list_(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List the sweeps of this home.

    Example: teleport list
    """
    from orchestrator.cli.show import draw
    from orchestrator.sweep import Standing, Unread, left_in, standings

    for left in left_in(home):
        print(f"warning: {left} is left of a command that was killed; `teleport delete` removes it", file=sys.stderr)
    found = standings(home)
    for each in found:
        if isinstance(each, Unread):
            print(f"warning: {each.reason}", file=sys.stderr)
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=1))
    elif not found:
        print(f"no sweep in {home}; start one: teleport run sweeps/quickstart.yaml", file=sys.stderr)
    else:
        draw(
            ("sweep", "state", "trials", "failed"),
            (
                (s.name, s.state, f"{s.progress.num_done}/{s.progress.num_planned}", str(s.progress.num_failed))
                if isinstance(s, Standing)
                else (s.name, s.state, "", "")
                for s in found
            ),
            right=frozenset({2, 3}),
        )


def report(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Sweeps of this home; several share one page and its claims.")
    ],
    home: Home = DEFAULT_HOME,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory for the report; by default the sweep's own report/, and HOME/A+B for several.",
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="html,md,json,csv,tex,pdf",
            help="By default html,md,json; pdf needs Chromium or Chrome. Repeatable.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Write the report of stored sweeps, without any server, and print the verdicts and what they come to.

    Example: teleport report quickstart --out /tmp/report --format html,csv,tex
    """
    from orchestrator.cli.reports import asked_for
    from orchestrator.cli.show import print_headline, print_verdicts
    from orchestrator.home import read_record
    from orchestrator.report import Report, full_report, joint_report, render_json, write_best, write_formats

    asked = asked_for(home, names, formats or ["html,md,json"], out)
    records = [read_record(paths) for paths in asked.sweeps]
    made = full_report(records[0]) if len(records) == 1 else joint_report(records)
    if out is None and isinstance(made, Report):
        write_best(made, asked.sweeps[0])
    files = write_formats(made, asked.directory, asked.formats)
    if as_json:
        print(render_json(made), end="")
    else:
        print_verdicts(made)
        for file in files:
            print(file)
        print_headline(made)
    return _told_of_damage(records)


def export(
    name: SweepName,
    home: Home = DEFAULT_HOME,
    workload: Annotated[str | None, typer.Option(metavar="W", help="By default the only one.")] = None,
    arm: Annotated[str | None, typer.Option(metavar="A", help="By default the best by confirm.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="By default stdout.")] = None,
) -> int:
    """Write the best configuration as a spec that `teleport run` accepts.

    Example: teleport export quickstart --arm teleport --out best.yaml
    """
    from orchestrator.errors import UserError, nearest
    from orchestrator.home import atomic_write, find_sweep, read_record
    from orchestrator.report import best_spec

    record = read_record(find_sweep(home, name))
    labels = list(record.spec.workloads)
    if workload is None and len(labels) > 1:
        raise UserError(f"--workload: the sweep has several, say which; {nearest('', labels)}")
    if workload is not None and workload not in labels:
        raise UserError(f"--workload: {workload!r} is not in the sweep; {nearest(workload, labels)}")
    if arm is not None and arm not in record.spec.arms:
        raise UserError(f"--arm: {arm!r} is not in the sweep; {nearest(arm, record.spec.arms)}")
    text = best_spec(record, workload or labels[0], arm)
    if out is None:
        print(text, end="")
    else:
        atomic_write(out, text)
        print(out)
    return _told_of_damage([record])


def _told_of_damage(records: Iterable[SweepRecord]) -> int:
    """Say which files of sweeps are damaged, and return the exit code: 1 where any is."""
    damage = [f"{record.spec.name}: {told}" for record in records for told in record.damage]
    for told in damage:
        print(f"damaged: {told}; `teleport resume` sets a damaged trial aside and runs it again", file=sys.stderr)
    return int(bool(damage))


def doctor(
    home: Home = DEFAULT_HOME,
    data_root: DataRoot = None,
    plugins: Plugins = None,
    address: Annotated[str | None, typer.Option(metavar="ADDR")] = None,
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
    as_json: AsJson = False,
) -> int:
    """Check versions, plug-ins, devices, Ray, MLflow, Optuna and data on this machine.

    Example: teleport doctor
    """
    from orchestrator.cli.doctor import examine
    from orchestrator.cli.run import use_data_root
    from orchestrator.cli.show import draw
    from orchestrator.track import destination

    use_data_root(data_root)
    findings = examine(home, address, destination(home, tracking_uri, experiment), plugins or ())
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        draw(("", "what", "found"), ((f.mark, f.what, f.detail) for f in findings))
    return int(any(not finding.is_well and finding.is_needed for finding in findings))


def data_list(data_root: DataRoot = None, plugins: Plugins = None, as_json: AsJson = False) -> None:
    """List the data sets and where each was found.

    Example: teleport data list
    """
    from orchestrator.cli.run import use_data_root
    from orchestrator.cli.show import draw
    from orchestrator.spec.options import DATASETS
    from orchestrator.trial.data import locate

    use_data_root(data_root)
    use_plugins(plugins)
    found = {name: locate(name, None) for name in DATASETS}
    if as_json:
        print(json.dumps({name: asdict(each) for name, each in found.items()}, indent=1, default=str))
    else:
        draw(("data set", "found"), ((name, str(each)) for name, each in found.items()))


def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set (see `teleport data list`).")],
    data_root: DataRoot = None,
    plugins: Plugins = None,
) -> None:
    """Download a data set onto this machine unless it is here, and read it once.

    Example: teleport data fetch fashion_mnist --data-root data
    """
    from orchestrator.trial.data import fetch

    use_plugins(plugins)
    print(fetch(name, None if data_root is None else str(data_root.absolute()), show_progress=True))


def track_sync(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Sweeps of this home; without one, all of them.")
    ] = None,
    home: Home = DEFAULT_HOME,
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
) -> int:
    """Send to MLflow the runs that it lacks.

    Example: teleport track sync quickstart
    """
    from orchestrator.errors import SweepLocked, UserError
    from orchestrator.home import find_sweep, sweep_names
    from orchestrator.sweep import sync
    from orchestrator.track import destination

    code = 0
    for name in names or sweep_names(home):
        try:
            paths = find_sweep(home, name)
            at = destination(home, tracking_uri, experiment, paths.read_tracking())
            num_left = sync(paths, make_tracker(home, at))
        except SweepLocked as error:
            if names:
                raise
            print(f"{name}: {error}; its own process sends what MLflow lacks", file=sys.stderr)
        except UserError as error:
            if names:
                raise
            print(f"warning: {name}: {error}", file=sys.stderr)
            code = 1
        else:
            print(f"{name}: MLflow {f'still lacks {num_left} runs' if num_left else 'has every run'}")
            code = max(code, int(num_left > 0))
    return code


def track_fetch(
    name: SweepName,
    home: Home = DEFAULT_HOME,
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
    run_id: Annotated[
        str | None, typer.Option(help="The id of the sweep's own run, where several sweeps have this name.")
    ] = None,
    plugins: Plugins = None,
) -> int:
    """Fetch a sweep's files from MLflow into this home, so that report, export and other commands can read them.

    Example: teleport track fetch night --tracking-uri https://mlflow.example.org
    """
    from orchestrator.track import destination, fetch

    use_plugins(plugins)
    fetched = fetch(name, destination(home, tracking_uri, experiment), home, run_id)
    print(f"{fetched.paths.root}: {fetched.num_trials} trials{'' if fetched.is_new else ', all of them here before'}")
    if fetched.num_shown > fetched.num_trials:
        print(
            f"the store shows {fetched.num_shown} trials, because the sweep has gone on or some trials were cut off; a "
            "sweep's archive is stored when the sweep ends or is interrupted",
            file=sys.stderr,
        )
    return 0
