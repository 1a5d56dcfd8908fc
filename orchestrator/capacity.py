"""What machines hold of what trials are given: whether a trial fits at all, and how many run at once.

Ray places a trial on one node, so the totals of a cluster say little: two nodes with two GPUs each cannot hold a
trial that is given four. Reading nodes from a cluster is :mod:`orchestrator.launch.cluster`'s part; nothing here
imports Ray.
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.spec import Share

GB = 1e9
# Ray counts in ten-thousandths; 1 / 0.1 must be ten.
_SLACK = 1e-6


@final
@dataclass(frozen=True)
class Node:
    """One machine.

    Args:
        name: for people.
        resources: Ray's names and amounts, memory in bytes.
    """

    name: str
    resources: Mapping[str, float]

    def num_fitting(self, share: Share) -> int:
        """Count the trials of this share that an empty node holds at once."""
        wanted = request(share)
        return min(math.floor(self.resources.get(kind, 0.0) / amount + _SLACK) for kind, amount in wanted.items())


def request(share: Share) -> dict[str, float]:
    """Say in Ray's words what a trial is given.

    Args:
        share: as the spec has it.

    Returns:
        Ray's names and amounts, memory in bytes; nothing that is zero.
    """
    amounts = {"CPU": share.cpu, "GPU": share.gpu, "memory": share.memory * GB, **share.custom}
    return {kind: amount for kind, amount in amounts.items() if amount}


def this_machine() -> Node:
    """Look at this machine without importing torch or Ray."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    num_gpus = len(glob.glob("/proc/driver/nvidia/gpus/*"))
    return Node("this machine", {"CPU": float(os.cpu_count() or 1), "GPU": float(num_gpus), "memory": float(memory)})


def num_concurrent(nodes: Sequence[Node], share: Share) -> int:
    """Count how many trials of one share run at once.

    Args:
        nodes: that are alive.
        share: of a trial.

    Returns:
        Their number on all nodes together; 0 where no node can hold one.
    """
    return sum(node.num_fitting(share) for node in nodes)


def shortfall(nodes: Sequence[Node], share: Share) -> str:
    """Say what the nodes lack where none of them can ever hold a trial.

    Args:
        nodes: that are alive.
        share: of a trial.

    Returns:
        What is asked, and what the node that comes closest has, resource by resource; empty where a node can hold it.
    """
    if num_concurrent(nodes, share):
        return ""
    wanted = request(share)
    asked = f"a trial asks for {_listed(wanted, wanted)} on one node"
    if not nodes:
        return f"{asked}; there is no node"
    closest = max(nodes, key=lambda node: _closeness(node, wanted))
    which = closest.name if len(nodes) == 1 else f"{closest.name}, the closest of {len(nodes)} nodes,"
    return f"{asked}; {which} has {_listed(closest.resources, wanted)}{''.join(_hints(nodes, wanted))}"


def _closeness(node: Node, wanted: Mapping[str, float]) -> tuple[int, float]:
    shares = [min(1.0, node.resources.get(kind, 0.0) / amount) for kind, amount in wanted.items()]
    return sum(share >= 1 for share in shares), sum(shares)


def _hints(nodes: Sequence[Node], wanted: Mapping[str, float]) -> Iterator[str]:
    for kind in wanted:
        if kind not in {"CPU", "GPU", "memory"} and not any(kind in node.resources for node in nodes):
            yield f"; no node has any {kind} (ray start --resources='{{\"{kind}\": 1}}')"


def _listed(amounts: Mapping[str, float], kinds: Mapping[str, float]) -> str:
    return ", ".join(_amount(kind, amounts.get(kind, 0.0)) for kind in kinds)


def _amount(kind: str, amount: float) -> str:
    return f"{round(amount / GB, 1):g} GB memory" if kind == "memory" else f"{amount:g} {kind}"
