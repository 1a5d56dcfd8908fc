"""Clusters of several raylets on this machine, for tests that need a real one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.waiting import PATIENCE

SMALL = {"include_dashboard": False, "object_store_memory": 80 * 2**20}


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_listening(port: int) -> bool:
    """Tell whether somebody listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except OSError:
        return False
    return True


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


@contextmanager
def joining(address: str, **resources: float) -> Iterator[threading.Event]:
    """Have a node of four cores and these resources join a cluster once the event is set, as a process of its own.

    Ray starts no node from a thread that is not the main one, and that one runs the sweep.

    Yields:
        The event; the node goes with the block.
    """
    is_wanted, started = threading.Event(), list[subprocess.Popen[bytes]]()
    node = ["--num-cpus=4", f"--object-store-memory={SMALL['object_store_memory']}", "--block"]
    program = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={address}", *node]

    def start() -> None:
        is_wanted.wait()
        command = [*program, f"--resources={json.dumps(resources)}"]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    thread = threading.Thread(target=start)
    thread.start()
    try:
        yield is_wanted
    finally:
        is_wanted.set()
        thread.join()
        started[0].terminate()
        started[0].wait(PATIENCE)
