"""The nonlinearities that several architectures share."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

# 0.1 is the slope of the method's predecessors (symmetry teleportation, arXiv 2205.10637), not torch's 0.01.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}
