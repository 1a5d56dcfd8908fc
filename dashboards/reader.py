"""A sweep's files read again and again: each only where it has changed, so that a refresh costs what is new."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import final

from pydantic import ValidationError

from orchestrator.errors import FileUnreadable, UserError
from orchestrator.home import (
    HistoryRow,
    ReadUpTo,
    Stamp,
    SweepPaths,
    SweepRecord,
    Tail,
    Trial,
    rows_after,
    stamp_of,
    stored_spec,
    sweep_names,
)
from orchestrator.report import Report, summarise
from orchestrator.search import stored_id
from orchestrator.spec import SweepSpec
from orchestrator.sweep import Standing, standing


@final
class Unreadable(UserError):
    """A sweep cannot be read now; the message says why."""


@final
@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment.

    Args:
        record: what is stored, without curves.
        standing: where the sweep stands.
        faults: a sentence for each trial that could not be read.
        version: it changes as soon as anything but curves has changed.
    """

    record: SweepRecord
    standing: Standing
    faults: tuple[str, ...]
    version: int


@final
class SweepReader:
    """Reads one sweep for all who look at it; holds no lock of the sweep and writes nothing."""

    def __init__(self, paths: SweepPaths) -> None:
        self.paths = paths
        self._mutex = threading.RLock()
        self._tail = Tail(paths)
        self._spec: tuple[Stamp | None, SweepSpec] | None = None
        self._trials: dict[str, Trial] = {}
        self._faults: dict[str, str] = {}
        self._curves: dict[str, tuple[ReadUpTo, tuple[HistoryRow, ...]]] = {}
        self._record: SweepRecord | None = None
        self._version = 0
        self._report: tuple[object, Report] | None = None

    def read(self) -> Snapshot:
        """Read what has changed.

        Raises:
            Unreadable: its spec, its provenance or its outcome cannot be read, or a plug-in is not there.
        """
        with self._mutex:
            try:
                record = self._read_record()
                where = standing(self.paths, record)
            except (UserError, ValidationError, ValueError, OSError) as error:
                raise Unreadable(f"sweep {self.paths.name!r} cannot be read: {_line(error)}") from error
            return Snapshot(record, where, tuple(self._faults.values()), self._version)

    def report(self, snapshot: Snapshot) -> Report:
        """Work out the report, with the curves of the confirm runs; once for each state of the files."""
        with self._mutex:
            confirm = [trial for trial in snapshot.record.trials if trial.config.phase == "confirm"]
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
        """Read a trial's curves, of a trial that runs only what has come since; empty where they are damaged."""
        with self._mutex:
            read, rows = self._curves.get(trial_id, (ReadUpTo(), ()))
            try:
                new = rows_after(self.paths.history(trial_id), read)
            except FileUnreadable:
                return ()
            if new.end != read:
                self._curves[trial_id] = new.end, new.rows if new.is_restart else rows + new.rows
            return self._curves.get(trial_id, (read, rows))[1]

    def _read_record(self) -> SweepRecord:
        spec = self._read_spec()
        is_changed = self._read_trials()
        outcome = self.paths.read_outcome()
        ended_early = "" if outcome is None else outcome.ended_early
        known = self._record
        if known is None or is_changed or known.spec is not spec or known.ended_early != ended_early:
            trials = tuple(trial for _, trial in sorted(self._trials.items()))
            self._record = SweepRecord(spec, self.paths.read_provenance(), trials, ended_early)
            self._version += 1
        assert self._record is not None
        return self._record

    def _read_spec(self) -> SweepSpec:
        stamp = stamp_of(self.paths.spec)
        if self._spec is None or self._spec[0] != stamp:
            self._spec = (stamp, stored_spec(self.paths))
        return self._spec[1]

    def _read_trials(self) -> bool:
        changes = self._tail.changes()
        for trial_id, stamps in changes.items():
            self._trials.pop(trial_id, None)
            self._faults.pop(trial_id, None)
            if stamps is None:
                continue
            try:
                self._trials[trial_id] = self.paths.read_trial(trial_id, with_history=False)
            except (UserError, OSError) as error:
                self._faults[trial_id] = f"trial {trial_id} cannot be read: {_line(error)}"
        return bool(changes)


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
        stamps = [stamp_of(path) for path in (paths.lock, paths.spec)]
        return max((stamp[0] for stamp in stamps if stamp is not None), default=0)


@lru_cache
def home_at(path: Path) -> Home:
    """Give the home of a directory: one object in the whole process."""
    return Home(path, {})


def find_trial(trials: Iterable[Trial], trial_id: str) -> Trial | None:
    """Find a trial by the id under which it is on file."""
    return next((trial for trial in trials if stored_id(trial) == trial_id), None)


def _line(error: BaseException) -> str:
    if isinstance(error, UserError):
        return "; ".join(map(str, error.faults))
    return " ".join(str(error).split())[:300]
