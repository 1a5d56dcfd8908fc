"""What the transformers share: positions, and layers with attention, all or causal."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor, nn

from orchestrator.spec.options import EncoderOptions

# The deviation that GPT-2 and ViT draw embeddings with.
POSITION_DEVIATION = 0.02


@final
class Encoder(nn.Module):
    """Adds learned positions to tokens and sends them through the layers.

    Args:
        options: the transformer's options.
        num_tokens: length of every input.
        is_causal: whether each token sees only itself and the tokens before it.
    """

    mask: Tensor | None

    def __init__(self, options: EncoderOptions, num_tokens: int, *, is_causal: bool = False) -> None:
        super().__init__()
        self.positions = nn.Parameter(POSITION_DEVIATION * torch.randn(num_tokens, options.d_model))
        # torch's TransformerEncoder copies one layer, so that all would begin with the same weights.
        self.layers = nn.ModuleList(_layer(options) for _ in range(options.num_layers))
        self.norm = nn.LayerNorm(options.d_model) if options.norm_first else nn.Identity()
        mask = nn.Transformer.generate_square_subsequent_mask(num_tokens) if is_causal else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode tokens ``[n, T, d_model]``; the result has the same shape."""
        encoded = tokens + self.positions
        for layer in self.layers:
            encoded = layer(encoded, src_mask=self.mask, is_causal=self.mask is not None)
        normed: Tensor = self.norm(encoded)
        return normed


@final
class SequenceClassifier(nn.Module):
    """Makes tokens of the inputs, encodes them and scores the classes.

    Args:
        tokens: maps ``[n, *input_shape]`` to ``[n, T, d_model]``.
        options: the transformer's options.
        num_tokens: T.
        num_classes: size of the output.
        pooling: what the classes are read from: the mean over the tokens, or a token of its own (``cls``).
    """

    def __init__(
        self,
        tokens: nn.Module,
        options: EncoderOptions,
        num_tokens: int,
        num_classes: int,
        pooling: Literal["mean", "cls"],
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.cls = nn.Parameter(POSITION_DEVIATION * torch.randn(options.d_model)) if pooling == "cls" else None
        self.encoder = Encoder(options, num_tokens + (pooling == "cls"))
        self.output = nn.Linear(options.d_model, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return scores ``[n, num_classes]``."""
        tokens = self.tokens(inputs)
        if self.cls is not None:
            tokens = torch.cat([self.cls.expand(len(tokens), 1, -1), tokens], dim=1)
        encoded = self.encoder(tokens)
        scores: Tensor = self.output(encoded.mean(dim=1) if self.cls is None else encoded[:, 0])
        return scores


def _layer(options: EncoderOptions) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        options.d_model,
        options.num_heads,
        options.d_ff or 4 * options.d_model,
        options.dropout,
        options.activation,
        batch_first=True,
        norm_first=options.norm_first,
    )
