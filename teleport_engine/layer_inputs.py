"""What each weight multiplies.

Layers are not recognised by their class but watched at work: a `TorchFunctionMode` sees each call of
`torch.nn.functional.linear` and whose weight it got. So a subclass of `nn.Linear`, a module called several times,
a weight tied between modules and a functional use are all the same case, and a weight that appears in any other
call (an embedding, `x @ W`, a penalty in the loss, a detached copy) is known not to be a linear map alone.
Other maps (convolutions) come in as further entries of `_MAPS`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

__all__ = ["FrozenModule", "Use", "Watch", "WeightLayer", "find_layers", "stacked_rows"]


@final
@dataclass(frozen=True, eq=False)
class WeightLayer:
    """A weight that may turn out to be a linear map.

    Args:
        name: of the module that owns it (of the parameter, where the module has more than one candidate).
        parameter_name: as in `model.named_parameters()`.
        weight: `W [d_out, d_in]`.
    """

    name: str
    parameter_name: str
    weight: nn.Parameter

    @property
    def d_in(self) -> int:
        """Columns of the weight."""
        return self.weight.shape[1]


@final
@dataclass(frozen=True)
class FrozenModule:
    """A module with parameters of its own that cannot move, and why."""

    name: str
    reason: str
    d_in: int | None = None


class Use(NamedTuple):
    """One product `Z = X W^T`: its input `[..., d_in]`, and the edge of its output in the autograd graph.

    The edge is taken before anyone can change the output in place (`nn.ReLU(inplace=True)`), so the gradient
    asked for on it is that of the product itself. None where no gradient flows.
    """

    inputs: Tensor
    edge: GradientEdge | None


def _linear_use(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Input and weight of a call of `F.linear(input, weight, bias=None)`."""
    inputs = args[0] if args else kwargs["input"]
    return inputs, args[1] if len(args) > 1 else kwargs["weight"]


_MAPS: dict[Callable[..., Any], Callable[[Sequence[Any], Mapping[str, Any]], tuple[Tensor, Tensor]]] = {
    nn.functional.linear: _linear_use,
}

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
        weights: the tensors to watch; uses are kept in this order.
        is_census: count also every other appearance of a weight, at some cost for each call.

    Attributes:
        uses: per weight, its linear uses in the order of the forward.
        num_other_uses: per weight, its other appearances (0 everywhere without a census).
    """

    def __init__(self, weights: Iterable[Tensor], *, is_census: bool = False) -> None:
        super().__init__()
        self._index = {id(weight): index for index, weight in enumerate(weights)}
        self._is_census = is_census
        self.uses: list[list[Use]] = [[] for _ in self._index]
        self.num_other_uses = [0] * len(self._index)

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
        reader = _MAPS.get(func)
        if reader is not None:
            inputs, weight = reader(args, kwargs)
            index = self._index.get(id(weight))
            if index is not None:
                edge = get_gradient_edge(result) if result.requires_grad else None
                self.uses[index].append(Use(inputs, edge))
                if self._is_census:
                    self.num_other_uses[index] -= 1
        if self._is_census and func not in _READS:
            self._count((args, tuple(kwargs.values())))
        return result

    def _count(self, values: Any) -> None:
        for value in values:
            if isinstance(value, Tensor):
                index = self._index.get(id(value))
                if index is not None:
                    self.num_other_uses[index] += 1
            elif isinstance(value, (tuple, list)):
                self._count(value)


def stacked_rows(uses: Sequence[Use]) -> Tensor:
    """All inputs that a weight multiplies, as rows.

    Args:
        uses: its uses, inputs `[..., d_in]`.

    Returns:
        `X [N, d_in]`, detached, with the leading dimensions of all uses stacked.
    """
    rows = [use.inputs.detach().reshape(-1, use.inputs.shape[-1]) for use in uses]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def find_layers(model: nn.Module) -> list[WeightLayer | FrozenModule]:
    """Every module with parameters of its own: those that may move, and the rest with the reason.

    Args:
        model: any module.

    Returns:
        In the order of `model.named_modules()`; a module with several matrices gives several candidates.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    owner_of: dict[int, str] = {}
    found: list[WeightLayer | FrozenModule] = []
    for name, module in model.named_modules():
        own = [p for p in module._parameters.values() if p is not None]
        matrices = [p for p in own if p.ndim == 2] if not isinstance(module, nn.Embedding) else []
        if isinstance(module, nn.Linear) and not matrices:
            # Parametrizations and the old weight norm keep the numbers elsewhere.
            found.append(FrozenModule(name, "its weight is computed from other parameters: frozen"))
        elif own and not matrices:
            found.append(FrozenModule(name or names[id(own[0])], "not a linear layer: frozen"))
        for weight in matrices:
            label = name if name and len(matrices) == 1 else names[id(weight)]
            if id(weight) in owner_of:
                reason = f"shares its weight with {owner_of[id(weight)]!r}, under whose name it is reported"
                found.append(FrozenModule(label, reason, weight.shape[1]))
            elif not weight.requires_grad:
                found.append(FrozenModule(label, "requires_grad is False", weight.shape[1]))
            else:
                found.append(WeightLayer(label, names[id(weight)], weight))
            owner_of.setdefault(id(weight), label)
    return found
