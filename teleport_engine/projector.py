"""What is left of a gradient when a move must not touch the layer's inputs."""

from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from teleport_engine.subspace import Subspace

__all__ = ["BlockProjector", "IdentityProjector", "NullSpaceProjector", "Projector"]


class Projector(Protocol):
    """An orthogonal projection of the rows of a matrix: `P^2 = P = P^T`."""

    def project(self, matrix: Tensor) -> Tensor:
        """Projects each row.

        Args:
            matrix: `M [rows, d]`.

        Returns:
            `M P [rows, d]`, a new tensor.
        """
        ...


@final
class NullSpaceProjector:
    """`M -> M (I - B B^T)`, the null-space projection of arXiv 2502.11362 (RGS); no `d x d` matrix is formed.

    One pass leaves a part in the span of the order of rounding times `||M||`: where most of `M` lies in the span,
    that is not small beside `||M P||`, and a second pass is worth its price (twice is enough).

    Args:
        subspace: the input subspace, in float64.
        dtype: what the matrices to project are in.
    """

    def __init__(self, subspace: Subspace, dtype: torch.dtype) -> None:
        self._is_complement = subspace.complement is not None
        kept = subspace.basis if subspace.complement is None else subspace.complement
        self._frame = kept.to(dtype)

    def project(self, matrix: Tensor) -> Tensor:
        """Projects each row on the null space of the inputs.

        Args:
            matrix: `M [rows, d]`.

        Returns:
            `M P [rows, d]`, a new tensor.
        """
        if self._is_complement:
            return (matrix @ self._frame) @ self._frame.T
        return torch.addmm(matrix, matrix @ self._frame, self._frame.T, alpha=-1.0)


@final
class IdentityProjector:
    """Leaves everything: the control without a null space."""

    def project(self, matrix: Tensor) -> Tensor:
        """Copies the matrix.

        Args:
            matrix: `M [rows, d]`.

        Returns:
            `M [rows, d]`, a new tensor.
        """
        return matrix.clone()


@final
class BlockProjector:
    """One projection per row block of a weight.

    Args:
        parts: per block; the same object where blocks share their inputs.
    """

    def __init__(self, parts: Sequence[Projector]) -> None:
        self._parts = parts

    def project(self, matrix: Tensor) -> Tensor:
        """Projects the rows of each block.

        Args:
            matrix: `M [g, rows, d]`.

        Returns:
            `[M_b P_b]`, `[g, rows, d]`, a new tensor.
        """
        return torch.stack([part.project(block) for part, block in zip(self._parts, matrix, strict=True)])
