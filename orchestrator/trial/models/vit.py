"""A vision transformer: square patches of an image are the tokens.

Source: Dosovitskiy et al., arXiv 2010.11929.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from orchestrator.spec.options import VitOptions
from orchestrator.trial.models.encoder import SequenceClassifier


def build(options: VitOptions, input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """Build the network with torch's own initial weights, drawn from the global generator.

    It maps ``[n, C, H, W]`` to ``[n, num_classes]``.
    """
    d_in, height, width = input_shape
    patch = options.patch_size
    tokens = OrderedDict(patches=nn.Conv2d(d_in, options.d_model, patch, stride=patch), rows=_Rows())
    num_tokens = (height // patch) * (width // patch)
    return SequenceClassifier(nn.Sequential(tokens), options, num_tokens, num_classes, options.pooling)


@final
class _Rows(nn.Module):
    """Turns ``[n, d, h, w]`` into ``[n, h w, d]``: the patches row by row."""

    def forward(self, patches: Tensor) -> Tensor:
        return patches.flatten(2).transpose(1, 2)
