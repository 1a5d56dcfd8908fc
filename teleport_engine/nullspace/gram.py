"""Inputs added up part by part, so that memory does not grow with their number.

While there are fewer rows than columns the rows themselves are kept, for the smaller side is then theirs; from
there on only `X^T X` is, in float64: in float32 a basis taken from it leaks 5e-3 of the inputs at condition 1e3.
"""

from typing import final

import torch
from torch import Tensor

__all__ = ["GRAM_EPSILON", "Gram", "Triangle", "eigenpairs", "eigenvalues"]

GRAM_EPSILON = 1e-13
"""Relative energy below which a Gram matrix in float64, or an input in float32, cannot be told from rounding."""


# From this many columns, what lies below the diagonal is left out of the products: a third of the time at 576.
_WIDE = 256


def _strip(dim: int) -> int:
    """Columns of one strip of the upper triangle."""
    return dim if dim < _WIDE else -(-dim // 4)


@final
class Gram:
    """The inputs of some row blocks, or the sum of their outer products.

    Attributes:
        num_rows: `N`, rows added so far.
        is_double: whether all of them came in float64.
        proof: a lower bound, seen by `exceeds`, of the smallest eigenvalue of every block's `X^T X`; it only grows
            with more rows. 0 where none is known.
    """

    def __init__(self) -> None:
        self.num_rows = 0
        self.is_double = True
        self.proof = 0.0
        self._rows: list[Tensor] = []
        self._sums: Tensor | None = None
        self._is_mirrored = True

    def add(self, chunk: Tensor) -> None:
        """Adds rows `[b, m, d]`, the same number for each block.

        Raises:
            ValueError: if it is not `[b, m, d]`, or not of the blocks and columns of those before.
        """
        if chunk.ndim != 3:
            raise ValueError(f"a chunk must be [b, m, d], got shape {tuple(chunk.shape)}")
        chunk = chunk.detach()
        known = self._sums if self._sums is not None else self._rows[0] if self._rows else chunk
        if (known.shape[0], known.shape[2]) != (chunk.shape[0], chunk.shape[2]):
            raise ValueError(f"a chunk of shape {tuple(chunk.shape)} does not go with {tuple(known.shape)} before it")
        self.num_rows += chunk.shape[1]
        self.is_double &= chunk.dtype == torch.float64
        if self._sums is None:
            self._rows.append(chunk)
            if self.num_rows < chunk.shape[2]:
                return
            self._sums = chunk.new_zeros(chunk.shape[0], chunk.shape[2], chunk.shape[2], dtype=torch.float64)
        parts, self._rows = self._rows or [chunk], []
        for part in parts:
            wide = part.to(torch.float64)
            for start in range(0, wide.shape[2], step := _strip(wide.shape[2])):
                stop = start + step
                self._sums[:, start:stop, start:].baddbmm_(wide[:, :, start:stop].mT, wide[:, :, start:])
        self._is_mirrored = False

    @property
    def rows(self) -> Tensor | None:
        """`X [b, N, d]` where `N < d`, else None."""
        if self._sums is not None or not self._rows:
            return None
        if len(self._rows) > 1:
            self._rows = [torch.cat(self._rows, 1)]
        return self._rows[0]

    @property
    def sums(self) -> Tensor | None:
        """`X^T X [b, d, d]` in float64 where `N >= d`, else None."""
        if self._sums is not None and not self._is_mirrored:
            upper = self._sums.triu_()
            upper += upper.triu(1).mT
            self._is_mirrored = True
        return self._sums

    @property
    def energy(self) -> Tensor:
        """`||X||^2 [b]` in float64; not finite where a value, or its square, is not."""
        if self._sums is not None:
            return self._sums.diagonal(dim1=-2, dim2=-1).sum(-1)
        rows = self.rows
        if rows is None:
            return torch.zeros(1, dtype=torch.float64)
        return rows.to(torch.float64).square().sum((1, 2))

    def exceeds(self, bound: float) -> bool:
        """Says whether every eigenvalue of every block's `X^T X` is seen to exceed a bound; notes it in `proof`.

        By a Cholesky factorisation of `X^T X - bound I`, an eighth of the price of the eigenvalues. The bound must be
        at least some `d 2^-52 ||X||^2`, the rounding of the factorisation.
        """
        if self._sums is None:
            return False
        shifted = self._sums.clone()
        shifted.diagonal(dim1=-2, dim2=-1).sub_(bound)
        if bool((torch.linalg.cholesky_ex(shifted, upper=True).info == 0).all()):
            self.proof = max(self.proof, bound)
        return self.proof >= bound


@final
class Triangle:
    """The triangle of a QR factorisation, updated by each part: `R^T R = X^T X` without squaring anything.

    Dearer than a Gram matrix, but it sees directions down to the rounding of float64.

    Attributes:
        num_rows: `N`, rows added so far.
    """

    def __init__(self) -> None:
        self.num_rows = 0
        self._factor: Tensor | None = None

    def add(self, chunk: Tensor) -> None:
        """Adds rows `[b, m, d]`."""
        wide = chunk.detach().to(torch.float64)
        self.num_rows += chunk.shape[1]
        stacked = wide if self._factor is None else torch.cat([self._factor, wide], 1)
        self._factor = torch.linalg.qr(stacked, mode="r").R

    @property
    def factor(self) -> Tensor:
        """`R [b, min(N, d), d]` in float64, with the singular values and right singular vectors of `X`."""
        assert self._factor is not None, "nothing was added"
        return self._factor


def eigenpairs(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of Gram matrices, whatever LAPACK makes of them.

    Its divide and conquer gives up now and then on a matrix with many equal eigenvalues, as the Gram matrix of fewer
    samples than inputs is (seen on patches, d = 576, N = 256). The singular vectors of a positive semidefinite matrix
    are its eigenvectors, by another algorithm.

    Args:
        gram: `[..., d, d]`, symmetric and positive semidefinite to rounding, finite.

    Returns:
        Eigenvalues `[..., d]`, smallest first, and eigenvectors `[..., d, d]`, as columns.
    """
    try:
        values, vectors = torch.linalg.eigh(gram)
    except RuntimeError:  # torch's LinAlgError, which it does not export
        vectors, values, _ = torch.linalg.svd(gram)
        values, vectors = values.flip(-1), vectors.flip(-1)
    return values, vectors


def eigenvalues(gram: Tensor) -> Tensor:
    """Gives the eigenvalues alone, smallest first, at a fraction of the price of `eigenpairs`."""
    try:
        values: Tensor = torch.linalg.eigvalsh(gram)
    except RuntimeError:
        values = torch.linalg.svdvals(gram).flip(-1)
    return values
