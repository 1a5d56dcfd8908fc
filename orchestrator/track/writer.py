"""The background thread that reads what is new in a sweep's files and writes it to a store of runs.

The thread waits for a store that is slow or gone, and keeps no rows in memory meanwhile, since the files have them.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import final

from orchestrator.errors import FileUnreadable
from orchestrator.home import NewRows, ReadUpTo, Stamp, SweepPaths, Tail, Trial, rows_after, without_trials
from orchestrator.track.ledger import Ledger, SweepRunEnd
from orchestrator.track.store import Refused, RunStore, Unreachable

LOOK_SECONDS = 1.0
# Seconds to wait after the first failure in a row, after the second, and so on.
PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)


@final
@dataclass
class _Pending:
    """A trial of which the store lacks something.

    Args:
        started: stamp of its configuration, which is written again at each start of the trial.
        trial: without curves; None until it has been read.
        read: how much of the curves its run holds; None if this process has not begun the run.
        has_failed: whether the last try to write it failed, so that it waits until its files change.
    """

    started: Stamp
    trial: Trial | None = None
    read: ReadUpTo | None = None
    has_failed: bool = False


@final
class Writer:
    """Brings a store level with a sweep's files, in a thread of its own that starts at once.

    Args:
        store: used by this thread alone.
        shown: the store's address for messages, without credentials.
        paths: of the sweep.
        end: how the sweep's run ends; None while the sweep runs, until :meth:`finish` is called.
    """

    def __init__(self, store: RunStore, shown: str, paths: SweepPaths, end: SweepRunEnd | None = None) -> None:
        self._store = store
        self._shown = shown
        self._paths = paths
        self._log = logging.getLogger(f"teleport.{paths.name}")
        self._tail = Tail(paths)
        self._is_running = end is None
        # A trial that was started before this process took the lock does not run, whatever the store shows.
        self._since = paths.lock.stat().st_mtime_ns if paths.lock.is_file() else 0
        self._ledger: Ledger | None = None
        self._is_open = False
        self._pending: dict[str, _Pending] = {}
        self._whole: set[str] = set()
        self._num_failures = 0
        self._last_ended_at = 0.0
        self._end = end
        self._is_end_sent = False
        self._is_abandoned = False
        self._closing = threading.Event()
        if end is not None:
            self._closing.set()
        self._thread = threading.Thread(target=self._run, name="teleport-track", daemon=True)
        self._thread.start()

    def finish(self, end: SweepRunEnd, seconds: float) -> int:
        """Spend so many seconds at most on sending what is left, and count the runs that the store still lacks."""
        self._end = end
        self._closing.set()
        return self.wait(seconds)

    def wait(self, seconds: float | None = None) -> int:
        """Wait until all is sent or the store fails, and count the runs that the store still lacks."""
        self._thread.join(seconds)
        self._is_abandoned = True
        trial_ids = {path.parent.name for path in self._paths.trials.glob("*/config.json")}
        num_missing = len(trial_ids - self._whole) + (not self._is_end_sent)
        if num_missing:
            self._log.warning(
                "tracking: %s has not got %d runs of this sweep; `teleport track sync %s` sends them",
                self._shown,
                num_missing,
                self._paths.arguments,
            )
        return num_missing

    def _run(self) -> None:
        while not self._is_abandoned:
            is_last = self._closing.is_set()
            pause = LOOK_SECONDS
            try:
                if not self._level(is_over=is_last):
                    pause = 0.0
            except Unreachable as error:
                self._num_failures += 1
                if self._num_failures == 1:
                    self._log.warning(
                        "tracking: %s does not answer (%s); trials go on, and what it misses is sent when it is "
                        "back, or by `teleport track sync %s`",
                        self._shown,
                        error,
                        self._paths.arguments,
                    )
            except Exception:  # noqa: BLE001 - the sweep must not notice a fault in this thread
                self._num_failures += 1
                self._log.exception("tracking: could not write to %s", self._shown)
            else:
                if self._num_failures:
                    self._log.info("tracking: %s answers", self._shown)
                self._num_failures = 0
            if is_last:
                return
            if self._num_failures:
                self._is_open = False
                pause = PAUSES[min(self._num_failures, len(PAUSES)) - 1]
            self._closing.wait(pause)

    def _level(self, *, is_over: bool) -> bool:
        """Bring the store level with the files, but stop after a second while the sweep runs.

        If it is over, trials without a result were cut off. Returns whether nothing is left to do.
        """
        ledger = self._opened()
        self._look()
        deadline = math.inf
        # The newest come first, so that running trials are shown however many ended ones the store still lacks.
        for trial_id, pending in sorted(self._pending.items(), key=lambda item: item[1].started, reverse=True):
            if self._is_abandoned:
                return False
            if not is_over and pending.read is None:
                deadline = min(deadline, time.monotonic() + LOOK_SECONDS)
                if time.monotonic() > deadline:
                    return False
            if not pending.has_failed or is_over:
                self._try(trial_id, pending, ledger, is_over=is_over)
        if is_over:
            assert self._end is not None
            self._end_sweep(ledger, self._end)
        return True

    def _opened(self) -> Ledger:
        if self._ledger is None:
            record = without_trials(self._paths)
            self._ledger = Ledger(self._store, record, is_running=self._is_running)
        if not self._is_open:
            live = [trial_id for trial_id, pending in self._pending.items() if pending.read is not None]
            try:
                kept = self._ledger.open(live)
            except Refused as error:
                raise Unreachable(str(error)) from None
            for trial_id in live:
                if trial_id not in kept:
                    self._pending[trial_id].read = None
            self._is_open = True
        return self._ledger

    def _look(self) -> None:
        for trial_id, stamps in self._tail.changes().items():
            self._whole.discard(trial_id)
            known = self._pending.pop(trial_id, None)
            if stamps is not None:
                is_same = known is not None and known.started == stamps.config
                read = known.read if known is not None and is_same else None
                self._pending[trial_id] = _Pending(stamps.config, read=read)

    def _try(self, trial_id: str, pending: _Pending, ledger: Ledger, *, is_over: bool) -> None:
        """Write a trial. If that fails, the fault is told once and the other trials go on."""
        try:
            self._write(trial_id, pending, ledger, is_over=is_over)
        except Unreachable:
            raise
        except Exception as error:  # noqa: BLE001 - a fault in this code must not reach other trials either
            if pending.has_failed:
                pass
            elif isinstance(error, Refused):
                self._log.warning("tracking: %s refused trial %s: %s", self._shown, trial_id, error)
            elif isinstance(error, (OSError, FileUnreadable)):
                self._log.warning("tracking: trial %s cannot be read from the files: %s", trial_id, error)
            else:
                self._log.exception("tracking: could not write trial %s to %s", trial_id, self._shown)
            pending.has_failed = True
            pending.read = None
            self._is_open = False

    def _write(self, trial_id: str, pending: _Pending, ledger: Ledger, *, is_over: bool) -> None:
        """Write the new rows of a trial that runs, or all that is left of one that does not."""
        trial = pending.trial or self._paths.read_trial(trial_id, with_history=False)
        pending.trial = trial
        if trial.result is None and not is_over:
            if pending.started[0] >= self._since:
                new = self._new_rows(trial, pending, ledger)
                if new.rows:
                    ledger.log(trial.config, new.rows)
                pending.read = new.end
            return
        num_rows = self._paths.count_rows(trial_id) if trial.result is None else 0
        if not ledger.has_whole(trial, num_rows):
            ledger.end(trial, self._new_rows(trial, pending, ledger).rows, num_rows)
        if trial.result is not None:
            self._last_ended_at = max(self._last_ended_at, trial.result.ended_at)
        del self._pending[trial_id]
        self._whole.add(trial_id)

    def _new_rows(self, trial: Trial, pending: _Pending, ledger: Ledger) -> NewRows:
        """Read the rows that the trial's run lacks, and first begin the run if there is none of this start."""
        history = self._paths.history(trial.trial_id)
        new = rows_after(history, pending.read or ReadUpTo())
        if pending.read is None or new.is_restart:
            started_at = pending.started[0] // 10**6 if trial.result is None else round(trial.result.started_at * 1000)
            ledger.begin(trial.config, started_at)
            pending.read = ReadUpTo()
        return new

    def _end_sweep(self, ledger: Ledger, end: SweepRunEnd) -> None:
        try:
            ledger.end_sweep(end, self._last_ended_at)
        except Refused as error:
            self._log.warning("tracking: %s refused the sweep's end: %s", self._shown, error)
        else:
            self._is_end_sent = True
