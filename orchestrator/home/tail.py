"""Reads a sweep's files again and again while it runs, each time only what is new."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.home.files import naming
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import HistoryRow

# A file's modification time in nanoseconds, its size and its inode: a file that is replaced gets another stamp.
Stamp = tuple[int, int, int]


@final
@dataclass(frozen=True)
class TrialStamps:
    """Which versions of a trial's files are there.

    Args:
        config: of ``config.json``, which is written anew at every start of the trial.
        result: of ``result.json``; None while the trial has not ended.
    """

    config: Stamp
    result: Stamp | None


@final
class Tail:
    """Finds the trials that have changed since the last look, without reading or locking anything.

    Curves are left out: rows are appended to them all the time, and :func:`rows_after` reads those.
    """

    def __init__(self, paths: SweepPaths) -> None:
        self._paths = paths
        self._seen: dict[str, tuple[int, TrialStamps | None]] = {}

    def changes(self) -> dict[str, TrialStamps | None]:
        """Look for trials that are new, have changed or are gone.

        Returns:
            The stamps of each by trial id; None for a trial whose files are gone.
        """
        directories = _directories(self._paths.trials)
        changed: dict[str, TrialStamps | None] = {}
        for trial_id in self._seen.keys() - directories.keys():
            if self._seen.pop(trial_id)[1] is not None:
                changed[trial_id] = None
        for trial_id, modified in directories.items():
            before, stamps = self._seen.get(trial_id, (0, None))
            # Two renames may fall into one tick of the file system's clock, so a running trial is always looked at.
            if before == modified and stamps is not None and stamps.result is not None:
                continue
            found = self._stamps(trial_id)
            self._seen[trial_id] = modified, found
            if found != stamps:
                changed[trial_id] = found
        return changed

    def _stamps(self, trial_id: str) -> TrialStamps | None:
        config = stamp_of(self._paths.config(trial_id))
        return None if config is None else TrialStamps(config, stamp_of(self._paths.result(trial_id)))


@final
@dataclass(frozen=True)
class Place:
    """A place in a trial's curves, up to which they have been read; the default is the beginning.

    Args:
        inode: of the file.
        offset: in bytes.
        num_rows: rows before it.
    """

    inode: int = 0
    offset: int = 0
    num_rows: int = 0


@final
@dataclass(frozen=True)
class NewRows:
    """What has been appended to a trial's curves.

    Args:
        rows: the new rows in order.
        place: where the next reading goes on.
        is_restart: whether the file was begun again, so that the rows replace those before the old place.
    """

    rows: tuple[HistoryRow, ...]
    place: Place
    is_restart: bool = False


def rows_after(path: Path, place: Place) -> NewRows:
    """Read the rows of a ``history.jsonl`` after a place; a line that is not complete yet is left for later.

    Raises:
        FileUnreadable: a line holds no row.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; the failing open is what is asked about
    except FileNotFoundError:
        return NewRows((), place)
    with file:
        status = os.fstat(file.fileno())
        is_other = status.st_ino != place.inode or status.st_size < place.offset
        start = Place(status.st_ino) if is_other else place
        file.seek(start.offset)
        whole, newline, _ = file.read().rpartition(b"\n")
    with naming(path):
        rows = tuple(HistoryRow.model_validate_json(line) for line in whole.splitlines())
    end = Place(start.inode, start.offset + len(whole) + len(newline), start.num_rows + len(rows))
    return NewRows(rows, end, is_restart=is_other and place != Place())


def stamp_of(path: Path) -> Stamp | None:
    """Look up a file's stamp; None where there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _directories(trials: Path) -> dict[str, int]:
    try:
        with os.scandir(trials) as entries:
            return {entry.name: entry.stat().st_mtime_ns for entry in entries if entry.is_dir()}
    except FileNotFoundError:
        return {}
