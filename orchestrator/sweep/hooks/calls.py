"""One call of a hook: a process that receives the event and is killed when it takes too long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, final
from urllib.parse import urlsplit

from orchestrator.spec import HookOptions
from orchestrator.sweep.hooks import post

Event = Mapping[str, str | int | float]

# How often a hook's state and output are read; a hook that floods its stderr is slowed down by this too.
SECONDS_BETWEEN_LOOKS = 0.02
MAX_TAIL = 2_000


def call(hook: HookOptions, event: Event, timeout: float, given_up: threading.Event, clock: Callable[[], float]) -> str:
    """Call a hook with an event, and wait for the end of the call.

    Args:
        hook: a command or a webhook.
        event: the event, which goes to its standard input and into its environment.
        timeout: seconds after which the hook and all processes that it started are killed.
        given_up: the call is killed when somebody sets this.
        clock: tells the time in seconds.

    Returns:
        A sentence that says what went wrong; empty where nothing did.
    """
    if given_up.is_set():
        return "was not called: the sweep is over and waits no longer"
    try:
        arguments, environment = _process_of(hook, event)
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"cannot be called: {reason}"
    with process:
        return _waited_for(process, json.dumps(dict(event)).encode(), timeout, given_up, clock)


def name_of(hook: HookOptions) -> str:
    """Return a name for the log that holds no secret: the hook's program, environment variable, or host."""
    if hook.command is not None:
        return Path(hook.command[0]).name
    assert hook.webhook is not None
    return hook.webhook if hook.webhook.startswith("$") else f"webhook at {urlsplit(hook.webhook).hostname}"


def _process_of(hook: HookOptions, event: Event) -> tuple[Sequence[str], dict[str, str]]:
    variables = {f"TELEPORT_{key.upper()}": str(value) for key, value in event.items()}
    environment = {**os.environ, **variables}
    if hook.webhook is None:
        return hook.arguments(event), environment
    # Every user of the machine can read a process's arguments, so the URL goes into its environment.
    return [sys.executable, "-I", post.__file__], {**environment, post.VARIABLE: hook.url()}


def _waited_for(
    process: subprocess.Popen[bytes],
    body: bytes,
    timeout: float,
    given_up: threading.Event,
    clock: Callable[[], float],
) -> str:
    assert process.stdin is not None
    assert process.stderr is not None
    # An event is smaller than a pipe, so the write never blocks. A hook may also close the pipe without reading.
    with suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(body)
    tail = _Tail(process.stderr)
    deadline = clock() + timeout
    trouble = ""
    while process.poll() is None and not trouble:
        if given_up.wait(SECONDS_BETWEEN_LOOKS):
            trouble = "was killed: the sweep is over and waits no longer"
        elif clock() >= deadline:
            trouble = f"was killed: no end after {timeout:g} s"
        tail.read()
    if trouble:
        # The process may have ended since the last look.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    elif process.returncode:
        code = process.returncode
        trouble = f"ended with code {code}" if code > 0 else f"was ended by signal {-code}"
    tail.read()
    return f"{trouble}; it wrote: {tail.text}" if trouble and tail.text else trouble


@final
class _Tail:
    """The last characters that a process has written to a stream. Reading never blocks."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._descriptor = stream.fileno()
        os.set_blocking(self._descriptor, False)
        self._tail = b""

    def read(self) -> None:
        """Read what is there, which is at most what a pipe holds."""
        with suppress(BlockingIOError):
            self._tail = (self._tail + os.read(self._descriptor, 1 << 16))[-MAX_TAIL:]

    @property
    def text(self) -> str:
        """The last characters so far."""
        return self._tail.decode("utf-8", "replace").strip()
