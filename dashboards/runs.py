"""Finds trials' runs in MLflow without ever making a page wait for it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import final

from dashboards.settings import Settings
from orchestrator.errors import UserError
from orchestrator.home import SweepRecord
from orchestrator.track import RunLink, page_of, run_link

AGAIN_SECONDS = 20.0


@final
class RunFinder:
    """Asks an MLflow store in a thread of its own, and remembers what it said.

    Args:
        tracking_uri: address of the store.
        ui: where ``teleport ui`` shows a store that is no server.
    """

    def __init__(self, tracking_uri: str, ui: str) -> None:
        self._tracking_uri = tracking_uri
        self._ui = ui
        self._thread = ThreadPoolExecutor(1, "mlflow")
        self._mutex = threading.Lock()
        self._asked: dict[str, tuple[float, Future[RunLink]]] = {}

    def find(self, record: SweepRecord, trial_id: str, *, is_ended: bool) -> RunLink | None:
        """Look for a trial's run; None until the store answers. That of a trial that has ended is asked for once."""
        with self._mutex:
            asked_at, answer = self._asked.get(trial_id, (0.0, None))
            is_final = answer is not None and answer.done() and is_ended and not answer.result().note
            is_due = time.monotonic() - asked_at > AGAIN_SECONDS
            if answer is None or (answer.done() and is_due and not is_final):
                known = answer.result() if answer is not None else None
                answer = self._thread.submit(self._ask, record, trial_id)
                self._asked[trial_id] = (time.monotonic(), answer)
                return known
        return answer.result() if answer.done() else None

    def _ask(self, record: SweepRecord, trial_id: str) -> RunLink:
        try:
            return run_link(self._tracking_uri, page_of(self._tracking_uri, self._ui), record, trial_id)
        except UserError as error:
            return RunLink("", str(error))


@lru_cache
def finder_of(settings: Settings) -> RunFinder:
    """Give the finder of a store: one in the whole process."""
    return RunFinder(settings.tracking_uri, settings.ui)
