"""Tells the world what happens to a sweep, without ever hurting or delaying it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Literal, final

from orchestrator.home import SweepPaths, TrialConfig, TrialResult
from orchestrator.spec import HooksOptions
from orchestrator.sweep.hooks.calls import Event
from orchestrator.sweep.hooks.queue import Queue
from orchestrator.track import clean

VERSION = 1
SECONDS_BETWEEN_CALLS = 10.0
# The event and a message must fit into a pipe and into an environment variable.
MAX_MESSAGE = 2_000

SweepEnding = Literal["finished", "ended early", "failed", "interrupted", "stopped on an error"]


@final
class Hooks:
    """The hooks of one sweep, each called in a thread of its own.

    What an event says is documented in ``docs/sweeps.md`` and versioned: keys are added, never changed.

    Args:
        options: which hooks there are.
        paths: of the sweep.
        log: is told of hooks that fail.
        pause: seconds between two calls of one hook; what comes meanwhile is one call.
    """

    def __init__(
        self, options: HooksOptions, paths: SweepPaths, log: logging.Logger, *, pause: float = SECONDS_BETWEEN_CALLS
    ) -> None:
        self._paths = paths
        self._timeout = options.timeout.seconds
        self._queues = {
            event: Queue(event, hook, _merged, timeout=self._timeout, pause=pause, log=log)
            for event, hook in options.by_event.items()
        }

    def trial_failed(self, config: TrialConfig, result: TrialResult) -> None:
        """Tell that a trial ended as FAIL; returns at once.

        Args:
            config: of the trial.
            result: with its failure.
        """
        queue = self._queues.get("trial_failed")
        if queue is None or result.failure is None:
            return
        which = f"#{config.number}" if config.phase == "search" else f"seed {config.seeds[0]}"
        queue.put(
            {
                **self._common("trial_failed", result.failure.message),
                "trial": f"{config.study} {config.phase} {which}",
                "trial_id": config.trial_id,
                "study": config.study,
                "phase": config.phase,
                "kind": result.failure.kind,
                "num_failed": 1,
            }
        )

    def sweep_finished(self, status: SweepEnding, *, message: str = "", report: Path | None = None) -> None:
        """Tell that a run of the sweep is over; returns at once.

        Args:
            status: in which way.
            message: why, where there is something to say.
            report: the page, where there is one.
        """
        queue = self._queues.get("sweep_finished")
        if queue is not None:
            told = message or f"sweep {self._paths.name}: {status}"
            where = "" if report is None else str(report)
            queue.put({**self._common("sweep_finished", told), "status": status, "report": where})

    def close(self) -> None:
        """Wait for what is on its way, at most the timeout in all; what is left then is killed and told in the log."""
        deadline = time.monotonic() + self._timeout
        for queue in self._queues.values():
            queue.finish()
        for queue in self._queues.values():
            queue.join(max(0.0, deadline - time.monotonic()))

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
    """The later event; failures add up."""
    if "num_failed" not in later:
        return later
    return {**later, "num_failed": int(waiting["num_failed"]) + int(later["num_failed"])}


__all__ = ["Hooks", "SweepEnding"]
