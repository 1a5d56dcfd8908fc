"""Ends a sweep, or one of its trials, from another process; removes a sweep."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.errors import SweepLocked, UserError
from orchestrator.home import SweepPaths, find_trial, is_locked, left_parts, locked, part_of

# A driver looks for wishes several times a second where it can, and then lets its trials and its store come to an end.
PATIENCE = 60.0
_PAUSE = 0.1


def stop(paths: SweepPaths, trial: str = "", *, patience: float = PATIENCE) -> str:
    """Ask the process that drives a sweep to end it, or one of its trials, and wait until that is done.

    The wish is a file of the sweep, so this works from any machine that sees the home.

    Args:
        paths: of the sweep.
        trial: the beginning of the id of a search trial that runs; empty: the whole sweep.
        patience: seconds to wait at most.

    Returns:
        What was done, in a sentence.

    Raises:
        UserError: the sweep does not run, no such trial runs, or the driver has not answered in time.
    """
    if not is_locked(paths):
        raise UserError(f"sweep {paths.name!r} does not run now, so there is nothing to stop")
    trial_id = _running_trial(paths, trial) if trial else ""
    paths.ask_to_stop(trial_id)
    if trial_id:
        ended = _waited(lambda: paths.result(trial_id).is_file() or not is_locked(paths), patience)
        told = f"trial {trial_id} is ended; it counts as PRUNED, by the user"
    else:
        ended = _waited(lambda: not is_locked(paths), patience)
        told = f"sweep {paths.name!r} has stopped; go on with: teleport resume {paths.arguments}"
    if not ended:
        raise UserError(f"sweep {paths.name!r} was asked to stop, and has not within {patience:g} s")
    return told


def _running_trial(paths: SweepPaths, beginning: str) -> str:
    running = {one.config.trial_id: one.config for one in paths.read_trials(with_history=False) if one.result is None}
    trial_id = find_trial(beginning, running, option="--trial", absent="runs")
    if running[trial_id].phase == "confirm":
        raise UserError(
            f"--trial: {trial_id} is a confirm trial, on which claims rest, so it is not ended by itself; stop the "
            f"sweep (teleport stop {paths.arguments})"
        )
    return trial_id


def _waited(is_done: Callable[[], bool], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while not is_done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE)
    return True


@final
@dataclass(frozen=True)
class Remains:
    """What there is of a sweep.

    Args:
        num_trials: whose files are there.
        num_bytes: of all its files.
    """

    num_trials: int
    num_bytes: int


def remains_of(paths: SweepPaths) -> Remains:
    """Say what would be removed with a sweep."""
    files = [path for path in paths.root.rglob("*") if path.is_file() and not path.is_symlink()]
    return Remains(len(paths.trial_ids()), sum(path.stat().st_size for path in files))


def left_in(home: Path) -> list[Path]:
    """List the hidden directories that a deletion or a fetch has left in a home because it was killed."""
    return sorted(path for path in left_parts(home, deep=False) if path.is_dir())


def remove(paths: SweepPaths, forget: Callable[[SweepPaths], int] | None = None) -> int:
    """Remove a sweep that does not run; its directory vanishes in one step.

    Args:
        paths: of the sweep.
        forget: removes its runs from a tracking store, and counts them; called first, since the files say which they
            are, so that a removal that was cut off can be repeated.

    Returns:
        The number of runs that are removed from the store.

    Raises:
        SweepLocked: the sweep runs.
    """
    if is_locked(paths):
        raise SweepLocked(f"sweep {paths.name!r} runs; stop it first (teleport stop {paths.arguments})")
    with locked(paths):
        num_runs = 0 if forget is None else forget(paths)
        # Directories of this form are removed with the next deletion, should this process end within the next line.
        aside: Path = part_of(paths.root)
        os.replace(paths.root, aside)
    shutil.rmtree(aside)
    return num_runs
