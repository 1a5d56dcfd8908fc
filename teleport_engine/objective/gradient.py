"""What a teleport climbs: functions F of the weights, made from the gradient g of the primary loss and its Hessian H.

The seam, and the functions of the gradient norm alone: the paper's (arXiv 2502.11362) is half its square. Norms and
products are over all trainable parameters, those that never move included. Objectives made of the Hessian are in
`teleport_engine.objective.curvature`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn

from teleport_engine.model import unrolled_grad

__all__ = ["GradNorm", "Gradient", "LogGradNorm", "Measured", "Objective"]

_TINY = 5e-324


@final
class Gradient:
    """The gradient at the present weights, with the graph that products with the Hessian go through.

    Args:
        parameters: all trainable parameters.
        grads: `g`, aligned with them; None where the loss does not depend on one.
        square_norm: `||g||^2`.

    Attributes:
        num_products: products with the Hessian taken so far.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], grads: Sequence[Tensor | None], square_norm: float) -> None:
        self._used = [(p, grad) for p, grad in zip(parameters, grads, strict=True) if grad is not None]
        self.square_norm = square_norm
        self.num_products = 0

    @property
    def values(self) -> list[Tensor]:
        """`g`, with its graph, for the parameters that the loss depends on."""
        return [grad for _, grad in self._used]

    def times_hessian(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """Gives `H v`, with its graph, by a second backward through the gradient; `v` is aligned with `values`."""
        self.num_products += 1
        through = [(grad, vector) for (_, grad), vector in zip(self._used, vectors, strict=True) if grad.requires_grad]
        if not through:
            return [torch.zeros_like(grad) for grad in self.values]
        outputs, cotangents = zip(*through, strict=True)
        return list(
            unrolled_grad(outputs, [p for p, _ in self._used], cotangents, create_graph=True, materialize_grads=True)
        )


@final
@dataclass(frozen=True, eq=False)
class Measured:
    """The value of an objective, and what its gradient is made of.

    `grad F = rate H g + sum_i (d output_i / dW)^T cotangent_i`: the pullback of some cotangents through outputs that
    have their graph. Where there are no outputs, any way to `H g` serves, the cheap one of `tau = 1` too.

    Args:
        value: `F`.
        rate: `dF / d(1/2 ||g||^2)`.
        outputs: tensors with their graph.
        cotangents: aligned with them, without a graph.
    """

    value: float
    rate: float
    outputs: Sequence[Tensor] = field(default=())
    cotangents: Sequence[Tensor] = field(default=())


@runtime_checkable
class Objective(Protocol):
    """A function F of the weights to climb. Anything with these members may be given as `objective=`.

    To descend a function, climb its negative: the step rules see F alone, and along the projected gradient of F,
    F rises at first.
    """

    @property
    def needs_hessian(self) -> bool:
        """Whether `measure` takes products with the Hessian: then every evaluation keeps the gradient's graph."""

    def measure(self, gradient: Gradient) -> Measured:
        """Evaluates F from the gradient at the present weights: its value, and what its gradient is made of."""

    def rise(self, value: float, rho: float) -> float:
        """Says by how much F, now `value`, rises where it "grows by the factor rho" (`GrowthStep`).

        The rise is >= 0; it is 0 where growth by a factor means nothing there.
        """


@final
@dataclass(frozen=True)
class GradNorm:
    """`F = 1/2 ||g||^2`, the paper's. Its gradient is `H g`."""

    @property
    def needs_hessian(self) -> bool:
        """The gradient is enough."""
        return False

    def measure(self, gradient: Gradient) -> Measured:
        """Evaluates `1/2 ||g||^2`, rate 1."""
        return Measured(0.5 * gradient.square_norm, 1.0)

    def rise(self, value: float, rho: float) -> float:
        """Gives `(rho - 1) F`: `||g||^2` times rho."""
        return (rho - 1.0) * value


@final
@dataclass(frozen=True)
class LogGradNorm:
    """`F = log ||g||`, whose gradient `H g / ||g||^2` does not depend on the scale of the loss.

    The direction is the paper's. A `FixedStep` means the same at every scale: to first order, eta adds
    `eta ||D||^2` to `log ||g||`. Growth by rho means what it means for `GradNorm`: `||g||^2` times rho.
    """

    @property
    def needs_hessian(self) -> bool:
        """The gradient is enough."""
        return False

    def measure(self, gradient: Gradient) -> Measured:
        """Evaluates `log ||g||`, rate `1 / ||g||^2`; rate 0 where the gradient is zero."""
        square = gradient.square_norm
        value = 0.5 * math.log(max(square, _TINY)) if square == square else math.nan
        return Measured(value, 1.0 / square if square > 0.0 else 0.0)

    def rise(self, value: float, rho: float) -> float:
        """Gives `1/2 log rho`: `||g||^2` times rho."""
        return 0.5 * math.log(rho)
