"""Servers that run for as long as a block lasts."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.cli.servers import Server
from tests.waiting import PATIENCE


@contextmanager
def answering(server: Server, path: str = "/health", patience: float = PATIENCE) -> Iterator[str]:
    """Start a server, wait until it answers on a path, and yield its URL; stop it at the end of the block."""
    with server.running() as process:
        deadline = time.monotonic() + patience
        while True:
            try:
                urllib.request.urlopen(server.url + path, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server never answered"
                time.sleep(0.2)
        yield server.url
