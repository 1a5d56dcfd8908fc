"""The ascent direction of the objective: the seam, and the route that is always valid.

With `g = dL/dW` over all trainable parameters, the gradient of `1/2 ||g||^2` is `Hg`: a second backward through the
gradient. Objectives made of the Hessian need a third. The cheaper route of `tau = 1` is in
`teleport_engine.objective.forward_mode`.
"""

from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from teleport_engine.model import SECOND_BACKWARD, THIRD_BACKWARD, Product, WeightLayer, unrolled_grad
from teleport_engine.objective.problem import Evaluation, Problem, Record, added

__all__ = ["DoubleBackwardRoute", "Route"]


class Route(Protocol):
    """A way to the ascent direction.

    Attributes:
        fault: why another route than the one asked for was taken; empty where none was.
    """

    fault: str

    @property
    def name(self) -> str:
        """The route really taken, as in `TeleportReport.route`."""

    def evaluate(self, *, is_last: bool) -> Evaluation:
        """Evaluates loss, gradient and objective at the present weights; no `ascent` follows where it `is_last`."""

    def finish(self, record: Record) -> Evaluation:
        """Evaluates from a forward already run, which watched the live layers.

        Raises:
            ValueError: if it is found to be random.
        """

    def ascent(self, evaluation: Evaluation) -> list[Product]:
        """Gives the direction before projection: per live layer, `M [g, o, d]` with `M P = (grad F) P`."""


@final
class DoubleBackwardRoute:
    """`Hg` by a second backward through the gradient: valid for any subspace and any objective.

    Objectives made of the Hessian take one backward more, through their products with it.
    """

    def __init__(self, problem: Problem, layers: Sequence[WeightLayer]) -> None:
        self._problem = problem
        self._layers = layers
        self.fault = ""

    @property
    def name(self) -> str:
        """The route taken."""
        return "triple_backward" if self._problem.objective.needs_hessian else "double_backward"

    def evaluate(self, *, is_last: bool) -> Evaluation:
        """Evaluates at the present weights, with the graph of the gradient."""
        return self._problem.differentiate(self._problem.record(()), with_graph=not is_last)

    def finish(self, record: Record) -> Evaluation:
        """Evaluates from a forward already run; a second one tells whether it is random.

        Raises:
            ValueError: if it is.
        """
        if self._layers:
            self._problem.refuse_random(record)
        return self._problem.differentiate(record, with_graph=True)

    def ascent(self, evaluation: Evaluation) -> list[Product]:
        """Gives `(grad F)_l [g, o, d]` of each live layer."""
        # The vector of Hg is g itself, so no graph of ||g||^2 is needed.
        measured = evaluation.measured
        pulled = list(zip(measured.outputs, measured.cotangents, strict=True))
        if measured.rate:
            pulled += [(grad, measured.rate * grad.detach()) for grad in evaluation.grads if grad is not None]
        pulled = [(output, cotangent) for output, cotangent in pulled if output.requires_grad]
        parameters = [one for layer in self._layers for group in layer.trained for one in group]
        found: Sequence[Tensor | None] = [None] * len(parameters)
        if pulled:
            outputs, cotangents = zip(*pulled, strict=True)
            with self._problem.backward(evaluation.left):
                found = unrolled_grad(outputs, parameters, cotangents, allow_unused=True)
            self._problem.num_gradient_evaluations += THIRD_BACKWARD if measured.outputs else SECOND_BACKWARD
        parts = iter(
            torch.zeros_like(parameter) if part is None else part.detach()
            for parameter, part in zip(parameters, found, strict=True)
        )
        return [
            # Copies of a weight move together, each by its own gradient.
            Product(None, layer.matrix([added(parts, len(group)) for group in layer.trained]))
            for layer in self._layers
        ]
