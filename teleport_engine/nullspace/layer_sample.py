"""What one weight multiplies over all batches of a subspace sample, and the subspaces of its row blocks."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias, final

import torch
from torch import Tensor, nn

from teleport_engine.model import Use, basis_work
from teleport_engine.nullspace.factorise import Settings, from_triangle, is_unsure, lowered, subspaces
from teleport_engine.nullspace.gram import GRAM_EPSILON, Gram, Triangle, eigenvalues
from teleport_engine.nullspace.subspace import Subspace
from teleport_engine.nullspace.tau import LayerTau, Lowering

__all__ = ["LayerSample", "leak"]

_Feed: TypeAlias = list[tuple[Use, slice]]
"""Uses of a weight, and which of a use's blocks."""

# Rows of a part, in elements: enough for a product to run at full speed, few enough to stay in a cache.
_SMALLEST_PART, _LARGEST_PART = 1 << 18, 1 << 21
# Rows of later batches may be this much larger than those of the first before its proof of full rank is void.
_HEADROOM = 4.0


@final
class LayerSample:
    """The inputs of one layer, added up batch by batch in memory that does not grow with them.

    At `tau = 1` the rows are read only until their Gram matrix is seen to have full rank: more rows only raise its
    eigenvalues, and the threshold that they must pass is taken from a bound of the energy of all rows (an input
    appears in a row of patches at most `d` times). Almost every convolution ends so after a few chunks.

    Args:
        num_blocks: of the weight.
        dim: `d`, the columns of a block.
        settings: how the subspaces are taken.
        num_batches: that will come.

    Attributes:
        is_finite: whether all inputs are, and their squares.
        is_used: whether there was any use.
    """

    def __init__(self, num_blocks: int, dim: int, settings: Settings, num_batches: int = 1) -> None:
        self._num_blocks = num_blocks
        self._dim = dim
        self._settings = settings
        self._num_batches = num_batches
        self._grams: list[Gram] = []
        self._triangles: list[Triangle] = []
        self._index: list[tuple[int, int]] = []
        self._bounds: list[float] = []
        self._found: list[list[Subspace]] = []
        self._may_stop = settings.tau == 1.0 and not settings.with_energies
        self._device = torch.device("cpu")
        self.is_finite = True
        self.is_used = False

    def add(self, uses: Sequence[Use]) -> None:
        """Adds the uses of the weight in the forward of one batch; none is allowed.

        Raises:
            ValueError: if the weight's blocks share inputs in another way than in the batch before.
        """
        if not uses or not self.is_finite:
            return
        feeds, index = _feeds(uses, self._num_blocks)
        self._device = uses[0].inputs.device
        if not self.is_used:
            self._index = index
            self._grams = [Gram() for _ in feeds]
            self._bounds = [0.0] * len(feeds)
        elif index != self._index:
            raise ValueError("all batches of a subspace sample must run through the model alike, but they did not")
        self.is_used = True
        for position, feed in enumerate(feeds):
            self._add(position, feed)

    def _add(self, position: int, feed: _Feed) -> None:
        gram = self._grams[position]
        squares = sum(_square_norm(use.inputs) for use, _ in feed) if self._may_stop else 0.0
        self.is_finite = self.is_finite and math.isfinite(squares)
        if not self.is_finite:
            return
        self._bounds[position] += self._dim * squares
        needed = 2.0 * GRAM_EPSILON * self._bounds[position]
        tried = needed if self._num_batches == 1 else needed * self._num_batches * _HEADROOM
        # Ones of a bias are in no input, so their energy is not in the bound.
        may_stop = self._may_stop and squares > 0.0 and not any(use.is_augmented for use, _ in feed)
        due = max(self._dim, gram.num_rows)
        if may_stop and gram.proof >= needed:
            return
        for chunk in _chunks(feed, self._dim):
            gram.add(chunk)
            if may_stop and gram.num_rows >= due:
                if gram.exceeds(tried):
                    return
                due = 2 * gram.num_rows
        if gram.num_rows == 0:
            num_blocks = feed[0][1].stop - feed[0][1].start if feed else 1  # nothing may be sent to one expert of many
            gram.add(torch.zeros(num_blocks, 0, self._dim, device=self._device))
        self.is_finite = self.is_finite and bool(torch.isfinite(gram.energy).all())

    def stable_rank(self) -> float:
        """Gives `||X||^2 / ||X||_2^2`, how slowly energies decay: the mean over row blocks, 0 where all is zero.

        All rows must have been asked for. No subspace is taken.
        """
        of_grams: list[list[float]] = []
        for gram in self._grams:
            rows = gram.rows
            sums = gram.sums if rows is None else rows.to(torch.float64) @ rows.to(torch.float64).mT
            assert sums is not None, "nothing was added"
            largest = eigenvalues(sums)[:, -1] if sums.shape[1] else sums.new_zeros(len(sums))
            of_grams.append(torch.where(largest > 0.0, gram.energy.to(largest.device) / largest, 0.0).tolist())
        found = [of_grams[position][row] for position, row in self._index]
        return sum(found) / len(found)

    def settle(self, tau: LayerTau, starts: Sequence[Tensor] | None = None) -> bool:
        """Takes the subspaces of what was added, and says whether they can be trusted.

        If not, every batch must be gone through once more, by `add_again`, and then `settle_again` called.

        Args:
            tau: share of the energy to hold, in (0, 1]; or how far it may be lowered from 1, with a gradient
                `[g, o, d]`, for which every energy must have been asked for.
            starts: per block a basis from before, for the randomised factorisation.
        """
        lowering = tau if isinstance(tau, Lowering) else None
        self._settings = replace(self._settings, tau=1.0 if isinstance(tau, Lowering) else tau)
        limits = [2.0 * GRAM_EPSILON * bound for bound in self._bounds]
        if any(0.0 < gram.proof < limit for gram, limit in zip(self._grams, limits, strict=True)):
            return False
        self._found = []
        for position, gram in enumerate(self._grams):
            if lowering is not None:
                self._found.append(lowered(gram, self._shares(position, lowering)))
                continue
            own = None
            if starts is not None:
                own = [starts[self._index.index((position, row))] for row in range(_num_rows(self._index, position))]
            self._found.append(subspaces(gram, self._settings, own))
        return not any(is_unsure(gram, found) for gram, found in zip(self._grams, self._found, strict=True))

    def _shares(self, position: int, lowering: Lowering) -> list[Lowering]:
        """Gives row blocks that are found together what they may lose: each its share of the square."""
        found = []
        for row in range(_num_rows(self._index, position)):
            own = [block for block, place in enumerate(self._index) if place == (position, row)]
            allowance = lowering.allowance * math.sqrt(len(own) / self._num_blocks)
            found.append(Lowering(lowering.rule, lowering.gradient[own].flatten(0, 1), allowance))
        return found

    def add_again(self, uses: Sequence[Use]) -> None:
        """Goes through one batch once more, this time down to the rounding of float64."""
        if not uses:
            return
        feeds, _ = _feeds(uses, self._num_blocks)
        self._triangles = self._triangles or [Triangle() for _ in feeds]
        for triangle, feed in zip(self._triangles, feeds, strict=True):
            for chunk in _chunks(feed, self._dim):
                triangle.add(chunk)

    def settle_again(self) -> None:
        """Takes the subspaces of what was added again, but for those that were lowered."""
        again = [from_triangle(triangle, self._settings.tau) for triangle in self._triangles]
        # Nothing was found yet where a proof was void.
        self._found = [
            [new if old.tau == self._settings.tau else old for old, new in zip(before, after, strict=True)]
            for before, after in zip(self._found or again, again, strict=True)
        ]

    @property
    def work(self) -> float:
        """The work of the subspaces that were taken (`teleport_engine.model.price`)."""
        num_readings = 2 if self._triangles else 1
        return sum(
            num_readings * basis_work(gram.num_rows, self._dim, one.rank, len(one.energies))
            for gram, found in zip(self._grams, self._found, strict=False)
            for one in {id(each): each for each in found}.values()
        )

    @property
    def subspaces(self) -> tuple[Subspace, ...]:
        """One per row block, the same object for blocks that multiply the same rows."""
        return tuple(self._found[position][row] for position, row in self._index)


def _square_norm(inputs: Tensor) -> float:
    """Adds up squares in float64, part by part: torch copies whatever it is asked to add up in another precision."""
    parts = torch.split(inputs.detach().reshape(-1), _LARGEST_PART)
    norms = [torch.linalg.vector_norm(part, dtype=torch.float64) for part in parts]
    return float(torch.stack(norms).square().sum())


def _num_rows(index: Sequence[tuple[int, int]], position: int) -> int:
    return 1 + max(row for other, row in index if other == position)


def _feeds(uses: Sequence[Use], num_blocks: int) -> tuple[list[_Feed], list[tuple[int, int]]]:
    """Says what is added up together, and for each block, in which of these it is found and at which place."""
    if all(use.num_blocks == num_blocks for use in uses):
        if all(use.is_shared for use in uses):
            return [[(use, slice(0, 1)) for use in uses]], [(0, 0)] * num_blocks
        if not any(use.is_shared for use in uses):
            return [[(use, slice(0, num_blocks)) for use in uses]], [(0, block) for block in range(num_blocks)]
    known: dict[tuple[tuple[int, int], ...], int] = {}
    feeds: list[_Feed] = []
    index = []
    for block in range(num_blocks):
        own = [(use, block - use.blocks.start) for use in uses if use.blocks.start <= block < use.blocks.stop]
        key = tuple((id(use), 0 if use.is_shared else place) for use, place in own)
        if key not in known:
            known[key] = len(feeds)
            feeds.append([(use, slice(place, place + 1)) for use, place in own])
        index.append((known[key], 0))
    return feeds, index


def _chunks(feed: _Feed, dim: int) -> Iterator[Tensor]:
    for use, blocks in feed:
        size = 2 * use.num_blocks * dim * dim
        for chunk in use.chunks(min(max(_SMALLEST_PART, size), _LARGEST_PART)):
            yield chunk[blocks]


def leak(found: Sequence[Subspace], uses: Sequence[Use]) -> float:
    """Gives the largest share, over the row blocks of a weight, of their inputs outside a subspace: `||P X|| / ||X||`.

    `found` has one subspace per block. The share lies in [0, 1], and is not finite where an input is not.
    """
    feeds, index = _feeds(uses, len(found))
    own: list[dict[int, Subspace]] = [{} for _ in feeds]
    for (position, _), one in zip(index, found, strict=True):
        # Blocks that share rows here may not have shared them in the sample; and the other way round.
        is_alone = not feeds[position] or feeds[position][0][1].stop - feeds[position][0][1].start == 1
        own[position].setdefault(id(one) if is_alone else len(own[position]), one)
    return max(_leak(list(group.values()), feed) for group, feed in zip(own, feeds, strict=True))


def _leak(own: Sequence[Subspace], feed: _Feed) -> float:
    if all(one.null_dim == 0 for one in own):
        return 0.0
    width = max(one.rank for one in own)
    frames = torch.stack([nn.functional.pad(one.basis, (0, width - one.rank)) for one in own])
    inside = outside = frames.new_zeros(len(own))
    for chunk in _chunks(feed, frames.shape[1]):
        rows = chunk.to(torch.float64)
        inside = inside + rows.square().sum((1, 2))
        outside = outside + (rows - (rows @ frames) @ frames.mT).square().sum((1, 2))
    return float((outside / inside.clamp_min(torch.finfo(torch.float64).tiny)).max().sqrt())
