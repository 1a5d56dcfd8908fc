"""One call of a hook: a process that is given the event, is given up after a while, and never leaves a mark here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, final
from urllib.parse import urlsplit

from orchestrator.spec import HookOptions
from orchestrator.sweep.hooks import post

Event = Mapping[str, str | int | float]

# Between two looks at what a hook has written; it also keeps one that floods its stderr from taking this process.
SECONDS_BETWEEN_LOOKS = 0.02
MAX_TAIL = 2_000


def call(hook: HookOptions, event: Event, timeout: float, given_up: threading.Event) -> str:
    """Tell a hook of an event, and wait for it.

    Args:
        hook: a command or a webhook.
        event: what it is told.
        timeout: seconds after which it is killed, with all that it started.
        given_up: set where nobody waits any longer; it is killed then too.

    Returns:
        What went wrong, in a sentence; empty where all went well.
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
        return _waited_for(process, json.dumps(dict(event)).encode(), timeout, given_up)


def name_of(hook: HookOptions) -> str:
    """Name a hook in a log, without its secrets: its program, its variable, or its host."""
    if hook.command is not None:
        return Path(hook.command[0]).name
    assert hook.webhook is not None
    return hook.webhook if hook.webhook.startswith("$") else f"webhook at {urlsplit(hook.webhook).hostname}"


def _process_of(hook: HookOptions, event: Event) -> tuple[Sequence[str], dict[str, str]]:
    variables = {f"TELEPORT_{key.upper()}": str(value) for key, value in event.items()}
    environment = {**os.environ, **variables}
    if hook.webhook is None:
        return hook.arguments(event), environment
    # In the environment and not among the arguments, which every user of the machine can read.
    return [sys.executable, "-I", post.__file__], {**environment, post.VARIABLE: hook.url()}


def _waited_for(process: subprocess.Popen[bytes], body: bytes, timeout: float, given_up: threading.Event) -> str:
    assert process.stdin is not None
    assert process.stderr is not None
    # An event is smaller than a pipe, so this blocks on no reader; one that does not read is none of our business.
    with suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(body)
    tail = _Tail(process.stderr)
    deadline = time.monotonic() + timeout
    trouble = ""
    while process.poll() is None and not trouble:
        if given_up.wait(SECONDS_BETWEEN_LOOKS):
            trouble = "was killed: the sweep is over and waits no longer"
        elif time.monotonic() >= deadline:
            trouble = f"was killed: no end after {timeout:g} s"
        tail.read()
    if trouble:
        # Gone already, where it ended between the two.
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
    """The end of what a process writes.

    Args:
        stream: of the process; never waited for.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._descriptor = stream.fileno()
        os.set_blocking(self._descriptor, False)
        self._tail = b""

    def read(self) -> None:
        """Take what is there: at most as much as a pipe holds."""
        with suppress(BlockingIOError):
            self._tail = (self._tail + os.read(self._descriptor, 1 << 16))[-MAX_TAIL:]

    @property
    def text(self) -> str:
        """What was kept."""
        return self._tail.decode("utf-8", "replace").strip()
