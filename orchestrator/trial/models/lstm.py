"""A long short-term memory on sequences, or on tokens through an embedding.

Its recurrent weights never move in a teleport: their products are not seen one by one. Those after it do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from orchestrator.spec.options import LstmOptions


def build(options: LstmOptions, input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """Build the network with torch's own initial weights, drawn from the global generator.

    It maps sequences ``[n, T, d]`` to ``[n, num_classes]``, and tokens ``[n, T]``, int64, to ``[n, T, num_classes]``.
    """
    return _Lstm(options, None if len(input_shape) == 1 else input_shape[1], num_classes)


@final
class _Lstm(nn.Module):
    def __init__(self, options: LstmOptions, d_in: int | None, num_classes: int) -> None:
        super().__init__()
        d_hidden = options.d_hidden
        self.embedding = nn.Embedding(num_classes, d_hidden) if d_in is None else None
        self.lstm = nn.LSTM(d_in or d_hidden, d_hidden, options.num_layers, batch_first=True, dropout=options.dropout)
        self.output = nn.Linear(d_hidden, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.lstm(inputs if self.embedding is None else self.embedding(inputs))
        scores: Tensor = self.output(states[:, -1] if self.embedding is None else states)
        return scores
