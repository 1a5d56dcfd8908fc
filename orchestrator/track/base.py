"""The seam between a sweep and the store where people browse its runs.

The sweep's own files are the truth and a tracker is a projection of them: whatever a tracker loses, it can be
told again from the files, and telling it twice changes nothing. So a tracker may lag, lose its store or miss
trials, and the sweep never waits for it and never fails because of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from orchestrator.home import HistoryRow, SweepRecord, Trial, TrialConfig, TrialResult

SweepStatus = Literal["FINISHED", "FAILED", "KILLED"]
ReadTrial = Callable[[str], Trial]


class Tracker(ABC):
    """Hears of one sweep, from one thread; :meth:`sync` and :meth:`close` alone wait for the store.

    The order of calls is ``begin_sweep``, then trials, then ``end_sweep``, then ``close``; or ``sync``, then
    ``close``. No call raises because of the store.
    """

    @abstractmethod
    def begin_sweep(self, record: SweepRecord, read_trial: ReadTrial | None = None) -> None:
        """Begin a sweep, or go on with one: its run is adopted, and no orphan of an earlier driver stays RUNNING.

        Args:
            record: the sweep as it is on file; its trials need no curves.
            read_trial: reads a trial with its curves from the files by its id, from any thread; with it, what
                the store missed is sent again as soon as it can be, without it only by :meth:`sync`.
        """

    @abstractmethod
    def begin_trial(self, config: TrialConfig) -> None:
        """Say that a trial runs; what an earlier attempt at it left in the store is replaced."""

    @abstractmethod
    def log_history(self, trial_id: str, rows: Sequence[HistoryRow]) -> None:
        """Add rows to the curves of a trial that runs."""

    @abstractmethod
    def end_trial(self, result: TrialResult) -> None:
        """Say how a trial that runs ended."""

    @abstractmethod
    def end_sweep(self, status: SweepStatus, *, description: str = "", artifacts: Sequence[Path] = ()) -> None:
        """Say how the sweep ended; trials that still run were cut off.

        Args:
            status: KILLED where it was interrupted.
            description: Markdown to show on the sweep's run, for example the verdicts.
            artifacts: files and directories to store with it; those that do not exist are left out.
        """

    @abstractmethod
    def sync(
        self,
        record: SweepRecord,
        status: SweepStatus | None = None,
        *,
        description: str = "",
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Bring the store level with the files, and wait until it is, or until it no longer answers.

        Args:
            record: the sweep as it is on file, with curves; no trial of it runs.
            status: how the sweep ended; None: as the store has it, and KILLED where the store has it running.
            description: as in :meth:`end_sweep`; empty keeps what the store has.
            artifacts: as in :meth:`end_sweep`.
        """

    @abstractmethod
    def close(self) -> int:
        """Send what is left, for a bounded time.

        Returns:
            How many runs, the sweep's own among them, the store has not got whole: 0 is all.
        """
