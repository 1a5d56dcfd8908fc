"""Objectives made of the Hessian H of the primary loss: moves that aim at flatter or at sharper points.

They ask the third open question of arXiv 2502.11362: what else than the gradient norm is worth climbing? Products are
over all trainable parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from teleport_engine.objective.gradient import Gradient, Measured

__all__ = ["GradCurvature"]


def _sign(aim: str) -> float:
    if aim not in ("sharper", "flatter"):
        raise ValueError(f"aim must be 'sharper' or 'flatter', got {aim!r}")
    return 1.0 if aim == "sharper" else -1.0


@final
@dataclass(frozen=True)
class GradCurvature:
    """`F = +- q`, `q = g^T H g / g^T g`: the curvature along the gradient, ascended or descended.

    With `T` the third derivative, `grad q = (T(g, g) + 2 H (H g) - 2 q H g) / ||g||^2`: one product with the Hessian
    for the value, one backward through it for the direction. Growth by rho is a change of q by
    `(rho - 1) |q|`, in the direction of the aim: q may have either sign, and may change it.

    Args:
        aim: "sharper" climbs q, "flatter" climbs -q; anything else is a ValueError.
    """

    aim: Literal["sharper", "flatter"] = "flatter"

    def __post_init__(self) -> None:
        _sign(self.aim)

    @property
    def needs_hessian(self) -> bool:
        """The value is made with the Hessian."""
        return True

    def measure(self, gradient: Gradient) -> Measured:
        """Evaluates `+- q`; 0 and flat where the gradient is zero."""
        square, sign = gradient.square_norm, _sign(self.aim)
        if square == 0.0:
            return Measured(0.0, 0.0)
        vector = [grad.detach() for grad in gradient.values]
        product = gradient.times_hessian(vector)
        q = _dot(vector, product) / square
        scale = sign / square
        cotangents = [scale * v for v in vector]
        cotangents += [2.0 * scale * (h.detach() - q * v) for h, v in zip(product, vector, strict=True)]
        return Measured(sign * q, 0.0, [*product, *gradient.values], cotangents)

    def rise(self, value: float, rho: float) -> float:
        """Gives `(rho - 1) |F|`."""
        return (rho - 1.0) * abs(value)


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Multiplies two vectors over the parameters, added up in float64; one synchronisation for all."""
    if not left:
        return 0.0
    parts = [torch.sum(a * b.detach(), dtype=torch.float64) for a, b in zip(left, right, strict=True)]
    return float(torch.stack(parts).sum())
