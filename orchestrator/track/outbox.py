"""What waits to be sent: filled by the sweep in microseconds, emptied by the writer, bounded, never blocking."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from orchestrator.home import HistoryRow, TrialConfig, TrialResult

FLUSH_SECONDS = 1.0
FLUSH_ROWS = 1_000
MAX_ROWS = 50_000


@final
@dataclass
class Parcel:
    """What there is to say about one trial.

    Args:
        config: of a trial to begin; None: it was begun before.
        started_at: Unix time in milliseconds, of one to begin.
        rows: to add to its curves.
        result: how it ended; None: it runs.
        is_short: rows were dropped, since the outbox was full; the files have them.
    """

    config: TrialConfig | None = None
    started_at: int = 0
    rows: list[HistoryRow] = field(default_factory=list)
    result: TrialResult | None = None
    is_short: bool = False


@final
@dataclass(frozen=True)
class SweepEnd:
    """How the sweep ended.

    Args:
        status: FINISHED, FAILED or KILLED; None: as the store has it.
        description: Markdown; empty: as the store has it.
        artifacts: files and directories to store.
        ended_at: Unix time in milliseconds.
    """

    status: str | None
    description: str
    artifacts: tuple[Path, ...]
    ended_at: int


@final
class Outbox:
    """Parcels by trial, and the sweep's end; any thread may call anything."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._parcels: dict[str, Parcel] = {}
        self._num_rows = 0
        self._due_at: float | None = None
        self._end: SweepEnd | None = None
        self._is_closing = False

    def begin(self, config: TrialConfig) -> None:
        """Begin a trial; what waited of an earlier attempt at it is dropped."""
        with self._changed:
            old = self._parcels.pop(config.trial_id, None)
            self._num_rows -= len(old.rows) if old is not None else 0
            self._parcels[config.trial_id] = Parcel(config, round(time.time() * 1000))
            self._wake()

    def add(self, trial_id: str, rows: Sequence[HistoryRow]) -> None:
        """Add rows to a trial's curves."""
        with self._changed:
            parcel = self._parcels.setdefault(trial_id, Parcel())
            self._fill(parcel, rows)
            self._wake()

    def end(self, result: TrialResult) -> None:
        """End a trial."""
        with self._changed:
            self._parcels.setdefault(result.trial_id, Parcel()).result = result
            self._wake()

    def end_sweep(self, end: SweepEnd) -> None:
        """End the sweep."""
        with self._changed:
            self._end = end
            self._wake()

    def close(self) -> None:
        """Say that nothing more comes, and wake whoever waits."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    @property
    def is_closing(self) -> bool:
        """Whether nothing more comes."""
        with self._changed:
            return self._is_closing

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        with self._changed:
            return not self._parcels and self._end is None

    def take(self, *, at_once: bool = False) -> tuple[dict[str, Parcel], SweepEnd | None]:
        """Take all that waits, once it is worth sending: a second after its first part, or when it is much.

        Args:
            at_once: take what there is without waiting.

        Returns:
            The parcels and the sweep's end.
        """
        with self._changed:
            while not (at_once or self._is_closing or self._is_worth_sending()):
                left = None if self._due_at is None else max(0.0, self._due_at - time.monotonic())
                self._changed.wait(left)
            parcels, end = self._parcels, self._end
            self._parcels, self._end, self._num_rows, self._due_at = {}, None, 0, None
            return parcels, end

    def put_back(self, parcels: dict[str, Parcel]) -> None:
        """Put back what could not be sent, before what has come since."""
        with self._changed:
            newer, self._parcels, self._num_rows = self._parcels, {}, 0
            for trial_id in {**parcels, **newer}:
                parcel = _joined(parcels.get(trial_id), newer.get(trial_id))
                rows, parcel.rows = parcel.rows, []
                self._parcels[trial_id] = parcel
                self._fill(parcel, rows)

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing, seconds)

    def _is_worth_sending(self) -> bool:
        if self._num_rows >= FLUSH_ROWS or self._end is not None:
            return True
        return self._due_at is not None and time.monotonic() >= self._due_at

    def _fill(self, parcel: Parcel, rows: Sequence[HistoryRow]) -> None:
        if self._num_rows + len(rows) > MAX_ROWS:
            self._num_rows -= len(parcel.rows)
            parcel.rows = []
            parcel.is_short = True
        if not parcel.is_short:
            parcel.rows.extend(rows)
            self._num_rows += len(rows)

    def _wake(self) -> None:
        """Note when the first part came; wake the writer where it must look at the clock anew."""
        if self._due_at is None:
            self._due_at = time.monotonic() + FLUSH_SECONDS
            self._changed.notify_all()
        elif self._is_worth_sending():
            self._changed.notify_all()


def _joined(older: Parcel | None, newer: Parcel | None) -> Parcel:
    if older is None or (newer is not None and newer.config is not None):
        assert newer is not None
        return newer
    if newer is None:
        return older
    is_short = older.is_short or newer.is_short
    rows = [*older.rows, *newer.rows]
    return Parcel(older.config, older.started_at, rows, newer.result or older.result, is_short)
