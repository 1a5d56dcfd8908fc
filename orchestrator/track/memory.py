"""A tracker that keeps its runs in memory: the plain reading of the seam, which every other is tested against."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from orchestrator.home import HistoryRow, SweepRecord, TrialConfig, TrialResult
from orchestrator.track.base import ReadTrial, SweepStatus, Tracker
from orchestrator.track.points import Point, history_points
from orchestrator.track.projection import (
    COMPLETE,
    NOTE,
    Ending,
    Facts,
    ending_of,
    fingerprint,
    sweep_facts,
    sweep_id,
    trial_ending,
    trial_facts,
)
from orchestrator.track.text import note


@final
@dataclass
class Run:
    """One run of the store.

    Args:
        name: for people.
        params: what it was asked to do.
        tags: what to find it by.
        status: RUNNING until it ended.
        points: its metrics; the same point twice is one.
        artifacts: names of what is stored with it.
        ended_at: Unix time in milliseconds.
    """

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    status: str = "RUNNING"
    points: set[Point] = field(default_factory=set)
    artifacts: list[str] = field(default_factory=list)
    ended_at: int | None = None

    @classmethod
    def begun(cls, facts: Facts) -> Run:
        """Make a run that has just begun."""
        return cls(facts.name, dict(facts.params), dict(facts.tags))

    def end(self, ending: Ending) -> None:
        """End it."""
        self.points.update(ending.points)
        self.tags.update(ending.tags)
        self.status = ending.status
        self.ended_at = round(time.time() * 1000) if ending.ended_at is None else ending.ended_at


Key = tuple[str, str | None]


@final
class MemoryTracker(Tracker):
    """Keeps runs in a dict: by sweep id and trial id, the sweep's own run under None.

    Args:
        runs: the store; shared between trackers, it stands for one that outlives a driver.
    """

    def __init__(self, runs: dict[Key, Run] | None = None) -> None:
        self.runs: dict[Key, Run] = {} if runs is None else runs
        self._record: SweepRecord | None = None
        self._configs: dict[str, TrialConfig] = {}

    def begin_sweep(self, record: SweepRecord, read_trial: ReadTrial | None = None) -> None:
        """Begin a sweep; see :meth:`Tracker.begin_sweep`."""
        self._record = record
        self._adopt(record)
        for trial in record.trials:
            if trial.result is not None and read_trial is not None and not self._has(trial.trial_id, trial.result):
                self._replay(record, read_trial, trial.trial_id)

    def begin_trial(self, config: TrialConfig) -> None:
        """Say that a trial runs; see :meth:`Tracker.begin_trial`."""
        assert self._record is not None, "begin_sweep comes first"
        self._configs[config.trial_id] = config
        self.runs[self._key(config.trial_id)] = Run.begun(trial_facts(self._record, config))

    def log_history(self, trial_id: str, rows: Sequence[HistoryRow]) -> None:
        """Add rows; see :meth:`Tracker.log_history`."""
        assert self._record is not None, "begin_sweep comes first"
        points = history_points(self._record, self._configs[trial_id], rows)
        self.runs[self._key(trial_id)].points.update(points)

    def end_trial(self, result: TrialResult) -> None:
        """Say how a trial ended; see :meth:`Tracker.end_trial`."""
        assert self._record is not None, "begin_sweep comes first"
        config = self._configs.pop(result.trial_id)
        self.runs[self._key(result.trial_id)].end(trial_ending(self._record, config, result))

    def end_sweep(self, status: SweepStatus, *, description: str = "", artifacts: Sequence[Path] = ()) -> None:
        """Say how the sweep ended; see :meth:`Tracker.end_sweep`."""
        for trial_id in self._configs:
            self.runs[self._key(trial_id)].end(Ending("KILLED", None, tags={"state": "cut off"}))
        run = self.runs[self._key(None)]
        run.artifacts = [path.name for path in artifacts if path.exists()]
        shown = {NOTE: note(description)} if description else {}
        run.end(Ending(status, None, tags={**shown, COMPLETE: status}))

    def sync(
        self,
        record: SweepRecord,
        status: SweepStatus | None = None,
        *,
        description: str = "",
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Bring the store level with the files; see :meth:`Tracker.sync`."""
        self._record = record
        before = self.runs.get((sweep_id(record), None))
        kept = before.status if before is not None and before.status != "RUNNING" else "KILLED"
        self._adopt(record)
        trials = {trial.trial_id: trial for trial in record.trials}
        for trial in record.trials:
            if not self._has(trial.trial_id, trial.result, len(trial.history)):
                self._replay(record, trials.__getitem__, trial.trial_id)
        self.end_sweep(_status(status or kept), description=description, artifacts=artifacts)

    def close(self) -> int:
        """Say what is missing; see :meth:`Tracker.close`."""
        if self._record is None:
            return 0
        trials = [trial for trial in self._record.trials if trial.result is not None]
        return sum(not self._has(trial.trial_id, trial.result) for trial in trials)

    def _key(self, trial_id: str | None) -> Key:
        assert self._record is not None, "begin_sweep comes first"
        return sweep_id(self._record), trial_id

    def _adopt(self, record: SweepRecord) -> None:
        """Begin or take up the sweep's run, and end what an earlier driver left running."""
        facts = sweep_facts(record)
        run = self.runs.setdefault(self._key(None), Run.begun(facts))
        run.status = "RUNNING"
        run.tags.update({key: value for key, value in facts.tags.items() if key != NOTE})
        for (owner, trial_id), child in self.runs.items():
            if owner == sweep_id(record) and trial_id is not None and child.status == "RUNNING":
                child.end(Ending("KILLED", None, tags={"state": "cut off"}))

    def _has(self, trial_id: str, result: TrialResult | None, num_rows: int = 0) -> bool:
        run = self.runs.get(self._key(trial_id))
        return run is not None and run.tags.get(COMPLETE) == fingerprint(result, num_rows)

    def _replay(self, record: SweepRecord, read_trial: ReadTrial, trial_id: str) -> None:
        trial = read_trial(trial_id)
        run = Run.begun(trial_facts(record, trial.config))
        run.points.update(history_points(record, trial.config, trial.history))
        run.end(ending_of(record, trial))
        self.runs[self._key(trial_id)] = run


def _status(text: str) -> SweepStatus:
    return "FINISHED" if text == "FINISHED" else "FAILED" if text == "FAILED" else "KILLED"
