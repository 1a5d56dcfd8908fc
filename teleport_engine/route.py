"""The ascent direction of half the squared gradient norm: the seam, and the route that is always valid.

With `g = dL/dW` over all trainable parameters, the gradient of `1/2 ||g||^2` is `Hg`: a second backward through the
gradient. The cheaper route of `tau = 1` is in `teleport_engine.tangent`.
"""

from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from teleport_engine.layer_inputs import WeightLayer
from teleport_engine.objective import Evaluation, Problem, Record
from teleport_engine.types import Product

__all__ = ["DoubleBackwardRoute", "Route"]

# In gradients: see TeleportReport.num_gradient_evaluations.
_SECOND_BACKWARD = 2.0


class Route(Protocol):
    """A way to the ascent direction.

    Attributes:
        fault: why another route than the one asked for was taken; empty where none was.
    """

    fault: str

    @property
    def name(self) -> str:
        """The route really taken, as in `TeleportReport.route`."""
        ...

    def evaluate(self, *, is_last: bool) -> Evaluation:
        """Loss and gradient at the present weights.

        Args:
            is_last: no direction will be asked for from here.

        Returns:
            The evaluation, with what `ascent` needs.
        """
        ...

    def finish(self, record: Record) -> Evaluation:
        """As `evaluate`, from a forward already run.

        Args:
            record: the forward, which watched the live layers.

        Returns:
            The evaluation, with what `ascent` needs.
        """
        ...

    def ascent(self, evaluation: Evaluation) -> list[Product]:
        """The direction before projection, at the weights of the evaluation.

        Args:
            evaluation: of the present weights.

        Returns:
            Per live layer, `M [g, o, d]` with `M P = (Hg) P`.
        """
        ...


@final
class DoubleBackwardRoute:
    """`Hg` by a second backward through the gradient: valid for any subspace.

    Args:
        problem: the loss.
        layers: the live layers.
    """

    def __init__(self, problem: Problem, layers: Sequence[WeightLayer]) -> None:
        self._problem = problem
        self._layers = layers
        self.fault = ""

    @property
    def name(self) -> str:
        """The route taken."""
        return "double_backward"

    def evaluate(self, *, is_last: bool) -> Evaluation:
        """Loss and gradient, with the graph of the gradient.

        Args:
            is_last: no direction will be asked for from here.

        Returns:
            The evaluation.
        """
        return self._problem.differentiate(self._problem.record(()), with_graph=not is_last)

    def finish(self, record: Record) -> Evaluation:
        """As `evaluate`, from a forward already run.

        Args:
            record: the forward.

        Returns:
            The evaluation.
        """
        return self._problem.differentiate(record, with_graph=True)

    def ascent(self, evaluation: Evaluation) -> list[Product]:
        """`(Hg)_l` of each live layer.

        Args:
            evaluation: of the present weights.

        Returns:
            Per live layer, `(Hg)_l [g, o, d]`.
        """
        # The vector of the product is g itself, so no graph of ||g||^2 is needed.
        grads = [grad for grad in evaluation.grads if grad is not None and grad.requires_grad]
        parameters = [parameter for layer in self._layers for parameter in layer.parameters]
        found: Sequence[Tensor | None] = [None] * len(parameters)
        if grads:
            vector = [grad.detach() for grad in grads]
            found = torch.autograd.grad(grads, parameters, vector, allow_unused=True)
            self._problem.num_gradient_evaluations += _SECOND_BACKWARD
        parts = iter(
            torch.zeros_like(parameter) if part is None else part.detach()
            for parameter, part in zip(parameters, found, strict=True)
        )
        return [Product(None, layer.matrix([next(parts) for _ in layer.parameters])) for layer in self._layers]
