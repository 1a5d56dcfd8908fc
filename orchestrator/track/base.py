"""The interface of a tracker, which shows a sweep's files in a store where people browse runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, final

from orchestrator.home import SweepPaths

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
NOTHING: Mapping[str, float] = MappingProxyType({})


class Tracker(ABC):
    """Shows one sweep in a store of runs: one run for the sweep, and under it one run for each trial.

    A tracker reads everything from the sweep's files. What it fails to send can be sent later, and sending it twice
    changes nothing. So a sweep neither waits for its tracker nor fails because of it. A process that runs the sweep
    calls :meth:`follow` and then :meth:`close`; any other calls :meth:`sync`.
    """

    @abstractmethod
    def follow(self, paths: SweepPaths) -> None:
        """Begin to show a sweep that this process runs, without waiting for the store or raising because of it.

        Runs that an earlier process left RUNNING are ended, and what the store missed is sent.
        """

    @abstractmethod
    def close(
        self,
        status: RunStatus,
        *,
        description: str = "",
        artifacts: Sequence[Path] = (),
        metrics: Mapping[str, float] = NOTHING,
    ) -> int:
        """Spend a bounded time on sending what is left, and end the sweep's run.

        Trials without a result become KILLED, since nothing runs them any more.

        Args:
            status: how the sweep ended; KILLED if it was interrupted.
            description: Markdown for the sweep's run; an empty one leaves the store's text as it is.
            artifacts: files and directories to store with the sweep's run; those that do not exist are left out.
            metrics: numbers for the sweep's run by name, so that people can sort sweeps by them; those that are not
                finite are left out.

        Returns:
            How many runs, counting the sweep's own, are missing or incomplete in the store.
        """

    @abstractmethod
    def sync(
        self,
        paths: SweepPaths,
        status: RunStatus | None = None,
        *,
        description: str = "",
        artifacts: Sequence[Path] = (),
        metrics: Mapping[str, float] = NOTHING,
    ) -> int:
        """Send all that the store lacks of a sweep that does not run, and count as :meth:`close` does.

        Without a status the sweep's run keeps the one that it has in the store, but RUNNING becomes KILLED.
        """


@final
class NoTracker(Tracker):
    """Shows nothing anywhere."""

    def follow(self, paths: SweepPaths) -> None:
        """Do nothing."""

    def close(
        self,
        status: RunStatus,
        *,
        description: str = "",
        artifacts: Sequence[Path] = (),
        metrics: Mapping[str, float] = NOTHING,
    ) -> int:
        """Do nothing; nothing is missing."""
        return 0

    def sync(
        self,
        paths: SweepPaths,
        status: RunStatus | None = None,
        *,
        description: str = "",
        artifacts: Sequence[Path] = (),
        metrics: Mapping[str, float] = NOTHING,
    ) -> int:
        """Do nothing; nothing is missing."""
        return 0
