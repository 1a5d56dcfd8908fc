"""A multilayer perceptron on flattened inputs."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from orchestrator.spec.options import MlpOptions
from orchestrator.trial.models.activations import ACTIVATIONS


def build(options: MlpOptions, input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Build the network with torch's own initial weights, drawn from the global generator.

    It maps ``[n, *input_shape]`` to ``[n, num_classes]``; its linear layers are named ``hidden1``, ..., ``output``.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    d_in = math.prod(input_shape)
    for index, width in enumerate(options.widths, start=1):
        layers[f"hidden{index}"] = nn.Linear(d_in, width, bias=options.bias)
        layers[f"activation{index}"] = ACTIVATIONS[options.activation]()
        d_in = width
    layers["output"] = nn.Linear(d_in, num_classes, bias=options.bias)
    return nn.Sequential(layers)
