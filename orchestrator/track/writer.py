"""The one background thread that writes: in batches, patient with a store that is slow or gone.

What cannot be sent is kept in memory while there is room; beyond that it is forgotten, since the sweep's files
have it, and the trial is written anew from them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import final

from orchestrator.errors import FileUnreadable
from orchestrator.home import SweepRecord, TrialConfig
from orchestrator.track.base import ReadTrial
from orchestrator.track.ledger import Ledger
from orchestrator.track.outbox import Outbox, Parcel, SweepEnd
from orchestrator.track.store import Refused, RunStore, Unreachable

PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)


@final
class Writer:
    """Sends what an outbox holds to a store, in a thread of its own, which starts at once.

    Args:
        store: to send to; only this thread uses it.
        shown: the store's address in messages, without credentials.
        record: the sweep as it was on file when it began.
        outbox: what to send.
        wanted: ids of trials in the record that the store should have whole.
        read_trial: reads from the files what must be sent again; None: it waits for a sync.
        is_running: whether the sweep runs now.
    """

    def __init__(
        self,
        store: RunStore,
        shown: str,
        record: SweepRecord,
        outbox: Outbox,
        *,
        wanted: Iterable[str],
        read_trial: ReadTrial | None,
        is_running: bool,
    ) -> None:
        self._ledger = Ledger(store, record, is_running=is_running)
        self._shown = shown
        self._name = record.spec.name
        self._log = logging.getLogger(f"teleport.{self._name}")
        self._outbox = outbox
        self._read_trial = read_trial
        self._trials = {trial.trial_id: trial for trial in record.trials}
        self._missed = dict.fromkeys(wanted)
        self._owed = set(self._missed)
        self._owed_lock = threading.Lock()
        self._is_end_owed = True
        self._live: dict[str, TrialConfig] = {}
        self._broken: set[str] = set()
        self._end: SweepEnd | None = None
        self._is_open = False
        self._is_abandoned = False
        self._num_failures = 0
        self._thread = threading.Thread(target=self._run, name="teleport-track", daemon=True)
        self._thread.start()

    @property
    def num_owed(self) -> int:
        """How many runs the store has not got whole, the sweep's own among them."""
        with self._owed_lock:
            return len(self._owed) + self._is_end_owed

    def owe(self, trial_id: str) -> None:
        """Count a trial as owed until its end is in the store."""
        with self._owed_lock:
            self._owed.add(trial_id)

    def finish(self, seconds: float | None) -> None:
        """Send what is left, and stop.

        Args:
            seconds: how long to wait at most; None: as long as the store answers.
        """
        self._outbox.close()
        self._thread.join(seconds)
        self._is_abandoned = True

    def _run(self) -> None:
        while not self._is_done:
            is_last_try = self._outbox.is_closing
            parcels, end = self._outbox.take(at_once=self._has_work)
            self._end = end or self._end
            try:
                self._deliver(parcels)
            except Unreachable as error:
                self._outbox.put_back(parcels)
                self._is_open = False
                self._say_down(str(error))
            except Exception:  # noqa: BLE001 - whatever it is, the sweep must not notice
                # A fault of ours: the thread goes on, and the files restore what these parcels held.
                self._log.exception("tracking: could not write to %s", self._shown)
                self._forget(parcels)
                self._is_open = False
                self._num_failures += 1
            else:
                self._say_up()
                continue
            if is_last_try:
                return
            self._outbox.pause(PAUSES[min(self._num_failures, len(PAUSES)) - 1])

    @property
    def _has_work(self) -> bool:
        """Whether there is something to do besides the parcels."""
        return not self._is_open or self._end is not None or self._can_replay

    @property
    def _can_replay(self) -> bool:
        return bool(self._missed) and self._read_trial is not None

    @property
    def _is_done(self) -> bool:
        if self._is_abandoned:
            return True
        return self._outbox.is_closing and self._outbox.is_empty and not self._has_work

    def _deliver(self, parcels: dict[str, Parcel]) -> None:
        """Send parcels, taking out each that was sent; then the sweep's end; then one trial from the files."""
        if not self._is_open:
            self._open()
        for trial_id in list(parcels):
            if self._is_abandoned:
                raise Unreachable("the time to send it is over")
            self._send(trial_id, parcels[trial_id])
            del parcels[trial_id]
        if self._end is not None:
            self._send_end(self._end)
            self._end = None
        elif self._can_replay:
            self._replay(next(iter(self._missed)))

    def _open(self) -> None:
        try:
            self._ledger.open(self._live.keys())
        except Refused as error:
            raise Unreachable(str(error)) from None
        self._is_open = True
        for trial_id in [trial_id for trial_id in self._missed if trial_id in self._trials]:
            trial = self._trials[trial_id]
            if not self._ledger.lacks(trial_id, trial.result, len(trial.history)):
                del self._missed[trial_id]
                self._settle(trial_id)

    def _send(self, trial_id: str, parcel: Parcel) -> None:
        try:
            if parcel.config is not None:
                self._missed.pop(trial_id, None)
                self._broken.discard(trial_id)
                self._live[trial_id] = parcel.config
                self._ledger.begin(parcel.config, parcel.started_at)
                parcel.config = None
            if trial_id in self._broken or parcel.is_short or not self._ledger.has(trial_id):
                self._break(trial_id, parcel)
                return
            config = self._live[trial_id]
            if parcel.result is None:
                self._ledger.log(config, parcel.rows)
                return
            self._ledger.end(config, parcel.rows, parcel.result)
        except Refused as error:
            self._log.warning("tracking: %s refused trial %s: %s", self._shown, trial_id, error)
            self._break(trial_id, parcel)
        else:
            del self._live[trial_id]
            self._settle(trial_id)

    def _break(self, trial_id: str, parcel: Parcel) -> None:
        """Give up on sending a trial as it goes; once it has ended, it is written from the files."""
        self._broken.add(trial_id)
        if parcel.result is not None:
            self._live.pop(trial_id, None)
            self._missed[trial_id] = None

    def _forget(self, parcels: dict[str, Parcel]) -> None:
        for trial_id, parcel in parcels.items():
            self._break(trial_id, parcel)

    def _replay(self, trial_id: str) -> None:
        assert self._read_trial is not None
        try:
            self._ledger.replay(self._read_trial(trial_id))
        except Refused as error:
            self._log.warning("tracking: %s refused trial %s: %s", self._shown, trial_id, error)
        except (OSError, FileUnreadable) as error:
            self._log.warning("tracking: trial %s cannot be read from the files: %s", trial_id, error)
        else:
            self._settle(trial_id)
        del self._missed[trial_id]

    def _send_end(self, end: SweepEnd) -> None:
        try:
            for trial_id in list(self._live):
                if self._ledger.has(trial_id):
                    self._ledger.cut_off(trial_id)
                del self._live[trial_id]
                self._settle(trial_id)
            self._ledger.end_sweep(end)
        except Refused as error:
            self._log.warning("tracking: %s refused the sweep's end: %s", self._shown, error)
        else:
            self._is_end_owed = False

    def _settle(self, trial_id: str) -> None:
        with self._owed_lock:
            self._owed.discard(trial_id)

    def _say_down(self, reason: str) -> None:
        """Say once that the store does not answer, and only that it does again when it does."""
        self._num_failures += 1
        if self._num_failures == 1:
            self._log.warning(
                "tracking: %s does not answer (%s); trials go on, and what it misses is sent when it is back, "
                "or by `teleport track sync %s`",
                self._shown,
                reason,
                self._name,
            )

    def _say_up(self) -> None:
        if self._num_failures:
            self._log.info("tracking: %s answers", self._shown)
        self._num_failures = 0
