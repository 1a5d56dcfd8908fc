"""Objectives made of the Hessian H of the primary loss: moves that aim at flatter or at sharper points.

They ask the third open question of arXiv 2502.11362: what else than the gradient norm is worth climbing? Products and
traces are over all trainable parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from teleport_engine.objective.gradient import Gradient, Measured

__all__ = ["GradCurvature", "HutchinsonTrace"]


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
        aim: "sharper" climbs q, "flatter" climbs -q.

    Raises:
        ValueError: if the aim is neither.
    """

    aim: Literal["sharper", "flatter"] = "flatter"

    def __post_init__(self) -> None:
        """Checks the aim.

        Raises:
            ValueError: if it is unknown.
        """
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
        """Growth by rho is a rise of `(rho - 1) |F|`."""
        return (rho - 1.0) * abs(value)


@final
@dataclass(frozen=True)
class HutchinsonTrace:
    """`F = +- mean_i v_i^T H v_i`: Hutchinson's estimate of `tr H`, ascended or descended.

    The vectors `v_i` have entries +1 and -1 and are the same at every evaluation, so that F is one smooth function:
    `grad F = +- mean_i T(v_i, v_i)`. Source: Hutchinson, Communications in Statistics 18 (1989). Growth by rho is a
    change of the estimate by `(rho - 1)` times its absolute value.

    Args:
        aim: "sharper" climbs the trace, "flatter" climbs its negative.
        num_vectors: of the estimate; each costs a product with the Hessian at every evaluation.
        seed: of the vectors; the global random state is not touched.

    Raises:
        ValueError: if the aim is unknown or `num_vectors` < 1.
    """

    aim: Literal["sharper", "flatter"] = "flatter"
    num_vectors: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: if one is out of range.
        """
        _sign(self.aim)
        if not isinstance(self.num_vectors, int) or isinstance(self.num_vectors, bool) or self.num_vectors < 1:
            raise ValueError(f"HutchinsonTrace: num_vectors must be a whole number >= 1, got {self.num_vectors!r}")

    @property
    def needs_hessian(self) -> bool:
        """Yes."""
        return True

    def vectors(self, parameters: Sequence[Tensor]) -> list[list[Tensor]]:
        """The `v_i`, drawn on the CPU: the same on every device.

        Args:
            parameters: whose shapes, types and devices to take.

        Returns:
            Per vector, a tensor of +1 and -1 for each parameter.
        """
        generator = torch.Generator("cpu").manual_seed(self.seed)
        return [
            [
                (2 * torch.randint(2, p.shape, generator=generator, device="cpu") - 1).to(
                    device=p.device, dtype=p.dtype
                )
                for p in parameters
            ]
            for _ in range(self.num_vectors)
        ]

    def measure(self, gradient: Gradient) -> Measured:
        """Evaluates F.

        Args:
            gradient: of the primary loss.

        Returns:
            The signed estimate of the trace.
        """
        share = _sign(self.aim) / self.num_vectors
        value = 0.0
        outputs: list[Tensor] = []
        cotangents: list[Tensor] = []
        for drawn in self.vectors(gradient.parameters):
            vector = gradient.of_used(drawn)
            product = gradient.times_hessian(vector)
            value += share * _dot(vector, product)
            outputs += product
            cotangents += [share * v for v in vector]
        return Measured(value, 0.0, outputs, cotangents)

    def rise(self, value: float, rho: float) -> float:
        """`(rho - 1) |F|`.

        Args:
            value: F.
            rho: growth factor.

        Returns:
            The rise.
        """
        return (rho - 1.0) * abs(value)


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Of two vectors over the parameters, added up in float64; one synchronisation for all."""
    if not left:
        return 0.0
    parts = [torch.sum(a * b.detach(), dtype=torch.float64) for a, b in zip(left, right, strict=True)]
    return float(torch.stack(parts).sum())
