"""Tau per layer: 1 where that leaves room to move, and otherwise as little below it as is asked for and allowed.

A basis of the inputs alone knows how much of them a move may touch, not what that does to the loss. With the gradient
`g_l` of the batch at hand, it does: a move `D_l` in the null space of a basis changes the loss to first order by
`<g_l, D_l> = <g_l P_l, D_l>`, at most `||g_l P_l|| ||D_l||`. Since `g_l = delta^T X`, this is never more than the bound
`||delta|| ||X P|| ||D||` that holds for every delta, and mostly far less.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, final

import torch
from torch import Tensor

__all__ = ["AutoTau", "DriftTau", "Lowering", "TauRule"]


@final
@dataclass(frozen=True)
class AutoTau:
    """Chooses tau for each layer and batch; given as `Teleporter(tau=AutoTau(...))`, `tau="auto"` for the defaults.

    A layer keeps `tau = 1` where its null space has a share `null_share` of its `d` inputs. Where it has less, the
    directions of least energy are added to it, until it has that share, or one more would break a bound: what all
    layers together may change the loss by to first order (`drift`, shared equally, for moves of `max_relative_step`),
    or the share of the inputs' energy that stays untouched (`least`).

    Args:
        null_share: of the inputs of a layer, in (0, 1].
        drift: of the loss on the batch; a step that changes it by more is undone, too, whatever the first order said,
            unless `max_loss_drift` is given.
        least: tau that no layer falls below, in (0, 1).

    Raises:
        ValueError: if a number is out of its range.
    """

    null_share: float = 0.1
    drift: float = 0.01
    least: float = 0.99

    why: ClassVar[str] = "where the null space is shorter than asked for"

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: if one is out of its range.
        """
        if not 0.0 < self.null_share <= 1.0:
            raise ValueError(f"AutoTau: null_share must lie in (0, 1], got {self.null_share}")
        if not (math.isfinite(self.drift) and self.drift > 0.0):
            raise ValueError(f"AutoTau: drift must be finite and > 0, got {self.drift}")
        if not 0.0 < self.least < 1.0:
            raise ValueError(f"AutoTau: least must lie in (0, 1), got {self.least}")

    def asked(self, dim: int) -> int:
        """Dimensions of the null space that a layer should have.

        Args:
            dim: its inputs, `d`.

        Returns:
            The number, at least 1.
        """
        return math.ceil(self.null_share * dim)

    def told(self, null_dim: int, dim: int) -> str:
        """Says what a layer has got.

        Args:
            null_dim: dimensions of its null space.
            dim: its inputs, `d`.

        Returns:
            The dimensions, and how many were asked for where that is more.
        """
        asked = self.asked(dim)
        return f"{null_dim} dimensions" + (f" of {asked} asked for" if null_dim < asked else "")

    def budget(self, loss: float) -> float:
        """What all layers together may change the loss by to first order.

        Args:
            loss: on the batch; not looked at.

        Returns:
            `drift`.
        """
        return self.drift


@final
@dataclass(frozen=True)
class DriftTau:
    """Spends a drift budget: each layer gets the largest null space whose moves keep the loss within it.

    All layers together may change the loss on the batch by a share `drift` of it to first order, `sum_l ||g_l P_l||
    ||D_l|| <= drift |L|`, an equal part each, for moves of up to `max_relative_step`. Free of the scale of the loss:
    a loss times a constant has a gradient and a budget times the same constant, and the same tau.

    Args:
        drift: share of the loss on the batch.
        least: tau that no layer falls below, in (0, 1): what the bound knows of is the first order.

    Raises:
        ValueError: if a number is out of its range.
    """

    drift: float = 0.01
    least: float = 0.9

    why: ClassVar[str] = "as far as the drift allows"

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: if one is out of its range.
        """
        if not (math.isfinite(self.drift) and self.drift > 0.0):
            raise ValueError(f"DriftTau: drift must be finite and > 0, got {self.drift}")
        if not 0.0 < self.least < 1.0:
            raise ValueError(f"DriftTau: least must lie in (0, 1), got {self.least}")

    def asked(self, dim: int) -> int:
        """Dimensions of the null space that a layer should have.

        Args:
            dim: its inputs, `d`.

        Returns:
            All of them: the bounds decide.
        """
        return dim

    def told(self, null_dim: int, dim: int) -> str:
        """Says what a layer has got.

        Args:
            null_dim: dimensions of its null space.
            dim: its inputs; not looked at, since all are asked for.

        Returns:
            The dimensions.
        """
        return f"{null_dim} dimensions"

    def budget(self, loss: float) -> float:
        """What all layers together may change the loss by to first order.

        Args:
            loss: on the batch.

        Returns:
            The share `drift` of it.
        """
        return self.drift * abs(loss)


TauRule: TypeAlias = AutoTau | DriftTau


@final
@dataclass(frozen=True, eq=False)
class Lowering:
    """What one layer, or some of its row blocks, may lose.

    Args:
        rule: what is asked for.
        gradient: of the loss, `[rows, d]`.
        allowance: the largest `||g P||`: drift allowed over length of the move.
    """

    rule: TauRule
    gradient: Tensor
    allowance: float

    def null_dim(self, energies: Tensor, vectors: Tensor, least: int) -> int:
        """How many of the directions of least energy may be moved along.

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
