"""One driver per sweep: a lock that its owner's death releases."""

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

# Whoever looks whether a sweep is driven holds its lock for an instant, and must not be taken for a driver.
_TRIES = 20
_PAUSE = 0.01


@contextmanager
def locked(paths: SweepPaths) -> Iterator[None]:
    """Hold the sweep for as long as the block lasts.

    The operating system drops the lock when its owner dies, so a stale one cannot be.

    Args:
        paths: of the sweep.

    Yields:
        Nothing.

    Raises:
        SweepLocked: another process holds it; the message says which.
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
    """Tell whether some process drives the sweep now."""
    if not paths.lock.is_file():
        return False
    with open(paths.lock, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def held_since(paths: SweepPaths) -> float | None:
    """Tell since when some process has driven the sweep.

    Args:
        paths: of the sweep.

    Returns:
        Unix time in seconds; None where none drives it now.
    """
    return paths.lock.stat().st_mtime if is_locked(paths) else None


def _take(file: IO[str]) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        else:
            return True
    return False


def owner(paths: SweepPaths) -> str:
    """Say who holds, or last held, the lock."""
    try:
        who = json.loads(paths.lock.read_text(encoding="utf-8"))
        return f"process {who['pid']} on {who['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
