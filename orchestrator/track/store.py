"""What a ledger asks of a store of runs: eight calls, each of which may block, fail, or fail after it was done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.track.points import Point
from orchestrator.track.projection import Facts
from orchestrator.track.text import redact


class StoreError(Exception):
    """A call to the store failed; credentials are taken out of the reason, since it ends up in logs."""

    def __init__(self, reason: str) -> None:
        super().__init__(redact(reason))


@final
class Unreachable(StoreError):
    """The store does not answer at the moment; the same call may succeed later."""


@final
class Refused(StoreError):
    """The store refuses this, and would refuse it again."""


@final
@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it.

    Args:
        run_id: the store's own id.
        trial_id: of the trial; None for the sweep's own run.
        parent: run id of the sweep's run; None for that run itself.
        status: as the store calls it.
        complete: fingerprint of the ending that the run shows; empty while it is not whole.
        started_at: Unix time in milliseconds.
    """

    run_id: str
    trial_id: str | None
    parent: str | None
    status: str
    complete: str
    started_at: int

    @property
    def is_running(self) -> bool:
        """Whether the run counts as RUNNING."""
        return self.status in ("RUNNING", "SCHEDULED")


class RunStore(ABC):
    """A store of runs, which is used from one thread.

    If the store fails, a method raises :class:`Unreachable` or :class:`Refused` and nothing else.
    """

    @abstractmethod
    def find(self, sweep_id: str) -> list[StoredRun]:
        """Find all runs of a sweep, its own and those of its trials."""

    @abstractmethod
    def create(self, facts: Facts, *, parent: str | None, started_at: int) -> str:
        """Create a run that started at a Unix time in milliseconds, and return its id; see :class:`StoredRun`."""

    @abstractmethod
    def move(self, run_id: str, parent: str) -> None:
        """Put a trial's run under another run of the sweep."""

    @abstractmethod
    def log(self, run_id: str, points: Sequence[Point], tags: Mapping[str, str] | None = None) -> None:
        """Add points and then tags; a second time changes nothing."""

    @abstractmethod
    def set_status(self, run_id: str, status: str, ended_at: int | None) -> None:
        """Set a run's status, and the Unix time in milliseconds at which it ended."""

    @abstractmethod
    def delete(self, run_id: str) -> None:
        """Remove a run from what people see."""

    @abstractmethod
    def attach(self, run_id: str, path: Path) -> None:
        """Store a file, or a directory with all that it holds."""
