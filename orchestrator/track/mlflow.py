"""The MLflow tracker: one parent run per sweep, one child per trial, written behind the sweep's back."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import final

from orchestrator.home import HistoryRow, SweepRecord, TrialConfig, TrialResult
from orchestrator.track.address import Address
from orchestrator.track.base import ReadTrial, SweepStatus, Tracker
from orchestrator.track.mlflow_store import MlflowStore, reach
from orchestrator.track.outbox import Outbox, SweepEnd
from orchestrator.track.store import RunStore
from orchestrator.track.writer import Writer

CLOSE_SECONDS = 30.0


@final
class MlflowTracker(Tracker):
    """Writes to MLflow from one background thread; see :class:`Tracker` for the calls.

    All sweeps of a store share the experiment ``teleport``: MLflow compares runs within an experiment, and what
    is to be compared here are arms and architectures across sweeps. Tags tell the sweeps apart.

    Args:
        tracking_uri: of a SQLite file, a PostgreSQL database or an MLflow server.
        artifact_root: where artifacts go if the store is a database; None: beside a SQLite file, and for
            PostgreSQL nowhere, since the current directory is no place for them.
        close_seconds: how long :meth:`close` waits at most.
        store: instead of MLflow's own client on that URI, for example one that fails on purpose.

    Raises:
        UserError: the URI is none of these.
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        artifact_root: Path | None = None,
        close_seconds: float = CLOSE_SECONDS,
        store: RunStore | None = None,
    ) -> None:
        self._address = Address.parse(tracking_uri)
        self._store = MlflowStore(self._address, artifact_root) if store is None else store
        self._close_seconds = close_seconds
        self._outbox = Outbox()
        self._writer: Writer | None = None
        self._name = ""

    def begin_sweep(self, record: SweepRecord, read_trial: ReadTrial | None = None) -> None:
        """Begin a sweep or go on with one; see :meth:`Tracker.begin_sweep`."""
        wanted = [trial.trial_id for trial in record.trials if trial.result is not None]
        self._start(record, wanted, read_trial, is_running=True)

    def begin_trial(self, config: TrialConfig) -> None:
        """Say that a trial runs; see :meth:`Tracker.begin_trial`."""
        self._begun().owe(config.trial_id)
        self._outbox.begin(config)

    def log_history(self, trial_id: str, rows: Sequence[HistoryRow]) -> None:
        """Add rows; see :meth:`Tracker.log_history`."""
        self._outbox.add(trial_id, rows)

    def end_trial(self, result: TrialResult) -> None:
        """Say how a trial ended; see :meth:`Tracker.end_trial`."""
        self._outbox.end(result)

    def end_sweep(self, status: SweepStatus, *, description: str = "", artifacts: Sequence[Path] = ()) -> None:
        """Say how the sweep ended; see :meth:`Tracker.end_sweep`."""
        self._outbox.end_sweep(SweepEnd(status, description, tuple(artifacts), round(time.time() * 1000)))

    def sync(
        self,
        record: SweepRecord,
        status: SweepStatus | None = None,
        *,
        description: str = "",
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Bring the store level with the files; see :meth:`Tracker.sync`."""
        trials = {trial.trial_id: trial for trial in record.trials}
        ends = [trial.result.ended_at for trial in record.trials if trial.result is not None]
        ended_at = round(max(ends, default=record.provenance.started_at) * 1000)
        self._outbox.end_sweep(SweepEnd(status, description, tuple(artifacts), ended_at))
        writer = self._start(record, list(trials), trials.__getitem__, is_running=False)
        writer.finish(None)

    def close(self) -> int:
        """Send what is left for a bounded time; see :meth:`Tracker.close`.

        Returns:
            How many runs the store has not got whole.
        """
        if self._writer is None:
            return 0
        self._writer.finish(self._close_seconds)
        num_owed = self._writer.num_owed
        if num_owed:
            logging.getLogger(f"teleport.{self._name}").warning(
                "tracking: %s has not got %d runs of this sweep; `teleport track sync %s` sends them",
                self._address.shown,
                num_owed,
                self._name,
            )
        return num_owed

    def _start(
        self, record: SweepRecord, wanted: list[str], read_trial: ReadTrial | None, *, is_running: bool
    ) -> Writer:
        assert self._writer is None, "a tracker hears of one sweep"
        self._name = record.spec.name
        self._writer = Writer(
            self._store,
            self._address.shown,
            record,
            self._outbox,
            wanted=wanted,
            read_trial=read_trial,
            is_running=is_running,
        )
        return self._writer

    def _begun(self) -> Writer:
        assert self._writer is not None, "begin_sweep comes first"
        return self._writer


__all__ = ["MlflowTracker", "reach"]
