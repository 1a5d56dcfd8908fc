"""Waiting for what has to come, for as long as a busy machine may take."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 120.0


def wait_until(is_so: Callable[[], object], what: str = "what was waited for", seconds: float = PATIENCE) -> None:
    """Return as soon as a condition holds; the limit is for a test that is broken, not for a machine that is slow."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.005)
