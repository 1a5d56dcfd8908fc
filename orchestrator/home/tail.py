"""Reads what is new in the files of a sweep that runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.home.files import naming
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import HistoryRow

# A file's modification time in nanoseconds, its size and its inode. A file that is replaced gets another stamp.
Stamp = tuple[int, int, int]


@final
@dataclass(frozen=True)
class TrialStamps:
    """The stamps of a trial's files.

    Args:
        config: of ``config.json``, which is written again at each start of the trial.
        result: of ``result.json``; None until the trial has ended.
    """

    config: Stamp
    result: Stamp | None


@final
class Tail:
    """Finds the trials that have changed since the last look, without opening or locking a file.

    Curves are left out, since rows are appended to them all the time; :func:`rows_after` reads those.
    """

    def __init__(self, paths: SweepPaths) -> None:
        self._paths = paths
        self._seen: dict[str, tuple[int, TrialStamps | None]] = {}

    def changes(self) -> dict[str, TrialStamps | None]:
        """Give the stamps of each trial that is new or has changed, and None for each whose files are gone."""
        directories = _directories(self._paths.trials)
        changed: dict[str, TrialStamps | None] = {}
        for trial_id in self._seen.keys() - directories.keys():
            if self._seen.pop(trial_id)[1] is not None:
                changed[trial_id] = None
        for trial_id, modified in directories.items():
            before, stamps = self._seen.get(trial_id, (0, None))
            # Two renames may fall into one tick of the file system's clock, so running trials are always looked at.
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
class ReadUpTo:
    """How far a trial's curves have been read; by default they have not.

    Args:
        inode: of the file that was read.
        offset: number of bytes that were read.
    """

    inode: int = 0
    offset: int = 0


@final
@dataclass(frozen=True)
class NewRows:
    """The rows that have been appended to a trial's curves.

    Args:
        rows: the new rows in order.
        end: where the next reading goes on.
        is_restart: whether the trial was started again, so that these rows replace all that were read before.
    """

    rows: tuple[HistoryRow, ...]
    end: ReadUpTo
    is_restart: bool = False


def rows_after(path: Path, start: ReadUpTo) -> NewRows:
    """Read the rows of a ``history.jsonl`` that have not been read; a line without an end is left for later.

    Raises:
        FileUnreadable: a line does not hold a row.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; only a failing open is caught
    except FileNotFoundError:
        return NewRows((), start)
    with file:
        status = os.fstat(file.fileno())
        is_other = status.st_ino != start.inode or status.st_size < start.offset
        is_restart = is_other and start != ReadUpTo()
        if is_other:
            start = ReadUpTo(status.st_ino)
        file.seek(start.offset)
        whole, newline, _ = file.read().rpartition(b"\n")
    with naming(path):
        rows = tuple(HistoryRow.model_validate_json(line) for line in whole.splitlines())
    return NewRows(rows, ReadUpTo(start.inode, start.offset + len(whole) + len(newline)), is_restart)


def stamp_of(path: Path) -> Stamp | None:
    """Look up a file's stamp, or return None if there is no file."""
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
