"""Weights on a line: from where they are, along a direction, and back."""

import math
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from teleport_engine.nullspace import ModelFacts
from teleport_engine.objective import Evaluation, Objective, Route, square_norm

__all__ = ["Ceiling", "WeightLine"]


@final
class Ceiling:
    """How far a step may go, as far as that is known without a gradient. It only comes down.

    Args:
        longest: step that the guards leave room for.
        look: tells the longest step, up to a length, that does no harm; None where there is no need to look.
        is_end: no direction will be asked for where a step lands at the ceiling.

    Attributes:
        longest: as far as it is known by now.
    """

    def __init__(
        self, longest: float = math.inf, look: Callable[[float], float] | None = None, *, is_end: bool = False
    ) -> None:
        self.longest = longest
        self.is_end = is_end
        self._look = look
        self._clear = 0.0

    def allowed(self, eta: float) -> float:
        """Shortens a step that goes too far; gives 0 where there is no room at all."""
        eta = min(eta, self.longest)
        if self._look is not None and eta > self._clear:
            self._clear = self._look(eta)
            if self._clear < eta:
                self.longest = eta = self._clear
        return eta


@final
class WeightLine:
    """The objective along one direction (`Line`); moves the weights to each length that is asked for.

    Args:
        route: evaluates the objective.
        objective: says what growth means.
        start: the evaluation at the present weights.
        moving: weights and their directions.
        slope: of the objective at the start.
        hint: how far off the slope's prediction was one step before.
        num_layers: linear maps of the model.
        is_last: no direction will be asked for where this step lands.

    Attributes:
        ceiling: how far a step may go; to begin with, as far as it likes.
    """

    def __init__(
        self,
        route: Route,
        objective: Objective,
        start: Evaluation,
        moving: Sequence[tuple[Tensor, Tensor]],
        slope: float,
        hint: float,
        num_layers: int,
        is_last: bool,
    ) -> None:
        self._route = route
        self._objective = objective
        self._weights = [weight for weight, _ in moving]
        self._directions = [part for _, part in moving]
        self._base = [weight.detach().clone() for weight in self._weights]
        self._eta = 0.0
        self._start = start
        self._here: Evaluation | None = start
        self._num_layers = num_layers
        self._is_last = is_last
        self.value = start.measured.value
        self.slope = slope
        self.hint = hint
        self.ceiling = Ceiling()

    @property
    def direction_norm(self) -> float:
        """`||D||` (Frobenius) over all weights that move."""
        return math.sqrt(square_norm(self._directions))

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model at the start of the line."""
        return ModelFacts(self._start.loss, self._start.grad_norm, self.weight_norm(), self._num_layers)

    def allowed(self, eta: float) -> float:
        """Gives the longest step, up to a length, that the guards leave room for; 0 where there is no room."""
        return self.ceiling.allowed(eta)

    def at(self, eta: float) -> float:
        """Evaluates the objective at a length; `inf` where it is not finite."""
        here = self.land(eta)
        return here.measured.value if here.is_finite else math.inf

    def reached(self, eta: float) -> float | None:
        """Gives the objective at a length; None where the weights are elsewhere, or it is not finite."""
        here = self._here if eta == self._eta else None
        return here.measured.value if here is not None and here.is_finite else None

    def rise(self, rho: float) -> float:
        """Gives by how much the objective rises where it grows by the factor `rho`."""
        return self._objective.rise(self.value, rho)

    def weight_norm(self) -> float:
        """Gives the Frobenius norm of the weights that move, at the start of the line."""
        return math.sqrt(square_norm(self._base))

    def is_last(self, eta: float) -> bool:
        """Says whether no direction will be asked for where a step of this length lands."""
        return self._is_last or (self.ceiling.is_end and eta == self.ceiling.longest)

    def place(self, eta: float) -> None:
        """Moves the weights to a length and leaves them there, unevaluated."""
        if eta != self._eta:
            self.undo()
            with torch.no_grad():
                _add(self._weights, self._directions, eta)
            self._eta, self._here = eta, None

    def land(self, eta: float) -> Evaluation:
        """Moves the weights to a length, leaves them there and evaluates; not again where they already are."""
        self.place(eta)
        if self._here is None:
            self._here = self._route.evaluate(is_last=self.is_last(eta))
        return self._here

    def undo(self) -> None:
        """Puts the weights back, bit for bit, to the start of the line."""
        if self._eta != 0.0:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, self._base)
            self._eta, self._here = 0.0, self._start


def _add(weights: list[Tensor], directions: list[Tensor], eta: float) -> None:
    if all(abs(eta) <= torch.finfo(weight.dtype).max for weight in weights):
        torch._foreach_add_(weights, directions, alpha=eta)
        return
    # torch refuses a factor that the weights' precision has no number for, though the product may have one.
    for weight, part in zip(weights, directions, strict=True):
        weight.add_((part.to(torch.float64) * eta).to(weight.dtype))
