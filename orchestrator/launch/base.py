"""The seam between what is to run and where it runs.

A :class:`TrialSource` knows what comes next and what became of it; a :class:`Launcher` knows how to run it.
Neither knows the other's insides, so a launcher is some sixty lines, and every launcher runs the same suite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

from orchestrator.home import HistoryRow, TrialConfig, TrialResult


class TrialSource(ABC):
    """Hands out trials and takes in what they say; called from one thread only."""

    @abstractmethod
    def propose(self) -> TrialConfig | None:
        """Hand out the next trial.

        Returns:
            A trial to run at once; None where there is none now. While nothing runs and the source is not
            exhausted there always is one.
        """

    @property
    @abstractmethod
    def is_exhausted(self) -> bool:
        """Whether no trial will ever come again, whatever becomes of those that run."""

    @abstractmethod
    def check(self) -> None:
        """Stop the launch where the user has asked to.

        Launchers call it between events, several times a second where they can: signals wait until then.

        Raises:
            KeyboardInterrupt: the user asked to stop.
        """

    @abstractmethod
    def checkpoint_of(self, config: TrialConfig) -> bytes | None:
        """Look up what a trial is to go on from, before it is started.

        Args:
            config: of a trial that :meth:`propose` has handed out.

        Returns:
            What :meth:`on_checkpoint` took in last, of this launch or an earlier one; None: it begins anew.
        """

    @abstractmethod
    def on_started(self, config: TrialConfig) -> None:
        """Take note that a trial runs."""

    @abstractmethod
    def on_history(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> bool:
        """Take in new rows of a running trial's curves, in order.

        Returns:
            Whether the trial goes on. Where it does not, the source has ended it: the launcher stops it and says no
            more of it.
        """

    @property
    @abstractmethod
    def overdue(self) -> Collection[str]:
        """Ids of running trials whose time is up though they say nothing.

        A launcher that can kills their workers, which ends them as any worker's death does.
        """

    @abstractmethod
    def on_checkpoint(self, config: TrialConfig, data: bytes) -> None:
        """Take in what a running trial could go on from; the rows before it have come before it."""

    @abstractmethod
    def on_ended(self, config: TrialConfig, result: TrialResult) -> None:
        """Take in how a trial ended; called once for every trial that was started and not ended by the source."""


class Launcher(ABC):
    """Runs what a source hands out until it is exhausted."""

    @abstractmethod
    def prepared(self) -> AbstractContextManager[None]:
        """Make ready before anything of a sweep is on file; a launch that finds nothing ready does so itself.

        Returns:
            A block to launch in. Entering it raises Infeasible where no machine of this launcher can ever hold what a
            trial asks for, and ClusterUnreachable where there is no machine.
        """

    @abstractmethod
    def launch(self, source: TrialSource) -> None:
        """Run every trial of a source.

        A trial that crashes, or whose worker dies, ends as FAIL and the others go on.

        Args:
            source: of the trials.

        Raises:
            KeyboardInterrupt: the user asked to stop; what ran is stopped, and its workers are gone.
            Infeasible: no machine of this launcher can ever hold what a trial asks for.
        """
