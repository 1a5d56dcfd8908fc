"""Runs trials somewhere: on this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.launch.base import Launcher, TrialSource
from orchestrator.launch.cluster import Node, nodes_of, num_concurrent, shortfall, this_machine
from orchestrator.launch.inline import InlineLauncher
from orchestrator.launch.ray import RayLauncher
from orchestrator.spec import Share

# NAME -> what makes a launcher from an address, the shares that trials may ask for, and the seconds to wait for nodes.
LAUNCHERS: dict[str, Callable[[str | None, Sequence[Share], float], Launcher]] = {
    "ray": RayLauncher,
    "inline": lambda address, shares, wait: InlineLauncher(),
}

__all__ = [
    "LAUNCHERS",
    "InlineLauncher",
    "Launcher",
    "Node",
    "RayLauncher",
    "TrialSource",
    "nodes_of",
    "num_concurrent",
    "shortfall",
    "this_machine",
]
