"""What a tracker is: it shows a sweep's files in a store where people browse runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, final

from orchestrator.home import SweepPaths

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(ABC):
    """Shows one sweep in a store of runs: one run for the sweep, and under it one run for each trial.

    A tracker reads everything from the sweep's files and is told nothing else. Whatever it has failed to send can
    be sent again later, and sending it twice changes nothing. So the sweep never waits for a tracker and never
    fails because of it. Either :meth:`follow` and then :meth:`close` are called, or :meth:`sync` alone.
    """

    @abstractmethod
    def follow(self, paths: SweepPaths) -> None:
        """Begin to show a sweep that this process runs; returns at once and raises nothing because of the store.

        Runs that an earlier process left RUNNING are ended, and what the store missed is sent.
        """

    @abstractmethod
    def close(self, status: RunStatus, *, description: str = "", artifacts: Sequence[Path] = ()) -> int:
        """End the sweep's run, and send what is left for a bounded time.

        Trials without a result become KILLED, since nothing runs them any more.

        Args:
            status: how the sweep ended; KILLED where it was interrupted.
            description: Markdown for the sweep's run; the store's own text stays where this is empty.
            artifacts: files and directories to store with it; those that do not exist are left out.

        Returns:
            How many runs, the sweep's own among them, are missing or incomplete in the store.
        """

    @abstractmethod
    def sync(
        self,
        paths: SweepPaths,
        status: RunStatus | None = None,
        *,
        description: str = "",
        artifacts: Sequence[Path] = (),
    ) -> int:
        """Send everything that the store lacks of a sweep that does not run, for as long as the store answers.

        Args:
            paths: of the sweep.
            status: how it ended; without it the store's status stays, and RUNNING becomes KILLED.
            description: as in :meth:`close`.
            artifacts: as in :meth:`close`.

        Returns:
            How many runs, the sweep's own among them, are missing or incomplete in the store.
        """


@final
class NoTracker(Tracker):
    """Shows nothing anywhere."""

    def follow(self, paths: SweepPaths) -> None:
        """Do nothing."""

    def close(self, status: RunStatus, *, description: str = "", artifacts: Sequence[Path] = ()) -> int:
        """Do nothing; nothing is missing."""
        return 0

    def sync(
        self,
        paths: SweepPaths,
        status: RunStatus | None = None,
        *,
        description: str = "",
        artifacts: Sequence[Path] = (),
    ) -> int:
        """Do nothing; nothing is missing."""
        return 0
