"""A Ray cluster of several raylets on this machine, any of which can be killed."""

from __future__ import annotations

import os
import signal
from typing import Any, final

import psutil

WORKER = "ray::ImplicitFunc"


@final
class Nodes:
    """A head that runs nothing, and nodes of one logical CPU and one logical GPU each.

    Args:
        num_nodes: besides the head.
    """

    def __init__(self, num_nodes: int) -> None:
        from ray.cluster_utils import Cluster

        on_terminate = signal.getsignal(signal.SIGTERM)
        self._cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._nodes: dict[int, Any] = {}
        for _ in range(num_nodes):
            self.add()
        # Ray's own handler, put in place by each node, drains for half a minute before it lets go.
        signal.signal(signal.SIGTERM, on_terminate)

    @property
    def address(self) -> str:
        """What ``teleport run --address`` is given."""
        return str(self._cluster.address)

    @property
    def raylets(self) -> list[int]:
        """Process ids of the raylets that may be killed, the oldest first."""
        return list(self._nodes)

    def workers(self) -> list[int]:
        """Process ids of the workers that hold a trial, in order."""
        found = [child.pid for raylet in self._nodes for child in _children(raylet) if _name(child).startswith(WORKER)]
        return sorted(found)

    def add(self) -> None:
        """Let a fresh node join."""
        node = self._cluster.add_node(num_cpus=1, num_gpus=1)
        [raylet] = node.all_processes["raylet"]
        self._nodes[raylet.process.pid] = node

    def kill(self, raylet: int) -> None:
        """Kill a raylet as the kernel would; its workers find out by themselves."""
        node = self._nodes.pop(raylet)
        os.kill(raylet, signal.SIGKILL)
        node.all_processes["raylet"][0].process.wait()

    def close(self) -> None:
        """End every process of the cluster."""
        self._cluster.shutdown()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
