"""Events of one kind on their way to their hook: one call at a time, and what comes meanwhile is one call too."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import final

from orchestrator.spec import HookOptions
from orchestrator.sweep.hooks.calls import Event, call, name_of
from orchestrator.track import redact

# A killed process ends at once, unless a dead disk holds it.
SECONDS_TO_DIE = 1.0


@final
class Queue:
    """A thread that calls one hook; at most one event waits, into which later ones are merged.

    Args:
        event: whose hook it is.
        hook: what is called.
        merge: makes one event of the one that waits and a later one.
        timeout: seconds of one call.
        pause: seconds between two calls, in which events gather.
        log: is told of what goes wrong.
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
    ) -> None:
        self._name = printable(f"hook {event} ({name_of(hook)})")
        self._hook = hook
        self._merge = merge
        self._timeout = timeout
        self._pause = pause
        self._log = log
        self._changed = threading.Condition()
        self._waiting: Event | None = None
        self._is_closing = False
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)

    def put(self, event: Event) -> None:
        """Take in an event; returns at once."""
        with self._changed:
            self._waiting = event if self._waiting is None else self._merge(self._waiting, event)
            if self._thread.ident is None:
                self._thread.start()
            self._changed.notify()

    def finish(self) -> None:
        """Let it end after what is waiting, without a pause; returns at once."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait for its end, and give up what is left then.

        Args:
            seconds: to wait at most.
        """
        if self._thread.ident is None:
            return
        self._thread.join(seconds)
        self._given_up.set()
        self._thread.join(SECONDS_TO_DIE)

    def _run(self) -> None:
        next_at = 0.0
        while (event := self._next(next_at)) is not None:
            trouble = call(self._hook, event, self._timeout, self._given_up)
            next_at = time.monotonic() + self._pause
            if trouble:
                self._log.warning("%s: %s", self._name, printable(redact(trouble)))

    def _next(self, not_before: float) -> Event | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._is_closing)
            if self._waiting is not None:
                self._changed.wait_for(lambda: self._is_closing, not_before - time.monotonic())
            event, self._waiting = self._waiting, None
            return event


def printable(text: str) -> str:
    """Make a text one that a log can hold: what a hook is called, or says, need be none."""
    return text.encode(errors="backslashreplace").decode()
