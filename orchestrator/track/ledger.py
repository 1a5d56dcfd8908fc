"""Exactly once: which run of the store stands for which trial, whatever was sent, lost or half done before.

A run is whole when it bears the fingerprint of its trial's ending, which is the last thing written to it. Every
other run is half-written: it is continued by the driver that began it, and replaced by any other.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import final

from orchestrator.home import HistoryRow, SweepRecord, Trial, TrialConfig, TrialResult
from orchestrator.track.outbox import SweepEnd
from orchestrator.track.points import history_points
from orchestrator.track.projection import (
    COMPLETE,
    NOTE,
    Ending,
    ending_of,
    fingerprint,
    sweep_facts,
    sweep_id,
    trial_facts,
)
from orchestrator.track.store import RunStore, StoredRun
from orchestrator.track.text import note


@final
class Ledger:
    """Keeps one sweep's runs in a store.

    Every method but ``has`` and ``lacks`` raises what the store raises; after an :class:`Unreachable` it is not
    known what was done, so :meth:`open` comes before anything else.

    Args:
        store: of the runs.
        record: the sweep as it was on file when it began.
        is_running: whether the sweep runs now, and its run is to say so.
    """

    def __init__(self, store: RunStore, record: SweepRecord, *, is_running: bool) -> None:
        self._store = store
        self._record = record
        self._is_running = is_running
        self._parent: StoredRun | None = None
        self._children: dict[str, str] = {}
        self._complete: dict[str, str] = {}

    def open(self, live: Collection[str]) -> None:
        """Adopt or create the sweep's run, learn what the store has, and end what nobody writes any more.

        Args:
            live: ids of the trials that this driver runs.
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

    def has(self, trial_id: str) -> bool:
        """Tell whether a trial's run is there to be continued."""
        return trial_id in self._children

    def lacks(self, trial_id: str, result: TrialResult | None, num_rows: int = 0) -> bool:
        """Tell whether the store has not got a trial whole; see :func:`fingerprint`."""
        return self._complete.get(trial_id) != fingerprint(result, num_rows)

    def begin(self, config: TrialConfig, started_at: int) -> None:
        """Begin a trial's run, in place of any that was there.

        Args:
            config: what runs.
            started_at: Unix time in milliseconds.
        """
        assert self._parent is not None, "open comes first"
        self._discard(config.trial_id)
        facts = trial_facts(self._record, config)
        run_id = self._store.create(facts, parent=self._parent.run_id, started_at=started_at)
        self._children[config.trial_id] = run_id

    def log(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> None:
        """Add rows to a trial's run."""
        points = history_points(self._record, config, rows)
        self._store.log(self._children[config.trial_id], points)

    def end(self, config: TrialConfig, rows: Sequence[HistoryRow], result: TrialResult) -> None:
        """Add the last rows to a trial's run and end it."""
        self._finish(Trial(config=config, result=result, history=tuple(rows)))

    def cut_off(self, trial_id: str) -> None:
        """End the run of a trial that was cut off; it is not whole, since the trial will run again."""
        run_id = self._children[trial_id]
        self._store.log(run_id, (), {"state": "cut off"})
        self._store.set_status(run_id, "KILLED", _now())

    def replay(self, trial: Trial) -> None:
        """Write a trial's run from the files, in place of any that was there."""
        started_at = _now() if trial.result is None else round(trial.result.started_at * 1000)
        self.begin(trial.config, started_at)
        self._finish(trial)

    def end_sweep(self, end: SweepEnd) -> None:
        """End the sweep's run, with what there is to show."""
        assert self._parent is not None, "open comes first"
        run_id = self._parent.run_id
        if end.status is not None or self._parent.is_running:
            self._store.set_status(run_id, end.status or "KILLED", end.ended_at)
        if end.description:
            self._store.log(run_id, (), {NOTE: note(end.description)})
        for path in end.artifacts:
            if path.exists():
                self._store.attach(run_id, path)
        self._store.log(run_id, (), {COMPLETE: end.status or "as before"})

    def _adopt(self, runs: list[StoredRun], parents: set[str | None]) -> None:
        """Take up the sweep's run; of two, which a lost answer can leave, the one that has children."""
        facts = sweep_facts(self._record)
        if not runs:
            started_at = round(self._record.provenance.started_at * 1000)
            run_id = self._store.create(facts, parent=None, started_at=started_at)
            self._parent = StoredRun(run_id, None, None, "RUNNING", "", started_at)
            return
        runs.sort(key=lambda run: (run.run_id not in parents, run.started_at, run.run_id))
        for extra in runs[1:]:
            self._store.delete(extra.run_id)
        self._parent = runs[0]
        if self._is_running and not self._parent.is_running:
            self._store.log(self._parent.run_id, (), {COMPLETE: ""})
            self._store.set_status(self._parent.run_id, "RUNNING", None)

    def _settle(self, trial_id: str, runs: list[StoredRun], mine: str | None) -> None:
        """Keep one run of a trial, the one that is written now or a whole one, and leave none RUNNING unwritten."""
        runs.sort(key=lambda run: (run.run_id != mine, not run.complete, run.started_at, run.run_id))
        kept, *extras = runs
        for extra in extras:
            self._store.delete(extra.run_id)
        if kept.is_running and kept.run_id != mine:
            self._store.log(kept.run_id, (), {"state": "cut off"})
            self._store.set_status(kept.run_id, "KILLED", _now())
        self._children[trial_id] = kept.run_id
        if not kept.is_running and kept.complete:
            self._complete[trial_id] = kept.complete

    def _discard(self, trial_id: str) -> None:
        run_id = self._children.get(trial_id)
        if run_id is not None:
            self._store.delete(run_id)
            del self._children[trial_id]
            self._complete.pop(trial_id, None)

    def _finish(self, trial: Trial) -> None:
        """Status first, fingerprint last: a run that bears it is whole."""
        ending: Ending = ending_of(self._record, trial)
        run_id = self._children[trial.trial_id]
        points = history_points(self._record, trial.config, trial.history)
        ended_at = _now() if ending.ended_at is None else ending.ended_at
        self._store.set_status(run_id, ending.status, ended_at)
        self._store.log(run_id, [*points, *ending.points], ending.tags)
        self._complete[trial.trial_id] = ending.tags[COMPLETE]


def _now() -> int:
    return round(time.time() * 1000)
