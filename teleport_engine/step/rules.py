"""How far to move along a direction."""

import math
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

from teleport_engine.nullspace import ModelFacts

__all__ = ["FixedStep", "GrowthStep", "Line", "StepRule"]


class Line(Protocol):
    """The objective along the direction: `F(eta) = F(W + eta D)`, `D` the projected gradient of F.

    Where a rule scales the layers (`LayerwiseStep`), `D_l` is `s_l` times that gradient. F is what is climbed: half the
    squared gradient norm unless `objective=` says otherwise; it may be negative.
    """

    @property
    def value(self) -> float:
        """`F(0)`."""

    @property
    def slope(self) -> float:
        """`F'(0) = sum_l ||D_l||^2`; `sum_l ||D_l||^2 / s_l` where layers are scaled."""

    @property
    def direction_norm(self) -> float:
        """`||D||` (Frobenius), so that a step of length eta is `eta ||D||` long."""

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model where the line begins."""

    @property
    def hint(self) -> float:
        """Length of the step before over what its slope alone had predicted; 1 at a teleporter's first step."""

    def allowed(self, eta: float) -> float:
        """Gives the longest step, up to `eta`, that the guards leave room for as far as they know without a gradient.

        It is 0 where there is no room.
        """

    def at(self, eta: float) -> float:
        """Gives `F(eta)`, at the cost of one gradient evaluation; `inf` where the loss or a gradient is not finite.

        The last point asked for is remembered.
        """

    def rise(self, rho: float) -> float:
        """Gives by how much F rises where it grows by a factor `rho > 1`: `(rho - 1) F(0)` for a positive F."""

    def weight_norm(self) -> float:
        """Gives the Frobenius norm of all weights that move, at the start of the line."""


@runtime_checkable
class StepRule(Protocol):
    """Chooses the length of a teleport step. Anything with this method may be given as `step=`."""

    def length(self, line: Line) -> float | None:
        """Chooses a length on a line whose slope is positive.

        Returns:
            `eta > 0`, or None where the rule cannot be met on this line: then nothing moves.
        """


@final
@dataclass(frozen=True)
class FixedStep:
    """`W <- W + eta D`: the paper's step (arXiv 2502.11362: 0.2 for MLPs, 0.003 for CNNs and transformers).

    Raises:
        ValueError: if `eta`, the teleport learning rate, is not a finite number above zero.
    """

    eta: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eta) and self.eta > 0.0):
            raise ValueError(f"FixedStep: eta must be finite and > 0, got {self.eta}")

    def length(self, line: Line) -> float:
        """Gives `eta`, whatever the line."""
        return self.eta


@final
@dataclass(frozen=True)
class GrowthStep:
    """The length at which the objective has grown by the factor `rho`: free of the scale of the model.

    For `||g||^2` of one layer at `tau = 1`, `F(eta) = F(0) + F'(0) eta + b eta^2` with `b >= 0`; one evaluation gives
    `b` and the quadratic is solved. For all layers at once it is the start of a bracketing search on the true `F`,
    until the growth is within 5 % of the one asked for: `|F - rho F(0)| <= 0.05 (rho - 1) F(0)`. What growth by rho
    means for an objective that may be negative, `Objective.rise` says; 5 % of that rise is then the tolerance. The
    search starts at
    the length that the slope alone predicts, corrected by how far off that was one step before: steps are much
    alike, and most then need one evaluation. Nothing is looked for beyond what `line.allowed` does.

    Args:
        rho: growth factor per teleport step.
        max_evaluations: gradient evaluations after which the search gives up.
        tolerance: share of the rise by which it may be missed.

    Raises:
        ValueError: if `rho` is not finite and > 1, `max_evaluations` < 1, or `tolerance` is not in (0, 1).
    """

    rho: float
    max_evaluations: int = 40
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rho) and self.rho > 1.0):
            raise ValueError(f"GrowthStep: rho must be finite and > 1, got {self.rho}")
        if self.max_evaluations < 1:
            raise ValueError(f"GrowthStep: max_evaluations must be >= 1, got {self.max_evaluations}")
        if not 0.0 < self.tolerance < 1.0:
            raise ValueError(f"GrowthStep: tolerance must lie in (0, 1), got {self.tolerance}")

    def length(self, line: Line) -> float | None:
        """Searches the line for the growth asked for.

        Returns:
            A length within the tolerance of the growth; one beyond what is allowed, where the growth is not reached up
            to there; or None where `max_evaluations` did not find one.
        """
        rise = line.rise(self.rho)
        low, high = 0.0, math.inf
        eta = line.hint * rise / line.slope
        for _ in range(self.max_evaluations):
            if not (math.isfinite(eta) and eta > 0.0):
                return None
            wanted, eta = eta, line.allowed(eta)
            if eta == 0.0:
                return wanted
            got = line.at(eta) - line.value
            if abs(got - rise) <= self.tolerance * rise:
                return eta
            if got < rise and eta < wanted:
                return max(wanted, _next(eta, got, rise, line.slope, eta, high))
            if got < rise:
                low = eta
            else:
                high = eta
            eta = _next(eta, got, rise, line.slope, low, high)
        return None


def _next(eta: float, got: float, rise: float, slope: float, low: float, high: float) -> float:
    """Gives the root of the quadratic through the last point, kept well inside the bracket."""
    guess = math.nan
    if math.isfinite(got):
        curvature = (got - slope * eta) / (eta * eta)
        discriminant = slope * slope + 4.0 * curvature * rise
        if discriminant >= 0.0:
            guess = 2.0 * rise / (slope + math.sqrt(discriminant))
    if math.isinf(high):
        return min(max(guess, 1.2 * low), 10.0 * low) if math.isfinite(guess) else 4.0 * low
    margin = 0.02 * (high - low)
    if math.isfinite(guess) and low + margin <= guess <= high - margin:
        return guess
    # After a non-finite point the bracket may span many decades: shrink fast first.
    return low + (0.5 if math.isfinite(got) else 0.1) * (high - low)
