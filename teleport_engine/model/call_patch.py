"""Intercepting the calls that a model makes of torch's functions.

Under a `TorchFunctionMode`, torch hands over a call of one of its Python functions as one unit and runs what is inside
without the mode. Its own code with the hand-over left out computes the same bits, and the mode sees what is inside:
such a function is called unrolled here.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["CallPatch", "unrolled", "unrolled_attention", "unrolled_grad"]


def _is_overridden(_: Any) -> bool:
    """Stands for `has_torch_function` inside the unrolled code."""
    return False


def unrolled(function: Any) -> Any:
    """Gives a function of torch, written in Python, without the hand-over; it is to be called under a mode."""
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
"""For the backwards of a teleport: modes reach the parts of a checkpointed model, which run again inside of one."""

unrolled_attention: Any = unrolled(nn.functional.multi_head_attention_forward)
"""For a watch, which so sees each product of an attention as a call of `F.linear`."""


# Functions of torch, each with what runs in its place.
Calls = Mapping[Any, Callable[..., Any]]


class CallPatch(TorchFunctionMode):
    """Intercepts calls of torch's functions while it is active.

    Attributes:
        num_replaced: how many calls were replaced so far.
    """

    entered: ClassVar[Calls] = {}
    """Functions whose inner calls are intercepted too, and their unrolled code."""

    table: ClassVar[Calls] = {}
    """Functions, and what runs in place of each; where that gives None, the function itself runs."""

    def __init__(self) -> None:
        super().__init__()
        self.num_replaced = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs a call, as torch asks a mode to do."""
        if func in self.entered:
            with self:
                return self.entered[func](*args, **kwargs or {})
        return self._run(func, args, kwargs or {})

    @abstractmethod
    def _run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Runs a call whose inside is left alone; gives what the call returns."""

    def _replaced(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Runs what the table has for a call, else the call itself."""
        result = self.table[func](*args, **kwargs) if func in self.table else None
        if result is None:
            return func(*args, **kwargs)
        self.num_replaced += 1
        return result
