"""Keeps exactly one run in the store for each trial, whatever was sent, lost or half done before.

A run is whole if it bears the fingerprint of its trial's ending, which is written last. The process that began a run
goes on with it until it is whole; any other process replaces a run that is not.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.home import HistoryRow, SweepRecord, Trial, TrialConfig
from orchestrator.track.base import RunStatus
from orchestrator.track.points import found_points, history_points
from orchestrator.track.projection import COMPLETE, NOTE, fingerprint, run_end, sweep_facts, sweep_id, trial_facts
from orchestrator.track.store import Refused, RunStore, StoredRun
from orchestrator.track.text import note


@final
@dataclass(frozen=True)
class SweepRunEnd:
    """How the sweep's own run ends; the first four fields are explained at :class:`Tracker`.

    ``ended_at`` is a Unix time in milliseconds; None stands for the end of the last trial.
    """

    status: RunStatus | None
    description: str
    artifacts: tuple[Path, ...]
    metrics: Mapping[str, float]
    ended_at: int | None


@final
class Ledger:
    """Keeps one sweep's runs in a store.

    Each method raises what the store raises. After :class:`Unreachable` nobody knows what was done, so :meth:`open`
    has to be called before anything else.

    Args:
        store: that holds the runs.
        record: of the sweep; its trials are not looked at.
        is_running: whether the sweep runs now, so that its run has to be RUNNING.
    """

    def __init__(self, store: RunStore, record: SweepRecord, *, is_running: bool) -> None:
        self._store = store
        self._record = record
        self._is_running = is_running
        self._parent: StoredRun | None = None
        self._children: dict[str, str] = {}
        self._complete: dict[str, str] = {}

    def open(self, live: Collection[str]) -> set[str]:
        """Find or create the sweep's run, learn what the store has, and end the runs that nobody writes any more.

        Of the trials whose runs this process has begun, the ids are given and those are returned whose runs remain.
        """
        found = self._store.find(sweep_id(self._record))
        self._adopt([run for run in found if run.trial_id is None], {run.parent for run in found})
        groups: defaultdict[str, list[StoredRun]] = defaultdict(list)
        for run in found:
            if run.trial_id is not None:
                groups[run.trial_id].append(run)
        mine = {trial_id: run_id for trial_id, run_id in self._children.items() if trial_id in live}
        self._children, self._complete = {}, {}
        for trial_id, runs in groups.items():
            self._settle(trial_id, runs, mine.get(trial_id))
        return {trial_id for trial_id, run_id in mine.items() if self._children.get(trial_id) == run_id}

    def has_whole(self, trial: Trial, num_rows: int) -> bool:
        """Tell by its fingerprint whether the store has all of a trial that no longer runs."""
        return self._complete.get(trial.trial_id) == fingerprint(trial.result, num_rows)

    def begin(self, config: TrialConfig, started_at: int) -> None:
        """Begin a trial's run at a Unix time in milliseconds, in place of the run that the store had."""
        assert self._parent is not None, "open comes first"
        old = self._children.pop(config.trial_id, None)
        self._complete.pop(config.trial_id, None)
        if old is not None:
            self._store.delete(old)
        facts = trial_facts(self._record, config)
        self._children[config.trial_id] = self._store.create(facts, parent=self._parent.run_id, started_at=started_at)

    def log(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> None:
        """Add rows to the run of a trial that was begun."""
        self._store.log(self._children[config.trial_id], history_points(self._record, rows))

    def end(self, trial: Trial, rows: Sequence[HistoryRow], num_rows: int) -> None:
        """End a trial's run: its status is set first, and its last rows and its fingerprint are added after it.

        Args:
            trial: a trial without a result was cut off; its curves are not looked at.
            rows: the rows that its run lacks.
            num_rows: the number of all rows of a trial that was cut off.
        """
        end = run_end(self._record, trial.result, num_rows)
        run_id = self._children[trial.trial_id]
        points = [*history_points(self._record, rows), *end.points]
        self._store.set_status(run_id, end.status, _now() if end.ended_at is None else end.ended_at)
        self._store.log(run_id, points, end.tags)
        self._complete[trial.trial_id] = end.tags[COMPLETE]

    def end_sweep(self, end: SweepRunEnd, last_ended_at: float) -> None:
        """End the sweep's run; its last trial ended at this Unix time in seconds, which is 0 if none has ended."""
        assert self._parent is not None, "open comes first"
        run_id = self._parent.run_id
        if end.status is not None or self._parent.is_running:
            ended_at = max(last_ended_at, self._record.provenance.started_at) * 1000
            self._store.set_status(run_id, end.status or "KILLED", end.ended_at or round(ended_at))
        tags = {NOTE: note(end.description)} if end.description else {}
        points = found_points(end.metrics, last_ended_at)
        if tags or points:
            self._store.log(run_id, points, tags)
        for path in end.artifacts:
            if path.exists():
                self._store.attach(run_id, path)
        self._store.log(run_id, (), {COMPLETE: end.status or "as before"})

    def _adopt(self, runs: list[StoredRun], parents: set[str | None]) -> None:
        """Take the sweep's run. If a lost answer has left two, the one that has children is kept."""
        if not runs:
            started_at = round(self._record.provenance.started_at * 1000)
            run_id = self._store.create(sweep_facts(self._record), parent=None, started_at=started_at)
            self._parent = StoredRun(run_id, None, None, "RUNNING", "", started_at)
            return
        runs.sort(key=lambda run: (run.run_id not in parents, run.started_at, run.run_id))
        self._parent, *extras = runs
        for extra in extras:
            self._store.delete(extra.run_id)
        if self._is_running and not self._parent.is_running:
            self._store.log(self._parent.run_id, (), {COMPLETE: ""})
            self._store.set_status(self._parent.run_id, "RUNNING", None)

    def _settle(self, trial_id: str, runs: list[StoredRun], mine: str | None) -> None:
        """Keep one run of a trial, by preference this process's own or a whole one, and end it if nobody writes it."""
        runs.sort(key=lambda run: (run.run_id != mine, not run.complete, run.started_at, run.run_id))
        kept, *extras = runs
        self._children[trial_id] = kept.run_id
        if not kept.is_running and kept.complete:
            self._complete[trial_id] = kept.complete
        assert self._parent is not None
        try:
            if kept.parent != self._parent.run_id:  # somebody has deleted the sweep's run, and it was made again
                self._store.move(kept.run_id, self._parent.run_id)
            for extra in extras:
                self._store.delete(extra.run_id)
            if kept.is_running and kept.run_id != mine:
                self._store.log(kept.run_id, (), {"state": "cut off"})
                self._store.set_status(kept.run_id, "KILLED", _now())
        except Refused:  # this trial is written again and tells of the refusal then; no other is concerned
            self._complete.pop(trial_id, None)


def _now() -> int:
    return round(time.time() * 1000)
