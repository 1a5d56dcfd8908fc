"""The weights of a model that may turn out to be linear maps, and the modules that cannot."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from teleport_engine.maps import Use

__all__ = ["FrozenModule", "WeightLayer", "find_layers", "settled"]


@final
@dataclass(frozen=True, eq=False)
class WeightLayer:
    """A weight that may turn out to be a linear map: a matrix of equal row blocks `[g, o, d]`.

    Args:
        name: of the module that owns it (of the parameter, where the module has more than one candidate).
        parameter_name: as in `model.named_parameters()`.
        weight: `[g * o, ...]`, with `d` entries in each row.
        num_blocks: `g`.
        bias: `[g * o]`, where it moves along: the matrix is then `[W | b]` and `d` one larger.
    """

    name: str
    parameter_name: str
    weight: nn.Parameter
    num_blocks: int = 1
    bias: nn.Parameter | None = None

    @property
    def d_in(self) -> int:
        """Inputs of one output unit, the column of the bias not counted."""
        return self.weight.shape[1:].numel()

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """What moves: the weight, and the bias where it moves along."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def matrix(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors of the parameters' shapes as one matrix per block.

        Args:
            tensors: one for each of `parameters`.

        Returns:
            `[g, o, d]`.
        """
        matrix = tensors[0].reshape(self.num_blocks, -1, self.d_in)
        if self.bias is None:
            return matrix
        return torch.cat([matrix, tensors[1].reshape(self.num_blocks, -1, 1)], 2)

    def unpack(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """The way back from `matrix`.

        Args:
            matrix: `[g, o, d]`.

        Returns:
            A tensor for each of `parameters`, in its shape.
        """
        if self.bias is None:
            return (matrix.reshape(self.weight.shape),)
        weight, bias = matrix[:, :, :-1], matrix[:, :, -1]
        return weight.reshape(self.weight.shape), bias.reshape(self.bias.shape)


@final
@dataclass(frozen=True)
class FrozenModule:
    """A module with parameters of its own that cannot move, and why."""

    name: str
    reason: str
    d_in: int | None = None


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


def settled(layer: WeightLayer, uses: Sequence[Use], num_other_uses: int) -> tuple[WeightLayer, list[Use]] | str:
    """What a candidate is, once a forward has been watched.

    Args:
        layer: the candidate.
        uses: its linear uses.
        num_other_uses: how often its weight appeared elsewhere.

    Returns:
        The layer and its uses, without the bias where that cannot move along; or the reason why it is frozen.
    """
    if num_other_uses:
        return "its weight is used outside its linear map: frozen"
    if not uses:
        return "not seen as a linear map in the forward: frozen"
    if layer.bias is None:
        return layer, list(uses)
    return replace(layer, bias=None), [replace(use, is_augmented=False) for use in uses]
