"""The interface between what runs and where it runs.

A :class:`TrialSource` knows which trial comes next, and takes in what becomes of it; a :class:`Launcher` knows how to
run a trial. All launchers are tested by the same suite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

from orchestrator.home import HistoryRow, TrialConfig, TrialResult


class TrialSource(ABC):
    """Hands out trials and takes in their rows and results; it is called from one thread."""

    @abstractmethod
    def propose(self) -> TrialConfig | None:
        """Hand out the next trial, which then starts at once; None if no trial can start now.

        If nothing runs and the source is not exhausted, there always is one.
        """

    @property
    @abstractmethod
    def is_exhausted(self) -> bool:
        """Whether no further trial will come, whatever becomes of those that run."""

    @abstractmethod
    def check(self) -> None:
        """Stop the launch if the user has asked to; launchers call it several times a second if they can.

        Raises:
            KeyboardInterrupt: the user asked to stop.
        """

    @abstractmethod
    def checkpoint_of(self, config: TrialConfig) -> bytes | None:
        """Look up the last checkpoint of a trial that is about to start; without one it begins at its beginning."""

    @abstractmethod
    def on_started(self, config: TrialConfig) -> None:
        """Take note that a trial runs now."""

    @abstractmethod
    def on_history(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> bool:
        """Take in new rows of a running trial's curves, in order.

        Returns:
            Whether the trial goes on. If not, the source has ended it, and the launcher stops it and reports no more
            of it.
        """

    @property
    @abstractmethod
    def overdue(self) -> Collection[str]:
        """Ids of running trials whose time is up.

        A launcher kills their workers if it can; these trials then end as they do whenever a worker dies.
        """

    @abstractmethod
    def on_checkpoint(self, config: TrialConfig, data: bytes) -> None:
        """Take in a running trial's checkpoint, after the rows that come before it."""

    @abstractmethod
    def on_output(self, config: TrialConfig, text: str) -> None:
        """Take in what a running trial has printed since the last call."""

    @abstractmethod
    def on_ended(self, config: TrialConfig, result: TrialResult) -> None:
        """Take in how a trial ended; called once for each trial that was started and not ended by the source."""


class Launcher(ABC):
    """Runs the trials of a source until it is exhausted."""

    @abstractmethod
    def prepared(self) -> AbstractContextManager[None]:
        """Make the machines ready, before anything of a sweep is on file; :meth:`launch` does so itself if need be.

        Returns:
            A block to launch in. Entering it raises Infeasible if no machine can ever hold what a trial asks for, and
            ClusterUnreachable if there is no machine.
        """

    @abstractmethod
    def launch(self, source: TrialSource) -> None:
        """Run each trial of a source; one that crashes, or whose worker dies, ends as FAIL and the others go on.

        Raises:
            KeyboardInterrupt: the user asked to stop; the trials that ran are stopped and their workers are gone.
            Infeasible: no machine can ever hold what a trial asks for.
        """
