"""What a ledger asks of a store of runs: seven calls, each of which may block, fail, or fail after it was done."""

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
    """A call to the store came to nothing.

    Args:
        reason: why; credentials in it are taken out, for it ends in logs.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(redact(reason))


@final
class Unreachable(StoreError):
    """The store does not answer, or not now; the same call may succeed later."""


@final
class Refused(StoreError):
    """The store will not take this, however often it is sent."""


@final
@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it.

    Args:
        run_id: the store's own id.
        trial_id: whose; None: the sweep's own run.
        parent: run id of the sweep's run; None: it is that.
        is_running: whether it counts as RUNNING.
        status: the store's word for it.
        complete: fingerprint of the ending it holds whole; empty: it is not whole.
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
        """Whether it counts as RUNNING."""
        return self.status in ("RUNNING", "SCHEDULED")


class RunStore(ABC):
    """A store of runs, used from one thread.

    Every method raises :class:`Unreachable` or :class:`Refused` and nothing else because of the store.
    """

    @abstractmethod
    def find(self, sweep_id: str) -> list[StoredRun]:
        """Find every run of a sweep, its own and its trials'."""

    @abstractmethod
    def create(self, facts: Facts, *, parent: str | None, started_at: int) -> str:
        """Create a run.

        Args:
            facts: its name, parameters and tags.
            parent: run id of the sweep's run; None for that run itself.
            started_at: Unix time in milliseconds.

        Returns:
            Its run id.
        """

    @abstractmethod
    def log(self, run_id: str, points: Sequence[Point], tags: Mapping[str, str] | None = None) -> None:
        """Add points, then tags; doing it again changes nothing."""

    @abstractmethod
    def set_status(self, run_id: str, status: str, ended_at: int | None) -> None:
        """Set a run's status and the time it ended, in milliseconds."""

    @abstractmethod
    def delete(self, run_id: str) -> None:
        """Take a run out of sight."""

    @abstractmethod
    def attach(self, run_id: str, path: Path) -> None:
        """Store a file, or a directory with all it holds."""
