"""The input subspace of a layer: what its weight multiplies, and how much of it must be kept.

A move `D` of a weight leaves the layer's outputs alone exactly when `X D^T = 0`. So the basis of the row space
of `X` is all that a teleport needs to know about a layer. Source: arXiv 2502.11362, with the core gradient
space of gradient projection memory (arXiv 2103.09762); the rank rule and its thresholds are this project's.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from teleport_engine.nullspace.gram import GRAM_EPSILON, eigenpairs, eigenvalues

__all__ = ["Subspace", "double_epsilon", "tail_rank", "tail_ranks"]

_ORTHONORMAL = 1e-13
# Rows whose Gram matrix has no eigenvalue below this share of its trace have a condition of at most 1e4: what the
# triangular solve with its Cholesky factor loses of them is below 1e-12, and its columns are orthonormal to 1e-8.
_WELL_CONDITIONED = 1e-8


def double_epsilon(num_rows: int, dim: int) -> float:
    """Gives the relative energy that a QR or an SVD in float64 cannot tell from rounding: `(max(N, d) 2^-52)^2`."""
    return float((max(num_rows, dim) * torch.finfo(torch.float64).eps) ** 2)


def tail_ranks(energies: Tensor, tau: float, epsilon: float = GRAM_EPSILON) -> list[int]:
    """Gives the `tail_rank` of several spectra `[b, m]` at once."""
    if energies.shape[1] == 0:
        return [0] * energies.shape[0]
    tails = energies.clamp_min(0.0).flip(1).cumsum(1)
    ranks: list[int] = (tails > max(1.0 - tau, epsilon) * tails[:, -1:]).sum(1).tolist()
    return ranks


def tail_rank(energies: Tensor, tau: float, epsilon: float = GRAM_EPSILON) -> int:
    """The fewest leading directions that hold a share `tau` of the energy.

    `k = #{i : sum_{j >= i} lambda_j > max(1 - tau, epsilon) * sum lambda}`, with the sums taken from the small
    end. Summed from the large end and compared with 1.0, rounding would decide the rank.

    Args:
        energies: squared singular values `[m]` in float64, largest first; rounding below zero counts as zero.
        tau: share of the energy to hold, in (0, 1].
        epsilon: relative energy that counts as zero.

    Returns:
        The rank, from 0 (no energy at all) to `m`.

    Examples:
        >>> tail_rank(torch.tensor([9.0, 0.9, 0.1], dtype=torch.float64), tau=0.99)
        2
        >>> tail_rank(torch.tensor([4.0, 1.0, 1e-20], dtype=torch.float64), tau=1.0)
        2
    """
    return tail_ranks(energies[None], tau, epsilon)[0]


@final
@dataclass(frozen=True, eq=False)
class Subspace:
    """An orthonormal basis of the leading inputs of one layer.

    Args:
        basis: `B [d, k]`, orthonormal columns, float64; leading directions first where `tau < 1`.
        energies: squared singular values `[min(d, N)]` of the inputs, largest first, float64; the leading ones, as
            far as they are known, where `energy` is given.
        tau: the share of energy asked for.
        complement: `[d, d - k]`, an orthonormal basis of the null space where the factorisation gave it for
            nothing and it is the smaller of the two; else None.
        energy: `||X||^2`; None where it is the sum of `energies`.
    """

    basis: Tensor
    energies: Tensor
    tau: float
    complement: Tensor | None = None
    energy: float | None = None

    @classmethod
    def full(cls, dim: int, energies: Tensor, tau: float) -> "Subspace":
        """Gives the whole space, on the device of `energies`; its basis takes `O(d)` memory.

        `energies` are as far as they are known: `[0]` where full rank was proven without them.
        """
        # The unit vectors in reverse order: a view of 2 d - 1 numbers.
        line = energies.new_zeros(max(0, 2 * dim - 1))
        line[dim - 1 : dim] = 1.0
        return cls(line.as_strided((dim, dim), (1, 1)), energies, tau)

    @classmethod
    def from_rows(cls, rows: Tensor, tau: float, *, with_energies: bool = True) -> "Subspace":
        """The subspace of inputs given as rows.

        The rank is read from the Gram matrix of the smaller side, in float64. The basis comes from the cheapest
        factorisation that is accurate here: none where the inputs fill the space; where all rows are independent, one
        triangular solve with the Cholesky factor of their Gram matrix if that is well conditioned, else a QR;
        the eigenvectors of the Gram matrix otherwise. At `tau = 1` these must pass the certificate
        `||P R|| / ||R|| <= 1e-10` (5e-7 for float32 inputs), or else a QR and the SVD of its triangle take over,
        which see directions down to the rounding of float64.

        Args:
            rows: inputs `X [N, d]`, float32 or float64, any device.
            tau: share of the energy to hold, in (0, 1].
            with_energies: whether the energies are wanted, which cost more than the basis where all rows are
                independent; without them `energies` may be empty.

        Returns:
            The subspace, on the device of `rows`.

        Raises:
            ValueError: if `tau` is outside (0, 1], `rows` is not `[N, d]`, or a value is not finite.

        Examples:
            >>> subspace = Subspace.from_rows(torch.eye(4)[:2], tau=1.0)
            >>> subspace.rank, subspace.null_dim
            (2, 2)
        """
        if not 0.0 < tau <= 1.0:
            raise ValueError(f"tau must lie in (0, 1], got {tau}")
        if rows.ndim != 2:
            raise ValueError(f"rows must be a matrix [N, d], got shape {tuple(rows.shape)}")
        epsilon = double_epsilon(*rows.shape) if rows.dtype == torch.float64 else GRAM_EPSILON
        rows = rows.detach().to(torch.float64)
        count, dim = rows.shape
        gram = rows.T @ rows if count >= dim else rows @ rows.T
        # A sum of squares: one value that is not finite shows here, and eigh would raise on it.
        total = float(gram.diagonal().sum())
        if not math.isfinite(total):
            raise ValueError("rows must be finite (and their squares too), got nan or inf")
        if total == 0.0:
            return cls(rows.new_zeros(dim, 0), rows.new_zeros(min(dim, count)), tau)
        if tau < 1.0:
            return cls._from_gram(rows, gram, tau)
        found = None if with_energies or count >= dim else cls._independent(rows, gram, total)
        return found or cls._whole(rows, gram, epsilon)

    @classmethod
    def _independent(cls, rows: Tensor, gram: Tensor, total: float) -> "Subspace | None":
        """Takes what fewer rows than columns span if they are safely independent; None where that is not seen.

        With `X X^T = L L^T`, the rows of `L^-1 X` are orthonormal (CholeskyQR, Yamamoto et al. 2015), and a Newton
        step squares what rounding has left.
        """
        shifted = gram.clone()
        shifted.diagonal().sub_(_WELL_CONDITIONED * total)
        if int(torch.linalg.cholesky_ex(shifted).info) != 0:
            return None
        factor = torch.linalg.cholesky_ex(gram).L
        basis = torch.linalg.solve_triangular(factor, rows, upper=False).T
        return cls(_orthonormal(basis), rows.new_zeros(0), 1.0, energy=total)

    @classmethod
    def _whole(cls, rows: Tensor, gram: Tensor, epsilon: float) -> "Subspace":
        """Takes all that the rows span, by the cheapest factorisation that is accurate."""
        count, dim = rows.shape
        energies = eigenvalues(gram).flip(0).clamp_min(0.0)
        rank = tail_rank(energies, 1.0)
        if rank == dim:
            return cls.full(dim, energies, 1.0)
        if rank == count:
            return cls(torch.linalg.qr(rows.T).Q, energies, 1.0)
        if count >= dim:
            found = cls._from_gram(rows, gram, 1.0)
            if found.leak(rows) <= max(1e-10, 1.6 * math.sqrt(epsilon)):
                return found
        return cls._from_triangle(rows, epsilon)

    @classmethod
    def _from_gram(cls, rows: Tensor, gram: Tensor, tau: float) -> "Subspace":
        """Takes the eigenvectors of the Gram matrix of the smaller side."""
        rising, vectors = eigenpairs(gram)
        energies = rising.flip(0).clamp_min(0.0)
        rank = tail_rank(energies, tau)
        count, dim = rows.shape
        split = gram.shape[0] - rank
        if count >= dim:  # all of them are there, so the complement costs nothing
            complement = vectors[:, :split].contiguous() if 2 * rank > dim else None
            return cls(vectors[:, split:].flip(1).contiguous(), energies, tau, complement)
        # X^T V / sigma is orthonormal up to rounding times the condition of the Gram matrix.
        return cls(_orthonormal(rows.T @ (vectors[:, split:].flip(1) / energies[:rank].sqrt())), energies, tau)

    @classmethod
    def _from_triangle(cls, rows: Tensor, epsilon: float) -> "Subspace":
        """Takes what the rows span by QR of the thin side and the SVD of its triangle, accurate at any condition."""
        count, dim = rows.shape
        if count >= dim:
            return cls.from_factor(torch.linalg.qr(rows, mode="r").R, 1.0, epsilon)
        frame, triangle = torch.linalg.qr(rows.T)
        left, sigma, _ = torch.linalg.svd(triangle, full_matrices=False)
        rank = tail_rank(sigma.square(), 1.0, epsilon)
        return cls(frame @ left[:, :rank], sigma.square(), 1.0)

    @classmethod
    def from_factor(cls, factor: Tensor, tau: float, epsilon: float) -> "Subspace":
        """Gives the subspace of inputs whose factor `R [m, d]`, `R^T R = X^T X`, is known from a QR, in float64.

        Relative energies below `epsilon` count as zero.
        """
        _, sigma, right_t = torch.linalg.svd(factor, full_matrices=False)
        energies = sigma.square()
        rank = tail_rank(energies, tau, epsilon)
        return cls(right_t[:rank].T.contiguous(), energies, tau)

    @property
    def dim(self) -> int:
        """`d`, the number of inputs of the layer."""
        return self.basis.shape[0]

    @property
    def rank(self) -> int:
        """`k`, the number of directions that a move must leave alone."""
        return self.basis.shape[1]

    @property
    def null_dim(self) -> int:
        """`d - k`, the number of directions in which the weight may move."""
        return self.dim - self.rank

    def leak(self, rows: Tensor) -> float:
        """Gives the share of inputs `X [N, d]` outside the subspace, `||P X|| / ||X||` (Frobenius); 0 for zeros."""
        rows = rows.detach().to(torch.float64)
        total = float(torch.linalg.vector_norm(rows))
        if total == 0.0:
            return 0.0
        outside = rows - (rows @ self.basis) @ self.basis.T
        return float(torch.linalg.vector_norm(outside)) / total

    def energy_curve(self) -> Tensor:
        """Gives the share of the energy held by the first 1, 2, ... directions (figure 6a of arXiv 2502.11362).

        It is `[min(d, N)]` in float64, non-decreasing, and ends at 1 (zeros without energy); shorter where only
        the leading energies are known.
        """
        total = self._total
        return self.energies.cumsum(0) / total if total > 0.0 else torch.zeros_like(self.energies)

    @property
    def captured(self) -> float:
        """Share of the energy inside, `||X B||^2 / ||X||^2`: at least `tau`, to rounding; 1 where there is none."""
        if self.null_dim == 0 or self._total == 0.0 or len(self.energies) == 0:
            return 1.0
        return float(self.energies[: self.rank].sum()) / self._total

    @property
    def stable_rank(self) -> float | None:
        """`||X||^2 / ||X||_2^2`, how slowly the energies decay; 0 without energy, None where none are known."""
        if len(self.energies) == 0:
            return None
        largest = float(self.energies[0])
        return self._total / largest if largest > 0.0 else 0.0

    @property
    def _total(self) -> float:
        return float(self.energies.sum()) if self.energy is None else self.energy


def _orthonormal(basis: Tensor) -> Tensor:
    """Makes nearly orthonormal columns orthonormal: a Newton step squares what is missing, at half a QR's price."""
    inside = basis.T @ basis
    gap = inside - torch.eye(len(inside), dtype=inside.dtype, device=inside.device)
    missing = float(gap.abs().max()) if len(inside) else 0.0
    if missing <= _ORTHONORMAL:
        return basis
    is_close = missing * len(inside) <= 1e-8
    return basis - 0.5 * basis @ gap if is_close else torch.linalg.qr(basis).Q
