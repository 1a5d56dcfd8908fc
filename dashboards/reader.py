"""A sweep's files read again and again: each only where it has changed, so that a refresh costs what is new."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import final

from pydantic import ValidationError

from orchestrator.errors import UserError
from orchestrator.home import HistoryRow, SweepPaths, SweepRecord, Trial, stored_spec, sweep_names
from orchestrator.report import Report, summarise
from orchestrator.search import Candidates, champions, stored_id
from orchestrator.spec import SweepSpec
from orchestrator.sweep import Standing, standing_of

Stamp = tuple[int, int, int]


@final
class Unreadable(UserError):
    """A sweep cannot be read now; the message says why."""


@final
@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment.

    Args:
        record: what is stored, without curves.
        standing: where it stands.
        faults: what could not be read, a sentence for each trial.
        version: another one as soon as anything but curves has changed.
    """

    record: SweepRecord
    standing: Standing
    faults: tuple[str, ...]
    version: int


@final
class SweepReader:
    """Reads one sweep for all who look at it; holds no lock of the sweep and writes nothing.

    Args:
        paths: of a sweep that was begun.
    """

    def __init__(self, paths: SweepPaths) -> None:
        self.paths = paths
        self._mutex = threading.RLock()
        self._spec: tuple[Stamp, SweepSpec] | None = None
        self._seen: dict[str, _Seen] = {}
        self._curves: dict[str, _Curve] = {}
        self._record: SweepRecord | None = None
        self._version = 0
        self._report: tuple[object, Report] | None = None

    def read(self) -> Snapshot:
        """Read what has changed.

        Returns:
            The sweep now.

        Raises:
            Unreadable: its spec, its provenance or its end cannot be read, or a plug-in is not there.
        """
        with self._mutex:
            try:
                record = self._read_record()
                standing = standing_of(self.paths, record)
            except (UserError, ValidationError, ValueError, OSError) as error:
                raise Unreadable(f"sweep {self.paths.name!r} cannot be read: {_line(error)}") from error
            faults = tuple(seen.fault for seen in self._seen.values() if seen.fault)
            return Snapshot(record, standing, faults, self._version)

    def report(self, snapshot: Snapshot) -> Report:
        """Work out the report, with the curves of the confirm runs; once for each state of the files.

        Args:
            snapshot: from :meth:`read`.

        Returns:
            The report.
        """
        with self._mutex:
            best = {stored_id(trial) for trials in champions(Candidates.of(snapshot.record)).values() for trial in trials[:1]}
            confirm = [trial for trial in snapshot.record.trials if trial.config.origin in best]
            curves = {id(trial): self.history(stored_id(trial)) for trial in confirm}
            key = (snapshot.version, tuple(map(len, curves.values())))
            if self._report is None or self._report[0] != key:
                trials = tuple(
                    trial.model_copy(update={"history": curves[id(trial)]}) if id(trial) in curves else trial
                    for trial in snapshot.record.trials
                )
                record = replace(snapshot.record, trials=trials)
                self._report = (key, summarise(record))
            return self._report[1]

    def history(self, trial_id: str) -> tuple[HistoryRow, ...]:
        """Read a trial's curves, of a trial that runs only what has come since.

        Args:
            trial_id: the name of its directory.

        Returns:
            Its rows in order; empty where there is none yet, or none that can be read.
        """
        with self._mutex:
            curve = self._curves.setdefault(trial_id, _Curve())
            curve.read(self.paths.history(trial_id))
            return tuple(curve.rows)

    def _read_record(self) -> SweepRecord:
        spec = self._read_spec()
        is_changed = self._read_trials()
        end = self.paths.read_end()
        ended_early = "" if end is None else end.ended_early
        known = self._record
        if known is None or is_changed or known.spec is not spec or known.ended_early != ended_early:
            trials = tuple(seen.trial for _, seen in sorted(self._seen.items()) if seen.trial is not None)
            self._record = SweepRecord(spec, self.paths.read_provenance(), trials, ended_early)
            self._version += 1
        assert self._record is not None
        return self._record

    def _read_spec(self) -> SweepSpec:
        stamp = _stamp(self.paths.spec)
        if self._spec is None or self._spec[0] != stamp:
            self._spec = (stamp, stored_spec(self.paths))
        return self._spec[1]

    def _read_trials(self) -> bool:
        """Read the trials whose directory has changed: a configuration or a result is put there by a rename."""
        found = _directories(self.paths.trials)
        gone = self._seen.keys() - found.keys()
        for trial_id in gone:
            del self._seen[trial_id]
        # Two renames may fall into one tick of the file system's clock, so what runs is looked at each time.
        changed = [
            name for name, stamp in found.items() if name not in self._seen or self._seen[name].may_differ(stamp)
        ]
        is_changed = bool(gone)
        for trial_id in changed:
            is_changed |= self._seen.setdefault(trial_id, _Seen()).read(self.paths, trial_id, found[trial_id])
        return is_changed


@final
class _Seen:
    """A trial as it was read last."""

    def __init__(self) -> None:
        self.trial: Trial | None = None
        self.fault = ""
        self._directory: int | None = None
        self._config: Stamp | None = None
        self._result: Stamp | None = None

    def may_differ(self, directory: int) -> bool:
        """Tell whether it is to be read again, from when its directory was changed."""
        return directory != self._directory or self.trial is None or self.trial.result is None

    def read(self, paths: SweepPaths, trial_id: str, directory: int) -> bool:
        """Read what is new, and tell whether anything was."""
        config_stamp, result_stamp = _stamp_or_none(paths.config(trial_id)), _stamp_or_none(paths.result(trial_id))
        self._directory = directory
        if config_stamp is None or (config_stamp, result_stamp) == (self._config, self._result):
            return False
        try:
            self.trial, self.fault = paths.read_trial(trial_id, with_history=False), ""
        except (UserError, OSError) as error:
            self.trial, self.fault = None, f"trial {trial_id} cannot be read: {_line(error)}"
        self._config, self._result = config_stamp, result_stamp
        return True


@final
class _Curve:
    """A trial's curves as far as they have been read."""

    def __init__(self) -> None:
        self.rows: list[HistoryRow] = []
        self._inode = 0
        self._offset = 0

    def read(self, path: Path) -> None:
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed below; the failing open is what is asked about
        except FileNotFoundError:
            return
        with file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or status.st_size < self._offset:  # begun again
                self.rows, self._inode, self._offset = [], status.st_ino, 0
            if status.st_size == self._offset:
                return
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        try:
            self.rows += [HistoryRow.model_validate_json(line) for line in whole.splitlines()]
        except ValidationError:
            # What was written by another version, or spoilt, has no curve; the trial itself is shown all the same.
            self.rows = []


@final
@dataclass(frozen=True)
class Home:
    """The sweeps of a home, each read by one reader for all who look.

    Args:
        path: the directory.
        readers: by name.
    """

    path: Path
    readers: dict[str, SweepReader]

    def names(self) -> list[str]:
        """List the sweeps, the one begun last first."""
        return sorted(sweep_names(self.path), key=self._began_at, reverse=True)

    def reader(self, name: str) -> SweepReader:
        """Give the reader of a sweep."""
        return self.readers.setdefault(name, SweepReader(SweepPaths(self.path, name)))

    def _began_at(self, name: str) -> float:
        paths = SweepPaths(self.path, name)
        stamps = [_stamp_or_none(path) for path in (paths.lock, paths.spec)]
        return max((stamp[0] for stamp in stamps if stamp is not None), default=0)


@lru_cache
def home_at(path: Path) -> Home:
    """Give the home of a directory: one object in the whole process."""
    return Home(path, {})


def find_trial(trials: Iterable[Trial], trial_id: str) -> Trial | None:
    """Find a trial by the id under which it is on file."""
    return next((trial for trial in trials if stored_id(trial) == trial_id), None)


def _directories(trials: Path) -> dict[str, int]:
    try:
        with os.scandir(trials) as entries:
            return {entry.name: entry.stat().st_mtime_ns for entry in entries if entry.is_dir()}
    except FileNotFoundError:
        return {}


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _stamp_or_none(path: Path) -> Stamp | None:
    try:
        return _stamp(path)
    except FileNotFoundError:
        return None


def _line(error: BaseException) -> str:
    if isinstance(error, UserError):
        return "; ".join(map(str, error.faults))
    return " ".join(str(error).split())[:300]
