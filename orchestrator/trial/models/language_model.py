"""A small causal transformer, which scores the next token at each token."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from orchestrator.spec.options import LanguageModelOptions
from orchestrator.trial.models.encoder import Encoder


def build(options: LanguageModelOptions, input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Build the network with torch's own initial weights, drawn from the global generator.

    It maps tokens ``[n, T]``, int64, to scores ``[n, T, num_classes]`` over the vocabulary. The scores at a token
    depend only on it and the tokens before it.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        embedding=nn.Embedding(num_classes, options.d_model),
        encoder=Encoder(options, input_shape[0], is_causal=True),
        output=nn.Linear(options.d_model, num_classes),
    )
    return nn.Sequential(layers)
