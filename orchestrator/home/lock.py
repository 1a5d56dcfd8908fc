"""The lock that keeps a second driver from a sweep; the operating system drops it when its owner dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from orchestrator.errors import SweepLocked
from orchestrator.home.paths import SweepPaths

# A process that asks whether a sweep is driven holds the lock for an instant, and must not pass for a driver.
_TRIES = 20
_PAUSE = 0.01


@contextmanager
def locked(paths: SweepPaths) -> Iterator[None]:
    """Hold the sweep's lock for as long as the block lasts.

    Raises:
        SweepLocked: another process holds the lock; the message names it.
    """
    paths.root.mkdir(parents=True, exist_ok=True)
    with open(paths.lock, "a+", encoding="utf-8") as file:
        if not _take(file):
            raise SweepLocked(f"sweep {paths.name!r} is being run by {owner(paths)}; wait for it, or stop it first")
        paths.remove_parts()
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        yield


def is_locked(paths: SweepPaths) -> bool:
    """Tell whether a process drives the sweep now."""
    if not paths.lock.is_file():
        return False
    with open(paths.lock, encoding="utf-8") as file:
        return not _flock(file, fcntl.LOCK_SH)


def held_since(paths: SweepPaths) -> float | None:
    """Tell since when a process has driven the sweep, in Unix time; None if none drives it now."""
    return paths.lock.stat().st_mtime if is_locked(paths) else None


def _take(file: IO[str]) -> bool:
    for _ in range(_TRIES):
        if _flock(file, fcntl.LOCK_EX):
            return True
        time.sleep(_PAUSE)
    return False


def _flock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def owner(paths: SweepPaths) -> str:
    """Name the process that holds the lock, or held it last."""
    try:
        who = json.loads(paths.lock.read_text(encoding="utf-8"))
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
