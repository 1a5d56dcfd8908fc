"""A store of runs in memory that fails when it is told to: before a call is done, or after it was."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from orchestrator.track import MlflowTracker
from orchestrator.track.points import Point
from orchestrator.track.projection import COMPLETE, SWEEP_ID, TRIAL_ID, Facts
from orchestrator.track.store import Refused, RunStore, StoredRun, Unreachable
from tests.waiting import PATIENCE

Fault = Literal["well", "before", "after", "refused"]


@dataclass
class Stored:
    """A run of the store."""

    facts: Facts
    parent: str | None
    started_at: int
    status: str = "RUNNING"
    points: list[Point] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)


class FaultyStore(RunStore):
    """Keeps runs in a dict; asks ``plan`` before every call what is to become of it.

    Args:
        plan: a fault for each call in turn; beyond its end, or without one, all is well.
    """

    def __init__(self, plan: Sequence[Fault] = ()) -> None:
        self.runs: dict[str, Stored] = {}
        self.plan: Iterator[Fault] = iter(plan)
        self.is_down = False
        self.refuses: Callable[[str], bool] = lambda run_id: False
        self.num_calls = 0
        self.failed = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self._ids = itertools.count()

    def find(self, sweep_id: str) -> list[StoredRun]:
        self._begin()
        runs = [(run_id, run) for run_id, run in self.runs.items() if run.tags[SWEEP_ID] == sweep_id]
        found = [
            StoredRun(i, r.tags.get(TRIAL_ID), r.parent, r.status, r.tags.get(COMPLETE, ""), r.started_at)
            for i, r in runs
        ]
        self._end()
        return found

    def create(self, facts: Facts, *, parent: str | None, started_at: int) -> str:
        self._begin()
        assert parent is None or parent in self.runs, "a child of nothing"
        run_id = f"run{next(self._ids)}"
        self.runs[run_id] = Stored(facts, parent, started_at, tags=dict(facts.tags))
        self._end()
        return run_id

    def move(self, run_id: str, parent: str) -> None:
        self._begin(run_id)
        self.runs[run_id].parent = parent
        self._end()

    def log(self, run_id: str, points: Sequence[Point], tags: Mapping[str, str] | None = None) -> None:
        self._begin(run_id)
        run = self.runs[run_id]
        run.points += [point for point in points if point not in run.points]
        run.tags.update(tags or {})
        self._end()

    def set_status(self, run_id: str, status: str, ended_at: int | None) -> None:
        self._begin(run_id)
        self.runs[run_id].status = status
        self._end()

    def delete(self, run_id: str) -> None:
        self._begin(run_id)
        del self.runs[run_id]
        self._end()

    def attach(self, run_id: str, path: Path) -> None:
        self._begin(run_id)
        self.runs[run_id].files.append(path.name)
        self._end()

    def _begin(self, run_id: str = "") -> None:
        self.gate.wait(PATIENCE)
        self.num_calls += 1
        self._fault: Fault = "before" if self.is_down else next(self.plan, "well")
        if self._fault == "before":
            self.failed.set()
            raise Unreachable("no answer from http://me:hunter2@nowhere")
        if self._fault == "refused" or self.refuses(run_id):
            raise Refused("not this")

    def _end(self) -> None:
        if self._fault == "after":
            self.failed.set()
            raise Unreachable("the answer was lost")


def in_memory(store: FaultyStore) -> MlflowTracker:
    """Make a tracker that writes to a store in this process."""
    return MlflowTracker("http://nowhere", store=store, close_seconds=PATIENCE)
