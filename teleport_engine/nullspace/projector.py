"""What is left of a gradient when a move must not touch the layer's inputs."""

from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor, nn

from teleport_engine.model import Product, projection_work
from teleport_engine.nullspace.subspace import Subspace

__all__ = ["BlockProjector", "Projector"]


class Projector(Protocol):
    """An orthogonal projection of the rows of a matrix: `P^2 = P = P^T`."""

    def project(self, matrix: Tensor) -> Tensor:
        """Projects the rows of each block of `M [g, rows, d]`: a new tensor `M P`."""


@final
class BlockProjector:
    """`M_b -> M_b (I - B B^T)` per row block of a weight, the null-space projection of arXiv 2502.11362 (RGS).

    No `d x d` matrix is formed. One pass leaves a part in the span of the order of rounding times `||M||`: where most
    of `M` lies in the span, that is not small beside `||M P||`, and a second pass is worth its price (twice is enough).

    Args:
        subspaces: per block, in float64; the same object where blocks share their inputs.
        dtype: what the matrices to project are in.
    """

    def __init__(self, subspaces: Sequence[Subspace], dtype: torch.dtype) -> None:
        first = subspaces[0]
        distinct = [first] if all(one is first for one in subspaces) else subspaces
        self._is_complement = all(one.complement is not None for one in distinct)
        kept = [one.basis if one.complement is None or not self._is_complement else one.complement for one in distinct]
        width = max(one.shape[1] for one in kept)
        # Columns of zeros do nothing to a projection, so that blocks of different rank go together.
        frames = [nn.functional.pad(one, (0, width - one.shape[1])) for one in kept]
        self._frames = torch.stack(frames).to(dtype)

    def work(self, ascent: Product) -> float:
        """Counts the work of projecting an ascent direction and of multiplying its factors (see `Product.short`)."""
        num_blocks, num_rows, dim = ascent.right.shape
        work = 0.0
        if ascent.left is not None:
            num_outputs = ascent.left.shape[2]
            work, num_rows = float(num_blocks * num_rows * num_outputs * dim), min(num_rows, num_outputs)
        return work + projection_work(num_blocks * num_rows, dim, self._frames.shape[2])

    def project(self, matrix: Tensor) -> Tensor:
        """Projects the rows of each block of `M [g, rows, d]`: a new tensor `M_b P_b`."""
        # One frame for all blocks makes one product of all their rows.
        inside = _times(_times(matrix, self._frames), self._frames.mT)
        return inside if self._is_complement else matrix - inside


def _times(matrix: Tensor, frames: Tensor) -> Tensor:
    return matrix @ frames[0] if frames.shape[0] == 1 else torch.bmm(matrix, frames)
