"""Weights on a line: from where they are, along a direction, and back."""

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from teleport_engine.facts import ModelFacts
from teleport_engine.objective import Evaluation, square_norm
from teleport_engine.objectives import Objective
from teleport_engine.route import Route

__all__ = ["WeightLine"]


@final
class WeightLine:
    """The objective along one direction; moves the weights to where it is asked (`step_rule.Line`).

    Args:
        route: evaluates it.
        objective: what growth means for it.
        start: the evaluation at the present weights.
        moving: weights and their directions.
        slope: of the objective at the start.
        direction_norm: `||D||` over all of them.
        hint: how far off the slope's prediction was one step before.
        is_last: no direction will be asked for where this step lands.
        num_layers: linear maps of the model.
        longest: step that the guards leave room for.
    """

    def __init__(
        self,
        route: Route,
        objective: Objective,
        start: Evaluation,
        moving: Sequence[tuple[Tensor, Tensor]],
        slope: float,
        direction_norm: float,
        hint: float,
        is_last: bool,
        num_layers: int,
        longest: float = math.inf,
    ) -> None:
        self._route = route
        self._objective = objective
        self._weights = [weight for weight, _ in moving]
        self._directions = [part for _, part in moving]
        self._base = [weight.detach().clone() for weight in self._weights]
        self._eta = 0.0
        self._start = self._here = start
        self._num_layers = num_layers
        self._is_last = is_last
        self.value = start.measured.value
        self.slope = slope
        self.direction_norm = direction_norm
        self.hint = hint
        self.longest = longest

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model at the start."""
        return ModelFacts(self._start.loss, self._start.grad_norm, self.weight_norm(), self._num_layers)

    def at(self, eta: float) -> float:
        """Evaluates the objective at a length.

        Args:
            eta: along the direction.

        Returns:
            The value, `inf` where it is not finite.
        """
        here = self.land(eta)
        return here.measured.value if here.is_finite else math.inf

    def reached(self, eta: float) -> float | None:
        """The objective at a length, if the weights are there.

        Args:
            eta: along the direction.

        Returns:
            The value; None where the weights are elsewhere, or it is not finite.
        """
        return self._here.measured.value if eta == self._eta and self._here.is_finite else None

    def rise(self, rho: float) -> float:
        """By how much the objective rises where it grows by a factor.

        Args:
            rho: the factor.

        Returns:
            The rise.
        """
        return self._objective.rise(self.value, rho)

    def weight_norm(self) -> float:
        """Frobenius norm of the weights that move, at the start of the line.

        Returns:
            The norm.
        """
        return math.sqrt(square_norm(self._base))

    def land(self, eta: float) -> Evaluation:
        """Moves the weights to a length and leaves them there.

        Args:
            eta: along the direction.

        Returns:
            The evaluation there; not made again where the weights already are.
        """
        if eta != self._eta:
            self.undo()
            with torch.no_grad():
                _add(self._weights, self._directions, eta)
            self._eta = eta
            self._here = self._route.evaluate(is_last=self._is_last)
        return self._here

    def undo(self) -> None:
        """Bit for bit back to the start of the line."""
        if self._eta != 0.0:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, self._base)
            self._eta = 0.0


def _add(weights: list[Tensor], directions: list[Tensor], eta: float) -> None:
    if all(abs(eta) <= torch.finfo(weight.dtype).max for weight in weights):
        torch._foreach_add_(weights, directions, alpha=eta)
        return
    # torch refuses a factor that the weights' precision has no number for, though the product may have one.
    for weight, part in zip(weights, directions, strict=True):
        weight.add_((part.to(torch.float64) * eta).to(weight.dtype))
