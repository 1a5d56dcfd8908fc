"""Clusters of several raylets on this machine, for tests that need a real one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SMALL = {"include_dashboard": False, "object_store_memory": 80 * 2**20}


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def cluster(**head: Any) -> Iterator[Any]:
    """Start a cluster whose head node has these resources; it ends with the block.

    Yields:
        Ray's own ``Cluster``: ``address``, ``add_node``, ``remove_node``.
    """
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={**SMALL, **head})
    try:
        yield started
    finally:
        started.shutdown()
