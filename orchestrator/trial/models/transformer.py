"""A transformer that classifies sequences: each element, a row of pixels say, is a token."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from orchestrator.spec.options import TransformerOptions
from orchestrator.trial.models.encoder import SequenceClassifier


def build(options: TransformerOptions, input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """Build the network with torch's own initial weights, drawn from the global generator.

    It maps ``[n, T, d]`` to ``[n, num_classes]``.
    """
    num_tokens, d_in = input_shape
    return SequenceClassifier(nn.Linear(d_in, options.d_model), options, num_tokens, num_classes, options.pooling)
