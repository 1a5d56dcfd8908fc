"""The leading eigenvectors of a Gram matrix by subspace iteration, with the energy they hold counted exactly.

Source: Halko, Martinsson, Tropp, arXiv 0909.4061; warm start, rank rule and certificate are this project's.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from teleport_engine.nullspace.gram import eigenpairs

__all__ = ["Sketch", "leading_vectors"]


@final
@dataclass(frozen=True, eq=False)
class Sketch:
    """Orthonormal vectors that hold the share of the energy asked for.

    Args:
        values: `theta_i = v_i^T G v_i [w]`, largest first.
        vectors: `V [m, w]`.
        rank: the fewest leading ones whose `theta` add up to the share.
        num_products: products `G Q` that it took.
    """

    values: Tensor
    vectors: Tensor
    rank: int
    num_products: int


def leading_vectors(gram: Tensor, tau: float, start: Tensor | None = None, max_share: float = 0.25) -> Sketch | None:
    """Iterates until a share `tau` of the energy is inside; with a wider block where it is not.

    `tr(V^T G V)` is the energy inside, exactly, whatever V is: so the answer is certified by what is computed
    anyway. Without a start one more iteration follows the first that holds enough, and further ones while they
    shorten the basis by more than a fiftieth. With one, the first that holds enough with no more vectors than the
    start had is taken. Random numbers come from a generator of its own, the same at each call.

    Args:
        gram: `G [m, m]`, float64, positive semi-definite.
        tau: share of the energy to hold, in (0, 1); of use up to 1 - 1e-6.
        start: `[m, w]`, vectors close to the wanted ones (those of the batch before); need not be orthonormal.
        max_share: gives up where more than this share of the `m` directions would be needed.

    Returns:
        The sketch, or None where it gave up: the exact factorisation is no dearer then.
    """
    size = gram.shape[0]
    widest, total = int(max_share * size), float(gram.diagonal().sum())
    generator = torch.Generator("cpu").manual_seed(0)
    block, last = _first_block(gram, widest, start, generator)
    for count in range(1, 60):
        width = block.shape[1]
        product, values, turn, frame = _iterated(gram, block)
        rank = 1 + int((total - values.cumsum(0) > (1.0 - tau) * total).sum())
        if rank > width:  # not yet; the power step goes on inside the wider block
            if width >= widest:
                return None
            scaled = product / product.norm(dim=0).clamp_min(1e-300)
            more = _drawn(gram, min(width, widest - width), generator) / math.sqrt(size)
            block = torch.cat([scaled, more], 1)
            continue
        is_settled = rank <= last if count == 1 else last - rank <= max(1, rank // 50)
        if is_settled:
            return Sketch(values, frame @ turn, rank, count)
        last = rank
        block = (product @ turn)[:, : min(width, rank + max(8, rank // 8))]
    return None


def _first_block(gram: Tensor, widest: int, start: Tensor | None, generator: torch.Generator) -> tuple[Tensor, float]:
    """Gives the vectors to begin with, and how many of them were known to be enough before."""
    size = gram.shape[0]
    if start is None:
        return _drawn(gram, max(1, min(widest, size // 16)), generator), math.inf
    known = start[:, :size]
    # A few more than were known, to see what has turned up since.
    extra = min(4 + known.shape[1] // 16, size - known.shape[1])
    return torch.cat([known, _drawn(gram, extra, generator)], 1), known.shape[1]


def _iterated(gram: Tensor, block: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gives `G Q`, the eigenvalues of `Q^T G Q` largest first, its eigenvectors, and `Q`, orthonormal."""
    frame = torch.linalg.qr(block).Q
    product = gram @ frame
    inside = frame.mT @ product
    rising, turn = eigenpairs(0.5 * (inside + inside.mT))
    return product, rising.flip(0), turn.flip(1), frame


def _drawn(gram: Tensor, width: int, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(gram.shape[0], width, dtype=gram.dtype, generator=generator, device="cpu")
    return drawn.to(gram.device)
