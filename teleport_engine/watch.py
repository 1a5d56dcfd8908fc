"""Watching a forward for what each weight multiplies.

Layers are not recognised by their class but watched at work: a `TorchFunctionMode` sees each call of
`torch.nn.functional.linear` and whose weight it got. So a subclass of `nn.Linear`, a module called several times,
a weight tied between modules and a functional use are all the same case, and a weight that appears in any other
call (an embedding, `x @ W`, a penalty in the loss, a detached copy) is known not to be a linear map alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from teleport_engine.layer_inputs import WeightLayer
from teleport_engine.maps import LinearUse, Use

__all__ = ["Watch"]

# Questions about a weight that read none of its values.
_READS: frozenset[Any] = frozenset(
    getattr(torch.Tensor, name).__get__
    for name in ("device", "dtype", "is_cuda", "is_leaf", "is_sparse", "layout", "ndim", "requires_grad", "shape")
) | frozenset(
    getattr(torch.Tensor, name)
    for name in ("dim", "is_complex", "is_contiguous", "is_floating_point", "numel", "size", "stride")
)


@final
class Watch(TorchFunctionMode):
    """Records the uses of some weights while it is active.

    Args:
        layers: whose weights to watch; uses are kept in this order.
        replaced: `id(parameter)` to the tensor that the forward runs with in its place.
        is_census: count also every other appearance of a weight, at some cost for each call.

    Attributes:
        uses: per layer, its linear uses in the order of the forward.
        num_other_uses: per layer, the other appearances of its weight (0 everywhere without a census).
    """

    def __init__(
        self, layers: Iterable[WeightLayer], replaced: Mapping[int, Tensor] | None = None, *, is_census: bool = False
    ) -> None:
        super().__init__()
        self._layers = list(layers)
        self._replaced = replaced or {}
        self._index = {
            id(self._replaced.get(id(layer.weight), layer.weight)): index for index, layer in enumerate(self._layers)
        }
        self._is_census = is_census
        self.uses: list[list[Use]] = [[] for _ in self._layers]
        self.num_other_uses = [0] * len(self._layers)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the call and notes the watched weights in it.

        Args:
            func: what was called.
            types: not looked at.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Returns:
            What the call returns.
        """
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is nn.functional.linear:
            self._note_linear(args, kwargs, result)
        if self._is_census and func not in _READS:
            self._count((args, tuple(kwargs.values())))
        return result

    def _note_linear(self, args: Sequence[Any], kwargs: Mapping[str, Any], result: Tensor) -> None:
        """A call of `F.linear(input, weight, bias=None)`."""
        inputs = args[0] if args else kwargs["input"]
        index = self._index.get(id(args[1] if len(args) > 1 else kwargs["weight"]))
        if index is not None:
            edge = get_gradient_edge(result) if result.requires_grad else None
            self.uses[index].append(LinearUse(inputs, edge, slice(0, self._layers[index].num_blocks)))
            if self._is_census:
                self.num_other_uses[index] -= 1

    def _count(self, values: Any) -> None:
        for value in values:
            if isinstance(value, Tensor):
                index = self._index.get(id(value))
                if index is not None:
                    self.num_other_uses[index] += 1
            elif isinstance(value, (tuple, list)):
                self._count(value)
