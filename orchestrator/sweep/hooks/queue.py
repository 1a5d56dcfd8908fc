"""The queue of one hook: it makes one call at a time, and merges the events that come meanwhile into the next call."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import final

from orchestrator.spec import HookOptions
from orchestrator.sweep.hooks.calls import SECONDS_BETWEEN_LOOKS, Event, call, name_of
from orchestrator.track import redact

# A killed process ends at once, unless a dead disk blocks it.
SECONDS_TO_DIE = 1.0


@final
class Queue:
    """A thread that calls one hook. At most one event waits; later events are merged into it.

    Args:
        event: the kind of event that the hook is for.
        hook: the command or the webhook.
        merge: makes one event of the waiting one and a later one.
        timeout: seconds that one call may take.
        pause: seconds between two calls.
        log: receives a warning for each call that fails.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        event: str,
        hook: HookOptions,
        merge: Callable[[Event, Event], Event],
        *,
        timeout: float,
        pause: float,
        log: logging.Logger,
        clock: Callable[[], float],
    ) -> None:
        self._name = printable(f"hook {event} ({name_of(hook)})")
        self._hook = hook
        self._merge = merge
        self._timeout = timeout
        self._pause = pause
        self._log = log
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: Event | None = None
        self._is_closing = False
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)

    def put(self, event: Event) -> None:
        """Add an event, without waiting for its call."""
        with self._changed:
            self._waiting = event if self._waiting is None else self._merge(self._waiting, event)
            if self._thread.ident is None:
                self._thread.start()
            self._changed.notify()

    def finish(self) -> None:
        """Let the thread call the hook for a waiting event without a pause, and then end; do not wait for it."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()

    def join(self, deadline: float) -> None:
        """Wait for the thread until the clock shows the deadline; then give up its calls."""
        if self._thread.ident is None:
            return
        while self._thread.is_alive() and self._clock() < deadline:
            self._thread.join(SECONDS_BETWEEN_LOOKS)
        self._given_up.set()
        self._thread.join(SECONDS_TO_DIE)

    def _run(self) -> None:
        next_at = 0.0
        while (event := self._next(next_at)) is not None:
            trouble = call(self._hook, event, self._timeout, self._given_up, self._clock)
            next_at = self._clock() + self._pause
            if trouble:
                self._log.warning("%s: %s", self._name, printable(redact(trouble)))

    def _next(self, not_before: float) -> Event | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._is_closing)
            if self._waiting is not None:
                self._changed.wait_for(lambda: self._is_closing, not_before - self._clock())
            event, self._waiting = self._waiting, None
            return event


def printable(text: str) -> str:
    """Escape what UTF-8 cannot encode; the name and the output of a hook may hold such characters."""
    return text.encode(errors="backslashreplace").decode()
