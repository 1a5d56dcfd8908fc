"""Convolutions of 3 × 3 with pooling between them, and a linear layer: the paper's 3-16-32-64 and the like."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from orchestrator.spec.options import CnnOptions
from orchestrator.trial.models.activations import ACTIVATIONS

POOLS = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


def build(options: CnnOptions, input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Build the network with torch's own initial weights, drawn from the global generator.

    It maps ``[n, C, H, W]`` to ``[n, num_classes]``; each pooling halves H and W, rounded down. Its layers are named
    ``conv1``, ..., ``output``.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    d_in, height, width = input_shape
    for index, channels in enumerate(options.channels, start=1):
        layers[f"conv{index}"] = nn.Conv2d(d_in, channels, 3, padding=1, bias=options.bias)
        layers[f"activation{index}"] = ACTIVATIONS[options.activation]()
        layers[f"pool{index}"] = POOLS[options.pool](2)
        d_in, height, width = channels, height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(d_in * height * width, num_classes, bias=options.bias)
    return nn.Sequential(layers)
