"""From inputs added up to the subspace of each row block, by the cheapest factorisation that can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

from teleport_engine.nullspace.gram import GRAM_EPSILON, Gram, Triangle, eigenpairs
from teleport_engine.nullspace.randomised import leading_vectors
from teleport_engine.nullspace.subspace import Subspace, double_epsilon, tail_rank, tail_ranks
from teleport_engine.nullspace.tau import Lowering

__all__ = ["AUTO_SIZE", "Factorisation", "Settings", "from_triangle", "is_unsure", "lowered", "subspaces"]

Factorisation: TypeAlias = Literal["exact", "randomised", "auto"]

AUTO_SIZE = 512
"""Smaller side, `min(d, N)`, from which "auto" tries the randomised factorisation first.

Measured on one CPU core at `tau = 0.99` (benchmarks/engine_subspace.py), in times of the exact factorisation: from a
fresh start 0.45 at 512 and 0.18 at 1,024 where an eighth of the directions or fewer hold enough, and 0.3 on top of it
where more than a quarter are needed and it gives up; below 512 the saving is a few milliseconds.
"""

# Closer to 1, what is left out is of the order of the rounding of the sums.
_CLOSEST_TAU = 1.0 - 1e-6
_SMALLEST = 16
_WIDEST_SHARE = {"randomised": 0.5, "auto": 0.25}


@final
@dataclass(frozen=True)
class Settings:
    """How inputs are factorised.

    Args:
        tau: share of the energy to hold, in (0, 1].
        kind: "exact", "randomised" where `tau < 1`, or "auto": randomised where the smaller side has `AUTO_SIZE`.
        with_energies: all energies are wanted, so nothing may be skipped or sketched.
        with_facts: a rule looks at the energies of the layers whose inputs are fewer than their columns.
    """

    tau: float
    kind: Factorisation = "exact"
    with_energies: bool = False
    with_facts: bool = False

    def sketches(self, size: int) -> bool:
        """Says whether the randomised factorisation is to be tried, where the smaller side is `size`."""
        if self.kind == "exact" or self.with_energies or not self.tau <= _CLOSEST_TAU:
            return False
        return size >= (_SMALLEST if self.kind == "randomised" else AUTO_SIZE)


def subspaces(gram: Gram, settings: Settings, starts: Sequence[Tensor] | None = None) -> list[Subspace]:
    """Gives the subspace of each row block; the same object for all where they fill their spaces by proof alone.

    What was added up is finite. `starts` has, per block, a basis `[d, k]` from before, for the randomised
    factorisation.
    """
    rows, sums, tau = gram.rows, gram.sums, settings.tau
    known: Sequence[Tensor | None]
    if rows is not None:
        known = starts or [None] * len(rows)
        return [_from_rows(block, settings, start) for block, start in zip(rows, known, strict=True)]
    assert sums is not None, "nothing was added"
    dim = sums.shape[1]
    if tau == 1.0 and not settings.with_energies:
        # Twice the threshold of the rank rule, and the rounding of the factorisation: what passes has full rank.
        bound = (2.0 * GRAM_EPSILON + dim * 2.0**-52) * float(gram.energy.max())
        if gram.proof > 0.0 or gram.exceeds(bound):
            return [Subspace.full(dim, sums.new_zeros(0), tau)] * sums.shape[0]
    if settings.sketches(dim):
        known = starts or [None] * len(sums)
        found = [_from_sketch(block, settings, start) for block, start in zip(sums, known, strict=True)]
        if None not in found:
            return [one for one in found if one is not None]
    return _from_sums(sums, tau)


def lowered(gram: Gram, lowerings: Sequence[Lowering]) -> list[Subspace]:
    """Gives the subspace of each row block, at `tau = 1` or as far below as its lowering allows.

    Args:
        gram: what was added up, all of it; finite.
        lowerings: one per block.

    Returns:
        One per block; its `tau` is the share of the energy that it holds, or 1.
    """
    rows, sums = gram.rows, gram.sums
    if rows is None:
        assert sums is not None, "nothing was added"
        return [_lowered(block, one) for block, one in zip(sums, lowerings, strict=True)]
    count, dim = rows.shape[1:]
    found = []
    for block, one in zip(rows.to(torch.float64), lowerings, strict=True):
        is_enough = dim - count >= one.rule.asked(dim)
        found.append(Subspace.from_rows(block, 1.0) if is_enough else _lowered(block.mT @ block, one))
    return found


def _lowered(gram: Tensor, lowering: Lowering) -> Subspace:
    """Takes one block's subspace from all eigenvectors of its Gram matrix."""
    rising, vectors = eigenpairs(gram)
    energies, dim = rising.flip(0).clamp_min(0.0), gram.shape[0]
    exact = dim - tail_rank(energies, 1.0)
    split = lowering.null_dim(rising, vectors, exact)
    if split == 0:
        return Subspace.full(dim, energies, 1.0)
    rank, total = dim - split, float(energies.sum())
    tau = 1.0 if split == exact else 1.0 - float(energies[rank:].sum()) / total
    complement = vectors[:, :split].contiguous() if 2 * rank > dim else None
    return Subspace(vectors[:, split:].flip(1).contiguous(), energies, tau, complement)


def _from_rows(rows: Tensor, settings: Settings, start: Tensor | None) -> Subspace:
    """Takes the subspace of fewer rows than columns."""
    if settings.sketches(rows.shape[0]):
        wide = rows.to(torch.float64)
        found = _from_sketch(wide @ wide.mT, settings, None if start is None else wide @ start)
        if found is not None:
            # The rows of V^T X hold all that V holds of the smaller side, and perhaps more.
            return replace(found, basis=torch.linalg.qr(wide.mT @ found.basis).Q)
    return Subspace.from_rows(rows, settings.tau, with_energies=settings.with_energies or settings.with_facts)


def _from_sketch(gram: Tensor, settings: Settings, start: Tensor | None) -> Subspace | None:
    """Takes the leading eigenvectors, certified to hold enough; None where that does not pay."""
    energy = float(gram.diagonal().sum())
    if energy == 0.0:
        return None
    start = None if start is None or start.shape[1] == 0 else start
    found = leading_vectors(gram, settings.tau, start, _WIDEST_SHARE[settings.kind])
    if found is None:
        return None
    basis = found.vectors[:, : found.rank].contiguous()
    return Subspace(basis, found.values.clamp_min(0.0), settings.tau, energy=energy)


def _from_sums(sums: Tensor, tau: float) -> list[Subspace]:
    """Takes the eigenvectors of all blocks' Gram matrices in one call."""
    rising, vectors = eigenpairs(sums)
    energies, dim = rising.flip(1).clamp_min(0.0), sums.shape[1]
    found = []
    for block, rank in enumerate(tail_ranks(energies, tau)):
        if rank == dim:
            found.append(Subspace.full(dim, energies[block], tau))
            continue
        split = dim - rank
        complement = vectors[block, :, :split].contiguous() if 2 * rank > dim else None
        found.append(Subspace(vectors[block, :, split:].flip(1).contiguous(), energies[block], tau, complement))
    return found


def is_unsure(gram: Gram, found: Sequence[Subspace]) -> bool:
    """Says whether a Gram matrix cannot have seen everything that a move must leave alone at `tau = 1`.

    It is blind below 1e-13 of the energy, that is 3e-7 of the inputs: below the rounding of float32 inputs, but not of
    float64 ones. Then a `Triangle` is needed, unless all blocks fill their spaces or the rows themselves were kept.
    """
    if gram.sums is None or not gram.is_double:
        return False
    return any(one.tau == 1.0 and one.null_dim > 0 and one.rank > 0 for one in found)


def from_triangle(triangle: Triangle, tau: float) -> list[Subspace]:
    """Gives the subspace of each row block, seen down to the rounding of float64."""
    factor = triangle.factor
    epsilon = double_epsilon(triangle.num_rows, factor.shape[2])
    return [Subspace.from_factor(block, tau, epsilon) for block in factor]
