"""Attention, taken apart.

Under a `TorchFunctionMode`, torch hands over a call of `F.multi_head_attention_forward` as one unit, whose inner
products nobody sees. `unrolled_attention` is torch's own code with that hand-over left out, so it computes the same
bits by calls of `F.linear` that a watch can see, for every argument that torch knows.
"""

from typing import Any

from torch import nn

from teleport_engine.unrolled import unrolled

__all__ = ["unrolled_attention"]

unrolled_attention: Any = unrolled(nn.functional.multi_head_attention_forward)
