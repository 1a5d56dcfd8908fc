"""Functions of torch without the hand-over to a `TorchFunctionMode`.

Under a mode, torch hands over a call of one of its Python functions as one unit and runs what is inside without the
mode. The same code with the hand-over left out computes the same bits, and the mode sees what is inside.
"""

from types import FunctionType
from typing import Any

import torch
from torch import nn

__all__ = ["unrolled", "unrolled_attention", "unrolled_grad"]


def _is_overridden(_: Any) -> bool:
    """Stands for `has_torch_function` inside the unrolled code."""
    return False


def unrolled(function: Any) -> Any:
    """The same code, the hand-over left out.

    Args:
        function: of torch, written in Python.

    Returns:
        The function, to be called under the mode.
    """
    found = FunctionType(
        function.__code__,
        {**function.__globals__, "has_torch_function": _is_overridden},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    found.__kwdefaults__ = function.__kwdefaults__
    return found


unrolled_grad: Any = unrolled(torch.autograd.grad)
"""For modes that must reach the parts of a checkpointed model, which run again inside of a backward."""

unrolled_attention: Any = unrolled(nn.functional.multi_head_attention_forward)
"""For a watch, which so sees each product of an attention as a call of `F.linear`."""
