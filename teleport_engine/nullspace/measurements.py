"""What is known of a layer, or of the model, where a rule is asked for a number: tau, a step's scale, a growth factor.

A number tuned for one architecture says little about the next; a rule of what is measured (`0.1 / fan_in`, say) can be
carried over. A rule is any function of these records that gives a number.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor

from teleport_engine.model import WeightLayer
from teleport_engine.nullspace.subspace import Subspace

__all__ = ["LayerFacts", "LayerRule", "Measurements", "ModelFacts", "RuleError", "checked_number", "facts_of"]


@final
@dataclass(frozen=True)
class LayerFacts:
    """One layer that may move, at the present weights.

    Args:
        name: of the module, as in `LayerReport`.
        fan_in: inputs of one output unit (channels times taps for a convolution), the bias not counted.
        fan_out: outputs that one input unit reaches, as torch's initialisers count: channels times taps.
        width: output units, or channels.
        position: among the model's linear maps, from 1 in the model's order.
        num_layers: how many linear maps there are.
        weight_norm: `||W||` (Frobenius), with the bias where it moves along.
        grad_norm: `||dL/dW||` on the batch, with that of the bias where it moves along; None where it was not taken.
        rank: dimensions of the inputs' subspace, in the row block with the largest null space; None before tau is
            known.
        null_dim: dimensions of that null space; None before tau is known.
        stable_rank: `||X||^2 / lambda_1(X^T X)`, from 1 (all inputs on one line) to the rank: how slowly their spectrum
            decays; the mean over row blocks. None where no spectrum was taken.
    """

    name: str
    fan_in: int
    fan_out: int
    width: int
    position: int
    num_layers: int
    weight_norm: float
    grad_norm: float | None = None
    rank: int | None = None
    null_dim: int | None = None
    stable_rank: float | None = None

    @property
    def null_share(self) -> float | None:
        """Share of the inputs' dimensions in the null space; None before tau is known."""
        if self.rank is None or self.null_dim is None:
            return None
        return self.null_dim / (self.rank + self.null_dim)


@final
@dataclass(frozen=True)
class ModelFacts:
    """The model where a teleport step begins.

    Args:
        loss: on the batch.
        grad_norm: over all trainable parameters.
        weight_norm: of the weights that the step moves, all together.
        num_layers: the model's linear maps.
    """

    loss: float
    grad_norm: float
    weight_norm: float
    num_layers: int


LayerRule: TypeAlias = Callable[[LayerFacts], float]
"""A number for each layer."""


@final
class RuleError(ValueError):
    """A rule gave a number that cannot be used; nothing has moved.

    Args:
        what: the rule was asked for, for example "tau of layer '2'".
        must: says what the number must be.
        value: what the rule gave.
    """

    def __init__(self, what: str, must: str, value: float) -> None:
        super().__init__(f"{what} must {must}, got {value!r}")
        self.what = what
        self.value = value


def checked_number(what: str, value: float, above: float) -> float:
    """Gives a number that a rule gave for `what`, once it is seen to be finite and larger than `above`.

    Raises:
        RuleError: if it is not.
    """
    value = float(value)
    if not (math.isfinite(value) and value > above):
        raise RuleError(what, f"be finite and > {above:g}", value)
    return value


@final
@dataclass(frozen=True, eq=False)
class Measurements:
    """What a rule of tau may look at: the loss, and some linear maps of a model.

    Args:
        layers: the linear maps to choose a tau for.
        order: parameter names of all linear maps that may move, in the model's order.
        loss: on the batch.
        reach: the longest move of a layer that is reckoned with, as a share of its `||W||`.
        gradients: per layer, the gradient of the loss for each of its `parameters`; empty where none was taken.
        stable_ranks: measures the stable rank of each layer's inputs.
    """

    layers: Sequence[WeightLayer]
    order: Sequence[str]
    loss: float
    reach: float = 0.0
    gradients: Sequence[Sequence[Tensor]] = ()
    stable_ranks: Callable[[], Sequence[float]] = tuple

    def facts(self) -> list[LayerFacts]:
        """Measures the layers at their present weights."""
        return facts_of(self.layers, self.order, self.gradients or None)


def facts_of(
    layers: Sequence[WeightLayer],
    order: Sequence[str],
    gradients: Sequence[Sequence[Tensor | None]] | None = None,
    subspaces: Mapping[str, tuple[Subspace, ...]] | None = None,
) -> list[LayerFacts]:
    """Measures layers at their present weights.

    Args:
        layers: the layers to measure.
        order: parameter names of all linear maps of the model, in its order.
        gradients: per layer, the gradient of each of its `parameters`, None where the loss does not depend on one;
            None where no gradient was taken.
        subspaces: parameter name to the subspace of each row block; None where they are not known.
    """
    if not layers:
        return []
    sizes = [_norm(layer.parameters) for layer in layers]
    slopes = [] if gradients is None else [_norm([one for one in parts if one is not None]) for parts in gradients]
    # One synchronisation for all.
    numbers = torch.stack([*sizes, *(slope.to(sizes[0].device) for slope in slopes)]).tolist()
    found = []
    for index, layer in enumerate(layers):
        blocks = () if subspaces is None else subspaces[layer.parameter_name]
        widest = max(blocks, key=lambda subspace: subspace.null_dim, default=None)
        ranks = [rank for one in blocks if (rank := one.stable_rank) is not None]
        weight = layer.weight
        found.append(
            LayerFacts(
                name=layer.name,
                fan_in=layer.d_in,
                fan_out=weight.shape[0] * weight.shape[2:].numel() if layer.layout is None else layer.layout.sizes[1],
                width=weight.shape[0] if layer.layout is None else layer.layout.sizes[1],
                position=order.index(layer.parameter_name) + 1,
                num_layers=len(order),
                weight_norm=numbers[index],
                grad_norm=None if gradients is None else numbers[len(layers) + index],
                rank=None if widest is None else widest.rank,
                null_dim=None if widest is None else widest.null_dim,
                stable_rank=sum(ranks) / len(ranks) if ranks and len(ranks) == len(blocks) else None,
            )
        )
    return found


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    """Gives the Frobenius norm of all tensors together, in float64; zero for none."""
    if not tensors:
        return torch.zeros((), dtype=torch.float64)
    norms = torch.stack([torch.linalg.vector_norm(one.detach(), dtype=torch.float64) for one in tensors])
    norm: Tensor = torch.linalg.vector_norm(norms)
    return norm
