"""Tau of each layer: the share of the energy of its inputs that a move must leave alone.

A rule gives tau. Four rules are here: one number for all layers, a function of what is measured of each layer, and two
that lower tau only as far as a bound on the drift of the loss allows.

The bound: a move `D_l` in the null space of a basis changes the loss to first order by `<g_l, D_l> = <g_l P_l, D_l>`,
at most `||g_l P_l|| ||D_l||`, with `g_l` the gradient on the batch. Since `g_l = delta^T X`, this is never more than
`||delta|| ||X P|| ||D||`, which holds for every delta, and it is mostly far less.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, ClassVar, Protocol, TypeAlias, final, runtime_checkable

import torch
from torch import Tensor

from teleport_engine.nullspace.measurements import LayerFacts, LayerRule, Measurements, RuleError

__all__ = ["AutoTau", "ConstantTau", "DriftTau", "LayerTau", "LayerwiseTau", "Lowering", "TauRule", "tau_rule"]


@runtime_checkable
class TauRule(Protocol):
    """Chooses tau for the layers of a model on one batch."""

    @property
    def start(self) -> float:
        """Tau of every layer before anything is measured."""

    @property
    def leaves_fixed_inputs(self) -> bool:
        """Whether a layer whose inputs depend on no trainable parameter is left out before anything is measured."""

    @property
    def needs_gradient(self) -> bool:
        """Whether the rule looks at the gradient of the loss, for which a backward is spent."""

    @property
    def needs_energies(self) -> bool:
        """Whether the rule is asked only after all inputs of every layer were added up."""

    def choose(self, measured: Measurements) -> "Sequence[LayerTau]":
        """Chooses tau for each of `measured.layers`: a number in (0, 1], or a bound on how far to lower it."""


@final
@dataclass(frozen=True)
class ConstantTau:
    """One tau for all layers."""

    tau: float

    needs_gradient: ClassVar[bool] = False
    needs_energies: ClassVar[bool] = False

    @property
    def start(self) -> float:
        """The constant."""
        return self.tau

    @property
    def leaves_fixed_inputs(self) -> bool:
        """Only at `tau = 1`, where a layer with fixed inputs has no ascent direction."""
        return self.tau == 1.0

    def choose(self, measured: Measurements) -> "Sequence[LayerTau]":
        """Gives every layer the constant; nothing is measured."""
        return [self.tau] * len(measured.layers)


@final
@dataclass(frozen=True)
class LayerwiseTau:
    """Tau by a function of what is measured of each layer, asked anew at each teleport.

    Args:
        rule: gives tau, in (0, 1]. It cannot look at rank and null space, which follow from tau.
        with_gradient: the rule looks at `grad_norm`, for which a backward is spent.
        with_spectrum: the rule looks at `stable_rank`, for which the eigenvalues of every layer's inputs are taken.

    Examples:
        >>> LayerwiseTau(lambda layer: 1.0 - 0.5 / layer.width).of(LayerFacts("2", 32, 64, 64, 1, 1, 1.0))
        0.9921875
    """

    rule: LayerRule
    with_gradient: bool = False
    with_spectrum: bool = False

    start: ClassVar[float] = 1.0
    leaves_fixed_inputs: ClassVar[bool] = False

    @property
    def needs_gradient(self) -> bool:
        """`with_gradient`."""
        return self.with_gradient

    @property
    def needs_energies(self) -> bool:
        """The eigenvalues can be taken only of the sum over all inputs."""
        return self.with_spectrum

    def choose(self, measured: Measurements) -> "Sequence[LayerTau]":
        """Asks the function for each layer."""
        facts = measured.facts()
        if self.with_spectrum:
            ranks = measured.stable_ranks()
            facts = [replace(one, stable_rank=rank) for one, rank in zip(facts, ranks, strict=True)]
        return [self.of(one) for one in facts]

    def of(self, facts: LayerFacts) -> float:
        """Asks the function for one layer.

        Raises:
            RuleError: if the answer lies outside (0, 1].
        """
        tau = float(self.rule(facts))
        if not 0.0 < tau <= 1.0:
            raise RuleError(f"tau of layer {facts.name!r}", "lie in (0, 1]", tau)
        return tau


@final
@dataclass(frozen=True)
class AutoTau:
    """Lowers tau where the null space of a layer is shorter than asked for; `tau="auto"` gives the defaults.

    A layer keeps `tau = 1` where its null space has a share `null_share` of its `d` inputs. Where it has less, the
    directions of least energy are added to it one by one. Adding ends once it has that share, or once the next
    direction would break one of two bounds: the change of the loss to first order by all layers together (`drift`,
    in equal parts, for moves as long as `max_relative_step`), or the share of the energy that stays untouched
    (`least`).

    Args:
        null_share: share of a layer's inputs that its null space should have, in (0, 1].
        drift: bound on the change of the loss on the batch. A step that really changes the loss by more is undone,
            unless `max_loss_drift` gives another limit.
        least: no layer's tau falls below this, in (0, 1).

    Raises:
        ValueError: if a number is out of its range.
    """

    null_share: float = 0.1
    drift: float = 0.01
    least: float = 0.99

    start: ClassVar[float] = 1.0
    leaves_fixed_inputs: ClassVar[bool] = True
    needs_gradient: ClassVar[bool] = True
    needs_energies: ClassVar[bool] = True
    why: ClassVar[str] = "where the null space is shorter than asked for"

    def __post_init__(self) -> None:
        if not 0.0 < self.null_share <= 1.0:
            raise ValueError(f"AutoTau: null_share must lie in (0, 1], got {self.null_share}")
        _check_bounds("AutoTau", self.drift, self.least)

    def choose(self, measured: Measurements) -> "Sequence[LayerTau]":
        """Gives each layer the bound on how far its tau may be lowered."""
        return _lowerings(self, measured, self.drift)

    def asked(self, dim: int) -> int:
        """Counts the dimensions that the null space of a layer with `dim` inputs should have; at least 1."""
        return math.ceil(self.null_share * dim)

    def told(self, null_dim: int, dim: int) -> str:
        """Says how many dimensions a layer with `dim` inputs has got, and how many were asked for if that is more."""
        asked = self.asked(dim)
        return f"{null_dim} dimensions" + (f" of {asked} asked for" if null_dim < asked else "")


@final
@dataclass(frozen=True)
class DriftTau:
    """Spends a budget of drift: each layer gets the largest null space whose moves keep the loss within the budget.

    All layers together may change the loss on the batch by a share `drift` of it to first order, `sum_l ||g_l P_l||
    ||D_l|| <= drift |L|`, in equal parts, for moves as long as `max_relative_step`. The choice does not depend on the
    scale of the loss: a loss times a constant has a gradient and a budget times the same constant.

    Args:
        drift: the budget, as a share of the loss on the batch.
        least: no layer's tau falls below this, in (0, 1), because the bound knows the first order alone.

    Raises:
        ValueError: if a number is out of its range.
    """

    drift: float = 0.01
    least: float = 0.9

    start: ClassVar[float] = 1.0
    leaves_fixed_inputs: ClassVar[bool] = True
    needs_gradient: ClassVar[bool] = True
    needs_energies: ClassVar[bool] = True
    why: ClassVar[str] = "as far as the drift allows"

    def __post_init__(self) -> None:
        _check_bounds("DriftTau", self.drift, self.least)

    def choose(self, measured: Measurements) -> "Sequence[LayerTau]":
        """Gives each layer the bound on how far its tau may be lowered."""
        return _lowerings(self, measured, self.drift * abs(measured.loss))

    def asked(self, dim: int) -> int:
        """Asks for all dimensions: only the bounds decide."""
        return dim

    def told(self, null_dim: int, dim: int) -> str:
        """Says how many dimensions a layer has got."""
        return f"{null_dim} dimensions"


def _check_bounds(name: str, drift: float, least: float) -> None:
    if not (math.isfinite(drift) and drift > 0.0):
        raise ValueError(f"{name}: drift must be finite and > 0, got {drift}")
    if not 0.0 < least < 1.0:
        raise ValueError(f"{name}: least must lie in (0, 1), got {least}")


@final
@dataclass(frozen=True, eq=False)
class Lowering:
    """How far tau of one layer, or of some of its row blocks, may be lowered.

    Args:
        rule: says how large a null space is asked for, and how low tau may fall.
        gradient: of the loss, `[g, o, d]` for a layer, `[rows, d]` for row blocks found together.
        allowance: the largest `||g P||`: the drift allowed over the length of the move.
    """

    rule: AutoTau | DriftTau
    gradient: Tensor
    allowance: float

    def null_dim(self, energies: Tensor, vectors: Tensor, least: int) -> int:
        """Counts the directions of least energy that the weight may move along.

        Args:
            energies: eigenvalues `[d]` of `X^T X`, smallest first, float64.
            vectors: the eigenvectors `[d, d]`, as columns.
            least: dimensions of the null space at `tau = 1`.

        Returns:
            `least` where that is enough; else as many as are asked for, or as the bounds allow.
        """
        asked = self.rule.asked(len(energies))
        if least >= asked:
            return least
        slopes = (self.gradient.to(vectors.dtype) @ vectors).square().sum(0).cumsum(0)
        tails = energies.clamp_min(0.0).cumsum(0)
        is_allowed = (slopes <= self.allowance**2) & (tails <= (1.0 - self.rule.least) * tails[-1])
        # Both sums only grow, so the directions allowed are the first ones; NaN allows none.
        allowed = int(torch.cumprod(is_allowed.to(torch.int64), 0).sum())
        return max(least, min(asked, allowed))


LayerTau: TypeAlias = float | Lowering
"""Tau of one layer, or how far it may be lowered once the layer's spectrum is known."""


def _lowerings(rule: AutoTau | DriftTau, measured: Measurements, budget: float) -> list[Lowering]:
    """Gives each layer an equal part of a drift budget, over how far the layer may go."""
    found = []
    for layer, gradient in zip(measured.layers, measured.gradients, strict=True):
        size = layer.matrix([parameter.detach() for parameter in layer.parameters]).norm()
        length = len(measured.order) * measured.reach * float(size)
        found.append(Lowering(rule, layer.matrix(gradient), budget / length if length > 0.0 else 0.0))
    return found


def tau_rule(tau: Any) -> TauRule:
    """Gives the rule that a user's `tau` stands for: a number, "auto", or a rule itself.

    Raises:
        ValueError: if it is none of these, or the number lies outside (0, 1].
    """
    if isinstance(tau, str) and tau == "auto":
        return AutoTau()
    if isinstance(tau, TauRule) and not isinstance(tau, type):
        return tau
    if not (isinstance(tau, Real) and 0.0 < float(tau) <= 1.0):
        raise ValueError(f"tau must lie in (0, 1], or be 'auto', an AutoTau, a DriftTau or a LayerwiseTau, got {tau!r}")
    return ConstantTau(float(tau))
