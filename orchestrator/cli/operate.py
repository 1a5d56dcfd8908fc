"""The commands that act on a sweep from another terminal: stop, delete, logs."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import DEFAULT_HOME, Experiment, Home, SweepName, TrackingUri

SECONDS_BETWEEN_LOOKS = 0.2


def register(app: typer.Typer) -> None:
    """Add this module's commands to the program."""
    for command in (stop, delete, logs):
        app.command()(command)


def stop(
    name: SweepName,
    trial: Annotated[
        str, typer.Option(metavar="ID", help="End this search trial alone; the beginning of its id is enough.")
    ] = "",
    home: Home = DEFAULT_HOME,
) -> None:
    """End a sweep that runs, as Ctrl-C does, or one of its search trials; from any terminal that sees the home.

    Example: teleport stop quickstart
    """
    from orchestrator.home import find_sweep
    from orchestrator.sweep import stop as stop_sweep

    print(stop_sweep(find_sweep(home, name), trial))


def delete(
    name: SweepName,
    home: Home = DEFAULT_HOME,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Remove its runs from MLflow too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
) -> int:
    """Remove a sweep that does not run, after a question; its runs in MLflow stay unless --mlflow is given.

    Example: teleport delete quickstart --mlflow
    """
    from orchestrator.errors import UserError
    from orchestrator.home import find_sweep, sweep_names
    from orchestrator.sweep import left_in, remains_of, remove
    from orchestrator.track import destination, forget

    left = left_in(home)
    for each in left:
        shutil.rmtree(each)
        print(f"removed {each}, which a command that was killed had left")
    if name not in sweep_names(home) and any(each.name.startswith(f".{name}.") for each in left):
        return 0
    paths = find_sweep(home, name, of_any_format=True)
    at = destination(home, tracking_uri, experiment, paths.read_tracking()) if mlflow else None
    there = remains_of(paths)
    runs = " and its runs in MLflow" if mlflow else ""
    question = f"remove {paths.root} ({there.num_trials} trials, {there.num_bytes / 1e6:.1f} MB){runs}?"
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(f"{question} nobody can answer here; --yes removes without a question")
        if not typer.confirm(question, err=True):
            print("nothing was removed")
            return 1
    num_runs = remove(paths, None if at is None else lambda of: forget(of, at))
    print(f"removed sweep {name}{f', and {num_runs} runs from MLflow' if mlflow else ''}")
    return 0


def logs(
    name: SweepName,
    trial: Annotated[
        str, typer.Argument(metavar="[TRIAL]", help="The beginning of a trial's id: what this trial printed.")
    ] = "",
    home: Home = DEFAULT_HOME,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the sweep ends.")] = False,
) -> None:
    """Print a sweep's log, or what one of its trials printed.

    Example: teleport logs quickstart --follow
    """
    from orchestrator.home import find_sweep, find_trial, is_locked

    paths = find_sweep(home, name)
    file, place = paths.log, 0
    if trial:
        file = paths.output(find_trial(trial, paths.trial_ids(), option="TRIAL", absent=f"in sweep {name!r}"))
    while True:
        is_last = not (follow and is_locked(paths))
        place = _print_from(file, place)
        if is_last:
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _print_from(file: Path, place: int) -> int:
    """Print what was added to a file, without what could steer the terminal; tell where it ends now."""
    if not file.is_file():
        return place
    with open(file, encoding="utf-8", errors="replace") as opened:
        opened.seek(place)
        text = opened.read()
        place = opened.tell()
    sys.stdout.write("".join(each if each.isprintable() or each in "\n\t" else f"\\x{ord(each):02x}" for each in text))
    sys.stdout.flush()
    return place
