"""The commands that plan and run sweeps: plan, run, resume, extend, train."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, final

import typer

from orchestrator.cli.options import (
    DEFAULT_HOME,
    AcceptCodeChange,
    Address,
    AsJson,
    DataRoot,
    Experiment,
    Home,
    LauncherName,
    Overrides,
    Plugins,
    SpecFile,
    SweepName,
    TrackingUri,
    TrustHooks,
    WaitForNodes,
    make_tracker,
    use_plugins,
)

if TYPE_CHECKING:
    from orchestrator.home import SweepPaths, Trial
    from orchestrator.spec import SweepSpec
    from orchestrator.sweep import Outcome, Place
    from orchestrator.track import Destination


def register(app: typer.Typer) -> None:
    """Add this module's commands to the program."""
    for command in (plan, run, resume, extend, train):
        app.command()(command)


def plan(
    spec: SpecFile,
    set_: Overrides = None,
    home: Home = DEFAULT_HOME,
    data_root: DataRoot = None,
    plugins: Plugins = None,
    address: Address = None,
    pilot: Annotated[bool, typer.Option("--pilot", help="Time an epoch of each study to estimate seconds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a sweep will do, what it will cost and what it can show; start nothing.

    Example: teleport plan sweeps/quickstart.yaml
    """
    from orchestrator.cli.show import print_plan
    from orchestrator.home import sweep_names
    from orchestrator.spec import load_spec
    from orchestrator.sweep import make_plan, measured_pace, pilot_pace

    use_data_root(data_root)
    use_plugins(plugins)
    loaded = load_spec(spec, set_ or ())
    names = sweep_names(home)
    place = None if address is None else _look_at(address)
    if pilot:
        planned = make_plan(loaded, pilot_pace, place, names)
    else:
        earlier, unread = _earlier_trials(home, names)
        planned = make_plan(loaded, measured_pace(earlier), place, names)
        planned = replace(planned, warnings=(*planned.warnings, *unread))
    if as_json:
        print(json.dumps(planned.to_json(), indent=1))
    else:
        print_plan(planned)


def _look_at(address: str) -> Place:
    """Ask a cluster for its nodes; a plan does not need an answer."""
    from orchestrator.errors import ClusterUnreachable
    from orchestrator.launch import nodes_of
    from orchestrator.sweep import Place
    from orchestrator.track import redact

    try:
        return Place(redact(address), nodes_of(address))
    except ClusterUnreachable as error:
        return Place(redact(address), (), tuple(map(str, error.faults)))


def _earlier_trials(home: Path, names: Iterable[str]) -> tuple[list[Trial], list[str]]:
    """Read the trials of a home's sweeps, and say which sweeps cannot be read."""
    from orchestrator.errors import UserError
    from orchestrator.home import SweepPaths
    from orchestrator.spec import plugins

    trials: list[Trial] = []
    unread = []
    for paths in (SweepPaths(home, name) for name in names):
        try:
            paths.check_format()
            # A sweep with plug-ins that are not loaded cannot be read, and says nothing about this sweep's pace.
            if plugins.is_loaded(paths.read_plugins()):
                trials += paths.read_trials(with_history=False)
        except (UserError, OSError) as error:
            unread.append(f"the estimate of seconds leaves out sweep {paths.name!r}: {error}")
    return trials, unread


def run(
    spec: SpecFile,
    set_: Overrides = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The sweep's name, instead of the spec's.")] = None,
    home: Home = DEFAULT_HOME,
    data_root: DataRoot = None,
    plugins: Plugins = None,
    address: Address = None,
    wait_for_nodes: WaitForNodes = 0.0,
    launcher: LauncherName = "ray",
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
    accept_code_change: AcceptCodeChange = False,
    trust_hooks: TrustHooks = False,
) -> int:
    """Run a sweep: search, confirm, report. Safe to run again: finished trials are never repeated.

    Example: teleport run sweeps/quickstart.yaml --set search.trials=8
    """
    from orchestrator.home import SweepPaths
    from orchestrator.spec import load_spec

    use_data_root(data_root)
    use_plugins(plugins)
    loaded = load_spec(spec, set_ or (), name=name)
    how = _How(address, wait_for_nodes, launcher, tracking_uri, experiment, accept_code_change, trust_hooks)
    return _execute(loaded, SweepPaths(home, loaded.name), how)


def resume(
    name: SweepName,
    home: Home = DEFAULT_HOME,
    data_root: DataRoot = None,
    plugins: Plugins = None,
    address: Address = None,
    wait_for_nodes: WaitForNodes = 0.0,
    launcher: LauncherName = "ray",
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
    accept_code_change: AcceptCodeChange = False,
    trust_hooks: TrustHooks = False,
) -> int:
    """Go on with a sweep after an interruption or a crash.

    Example: teleport resume quickstart
    """
    from orchestrator.home import find_sweep, runnable_spec

    use_data_root(data_root)
    use_plugins(plugins)
    paths = find_sweep(home, name)
    how = _How(address, wait_for_nodes, launcher, tracking_uri, experiment, accept_code_change, trust_hooks)
    return _execute(runnable_spec(paths), paths, how)


def extend(
    name: SweepName,
    trials: Annotated[int | None, typer.Option(min=1, metavar="N", help="Candidates to add to each search.")] = None,
    confirm_seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Confirm seeds to add. Once a sweep has ended, so many fresh seeds carry new claims.",
        ),
    ] = None,
    replicates: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Independent searches to add to each arm on each workload.")
    ] = None,
    home: Home = DEFAULT_HOME,
    data_root: DataRoot = None,
    plugins: Plugins = None,
    address: Address = None,
    wait_for_nodes: WaitForNodes = 0.0,
    launcher: LauncherName = "ray",
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
    accept_code_change: AcceptCodeChange = False,
    trust_hooks: TrustHooks = False,
) -> int:
    """Add trials, confirm seeds or independent searches to a sweep, and run what is added.

    A sweep that has ended keeps its claims. What is added makes new claims, and every p is adjusted for all of them.

    Example: teleport extend quickstart --confirm-seeds 8
    """
    from orchestrator.home import find_sweep
    from orchestrator.sweep import extend as extend_sweep

    use_data_root(data_root)
    use_plugins(plugins)
    paths = find_sweep(home, name)
    spec = extend_sweep(paths, trials=trials or 0, confirm_seeds=confirm_seeds or 0, replicates=replicates or 0)
    how = _How(address, wait_for_nodes, launcher, tracking_uri, experiment, accept_code_change, trust_hooks)
    return _execute(spec, paths, how)


def train(
    spec: SpecFile,
    set_: Overrides = None,
    home: Home = DEFAULT_HOME,
    data_root: DataRoot = None,
    plugins: Plugins = None,
    workload: Annotated[
        str | None, typer.Option(metavar="LABEL", help="A workload of the spec; by default the first.")
    ] = None,
    arm: Annotated[str | None, typer.Option(metavar="LABEL", help="An arm of the spec; by default the last.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="By default the first search seed.")] = None,
) -> int:
    """Train one configuration here, without a search, and print its curves.

    Distributions must be fixed with --set.

    Example: teleport train sweeps/quickstart.yaml --arm baseline --set workloads.mlp_digits.optimizer.lr=0.1
    """
    from orchestrator.cli.show import print_training
    from orchestrator.spec import load_spec
    from orchestrator.sweep import single_config, train_one

    use_data_root(data_root)
    use_plugins(plugins)
    loaded = load_spec(spec, set_ or ())
    config = single_config(loaded, workload, arm, seed)
    return print_training(config, lambda show: train_one(config, home, f"{loaded.name}.train", show))


@final
@dataclass(frozen=True)
class _How:
    """How a sweep runs, as the options of the same names say."""

    address: str | None
    wait_for_nodes: float
    launcher: str
    tracking_uri: str | None
    experiment: str | None
    accept_code_change: bool
    trust_hooks: bool


def _execute(spec: SweepSpec, paths: SweepPaths, how: _How) -> int:
    from orchestrator.cli.display import watch_sweep
    from orchestrator.errors import Interrupted, UserError, nearest
    from orchestrator.launch import LAUNCHERS
    from orchestrator.sweep import Interrupts
    from orchestrator.sweep import run as run_sweep
    from orchestrator.track import destination, redact, refuse_login

    if how.launcher not in LAUNCHERS:
        raise UserError(f"--launcher: {how.launcher!r} is not known; {nearest(how.launcher, LAUNCHERS)}")
    if how.address is not None and how.launcher != "ray":
        raise UserError(f"--address: only the ray launcher runs on a cluster, --launcher is {how.launcher}")
    if how.wait_for_nodes and how.address is None:
        raise UserError("--wait-for-nodes: no node joins without a cluster; give its --address")
    shares = [spec.resources.share("search"), spec.resources.share("confirm")]
    interrupts = Interrupts()
    interrupts.install()
    at = destination(paths.home, how.tracking_uri, how.experiment, paths.read_tracking())
    refuse_login(at)
    tracker = make_tracker(paths.home, at)
    try:
        with watch_sweep() as show:
            outcome = run_sweep(
                spec,
                paths,
                LAUNCHERS[how.launcher](how.address, shares, how.wait_for_nodes),
                tracker,
                command=redact(shlex.join(["teleport", *sys.argv[1:]])),
                observe=show,
                interrupts=interrupts,
                accepts_other_code=how.accept_code_change,
                trusts_hooks=how.trust_hooks,
            )
    except (Interrupted, OSError) as stopped:
        # After a full disk or a lost mount a sweep can go on, as after Ctrl-C, because its files are complete.
        if paths.exists():
            what = "interrupted" if isinstance(stopped, Interrupted) else f"stopped ({stopped})"
            print(f"{what}; go on with: teleport resume {paths.arguments}{_options(how)}", file=sys.stderr)
        raise
    return _conclude(outcome, at)


def _conclude(outcome: Outcome, at: Destination) -> int:
    from orchestrator.cli.show import print_headline, print_verdicts

    print_verdicts(outcome.report)
    if outcome.report.sweep.ended_early:
        early = outcome.report.sweep.ended_early
        print(f"ended early: {early}; with a larger budget `teleport run` goes on from here", file=sys.stderr)
    for sentence in outcome.set_aside:
        print(f"damaged: {sentence}", file=sys.stderr)
    for failure in outcome.failures:
        print(f"failed: {failure}; see {outcome.paths.log}", file=sys.stderr)
    if outcome.num_untracked:
        print(
            f"MLflow has not got {outcome.num_untracked} runs; `teleport track sync {outcome.paths.arguments}` sends "
            "them",
            file=sys.stderr,
        )
    else:
        print(f"MLflow: {_where_shown(outcome.paths, at)}", file=sys.stderr)
    print(f"report: {outcome.paths.report_page}")
    print_headline(outcome.report)
    return 1 if outcome.failures else 0


def _where_shown(paths: SweepPaths, at: Destination) -> str:
    """Give the address of the sweep's run on a server, or the command that opens it."""
    from orchestrator.track import page_of, sweep_link

    command = f"teleport ui {paths.arguments}"
    page = page_of(at.uri, "")
    return (sweep_link(at, page, paths).url if page else "") or command


def _options(how: _How) -> str:
    """Write the options that differ from their defaults, without credentials, because terminals are logged."""
    from orchestrator.spec.options import DATA_ROOT_VARIABLE
    from orchestrator.track import redact

    given = []
    if how.address is not None:
        given += ["--address", how.address]
    if how.launcher != "ray":
        given += ["--launcher", how.launcher]
    if DATA_ROOT_VARIABLE in os.environ:
        given += ["--data-root", os.environ[DATA_ROOT_VARIABLE]]
    # A sweep remembers its store, but no credentials.
    if how.tracking_uri is not None and redact(how.tracking_uri) != how.tracking_uri:
        given += ["--tracking-uri", how.tracking_uri]
    return redact("".join(f" {shlex.quote(word)}" for word in given))


def use_data_root(root: Path | None) -> None:
    """Set the data root for this process and for the workers, which inherit its environment."""
    if root is not None:
        os.environ["TELEPORT_DATA"] = str(root.absolute())
