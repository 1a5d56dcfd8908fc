"""Real servers, for as long as a block lasts."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.cli.servers import Server
from tests.waiting import PATIENCE


@contextmanager
def answering(server: Server, path: str = "/health", patience: float = PATIENCE) -> Iterator[str]:
    """Start a server, and stop it at the end of the block.

    Args:
        server: as ``teleport ui`` or ``teleport dashboard`` makes it.
        path: that it answers once it is up.
        patience: seconds to wait for that.

    Yields:
        Its URL, once it answers there.
    """
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
