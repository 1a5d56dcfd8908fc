"""Attention, taken apart.

Under a `TorchFunctionMode`, torch hands over a call of `F.multi_head_attention_forward` as one unit, whose inner
products nobody sees. `unrolled_attention` is torch's own code with that hand-over left out, so it computes the same
bits by calls of `F.linear` that a watch can see, for every argument that torch knows.
"""

from types import FunctionType
from typing import Any

from torch import nn

__all__ = ["unrolled_attention"]


def _is_overridden(_: Any) -> bool:
    """Stands for `has_torch_function` inside the unrolled code."""
    return False


def _unrolled(function: Any) -> Any:
    unrolled = FunctionType(
        function.__code__,
        {**function.__globals__, "has_torch_function": _is_overridden},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    unrolled.__kwdefaults__ = function.__kwdefaults__
    return unrolled


unrolled_attention: Any = _unrolled(nn.functional.multi_head_attention_forward)
