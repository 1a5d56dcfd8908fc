"""Hooks: commands and webhooks that a sweep calls when a trial fails and when a run ends; they never disturb it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, final

from orchestrator.home import SweepPaths, TrialConfig, TrialResult
from orchestrator.spec import HooksOptions
from orchestrator.sweep.hooks.calls import Event
from orchestrator.sweep.hooks.queue import Queue
from orchestrator.track import clean

VERSION = 1
SECONDS_BETWEEN_CALLS = 10.0
# An event must fit into a pipe and into an environment variable.
MAX_MESSAGE = 2_000

SweepEnding = Literal["finished", "ended early", "failed", "interrupted", "stopped on an error"]


@final
class Hooks:
    """The hooks of one sweep. Each hook is called in its own thread.

    ``docs/sweeps.md`` documents the keys of an event. The keys have a version: new ones may come, none changes.

    Args:
        options: the hooks of the spec.
        paths: where the sweep lies.
        log: receives a warning for each hook that fails.
        pause: seconds between two calls of one hook; events in between are merged into one call.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        options: HooksOptions,
        paths: SweepPaths,
        log: logging.Logger,
        *,
        pause: float = SECONDS_BETWEEN_CALLS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = paths
        self._timeout = options.timeout.seconds
        self._clock = clock
        self._queues = {
            event: Queue(event, hook, _merged, timeout=self._timeout, pause=pause, log=log, clock=clock)
            for event, hook in options.by_event.items()
        }

    def trial_failed(self, config: TrialConfig, result: TrialResult) -> None:
        """Queue the event that a trial ended as FAIL."""
        queue = self._queues.get("trial_failed")
        if queue is None or result.failure is None:
            return
        queue.put(
            {
                **self._common("trial_failed", result.failure.message),
                "trial": f"{config.study} {config.phase} {config.place}",
                "trial_id": config.trial_id,
                "study": config.study,
                "phase": config.phase,
                "kind": result.failure.kind,
                "num_failed": 1,
            }
        )

    def sweep_finished(self, status: SweepEnding, *, message: str = "", report: Path | None = None) -> None:
        """Queue the event that a run of the sweep ended, with its reason and its report if it has them."""
        queue = self._queues.get("sweep_finished")
        if queue is not None:
            told = message or f"sweep {self._paths.name}: {status}"
            where = "" if report is None else str(report)
            queue.put({**self._common("sweep_finished", told), "status": status, "report": where})

    def close(self) -> None:
        """Wait for the calls under way, for at most one timeout in all; then kill what is left and log it."""
        deadline = self._clock() + self._timeout
        for queue in self._queues.values():
            queue.finish()
        for queue in self._queues.values():
            queue.join(deadline)

    def _common(self, event: str, message: str) -> dict[str, str | int | float]:
        return {
            "version": VERSION,
            "event": event,
            "time": time.time(),
            "sweep": self._paths.name,
            "home": str(self._paths.home),
            "message": clean(message, MAX_MESSAGE),
        }


def _merged(waiting: Event, later: Event) -> Event:
    """Keep the later event, with the number of failures of both."""
    if "num_failed" not in later:
        return later
    return {**later, "num_failed": int(waiting["num_failed"]) + int(later["num_failed"])}


__all__ = ["Hooks", "SweepEnding"]
