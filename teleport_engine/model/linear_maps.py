"""Linear maps at work: which rows a weight multiplies in one call, and the products taken with them.

Every movable weight is seen as `g` row blocks `[g, o, d]`, block `b` multiplying rows `X_b [N, d]` of its own.
"""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from teleport_engine.model.spellings import Spelled
from teleport_engine.model.types import Product

__all__ = ["Layout", "LinearUse", "MatrixUse", "Use"]


@dataclass(frozen=True, eq=False)
class Use(ABC):
    """One call of a linear map, as a weight saw it.

    The edge is taken before anyone can change the output in place (`nn.ReLU(inplace=True)`), so the gradient
    asked for on it is that of the product itself.

    Args:
        inputs: of the call, in the call's own shape, with its graph.
        edge: of the call's output in the autograd graph; None where no gradient flows.
        blocks: which row blocks of the weight it feeds.
        is_augmented: whether the rows end in a one, because the bias moves along.
    """

    inputs: Tensor
    edge: GradientEdge | None
    blocks: slice
    is_augmented: bool = False

    @property
    def num_blocks(self) -> int:
        """How many row blocks it feeds."""
        return int(self.blocks.stop - self.blocks.start)

    @property
    @abstractmethod
    def is_shared(self) -> bool:
        """Whether all its blocks multiply the very same rows."""

    @abstractmethod
    def chunks(self, max_elements: int) -> Iterator[Tensor]:
        """Gives the rows part by part, never all at once where they are not there already.

        Args:
            max_elements: of one part, as far as one row allows.

        Yields:
            `[num_blocks, m, d]`, detached; `d` one larger where augmented. Where `is_shared`, an expanded view.
        """

    @abstractmethod
    def num_products(self, weight: Tensor) -> int:
        """Counts the multiply-adds of the call."""

    @abstractmethod
    def product(self, tangent: Tensor, delta: Tensor) -> Product:
        """Gives `delta^T dX` of its blocks.

        Args:
            tangent: of the inputs, in their shape.
            delta: gradient at the output, in the shape of the output.
        """


@final
@dataclass(frozen=True, eq=False)
class LinearUse(Use):
    """A call of `F.linear`: inputs `[..., d]`, the same for every block; output `[..., num_blocks * o]`."""

    @property
    def is_shared(self) -> bool:
        """All rows of the weight multiply the same input."""
        return True

    def chunks(self, max_elements: int) -> Iterator[Tensor]:
        """Gives the inputs as rows, an expanded view."""
        rows = self.inputs.detach().reshape(-1, self.inputs.shape[-1])
        size = max(1, max_elements // max(1, rows.shape[1]))
        for start in range(0, rows.shape[0], size):
            part = rows[start : start + size]
            augmented = torch.cat([part, part.new_ones(part.shape[0], 1)], 1) if self.is_augmented else part
            yield augmented.expand(self.num_blocks, -1, -1)

    def num_products(self, weight: Tensor) -> int:
        """Counts `N o d` of all blocks."""
        return math.prod(self.inputs.shape[:-1]) * weight.numel()

    def product(self, tangent: Tensor, delta: Tensor) -> Product:
        """Gives `delta^T dX`, not yet multiplied."""
        right = tangent.reshape(-1, tangent.shape[-1])
        if self.is_augmented:  # a one does not change
            right = torch.cat([right, right.new_zeros(right.shape[0], 1)], 1)
        # No -1 here: there may be no rows at all, for an expert that no token was sent to.
        left = delta.reshape(right.shape[0], self.num_blocks, delta.shape[-1] // self.num_blocks).transpose(0, 1)
        return Product(left, right.expand(self.num_blocks, -1, -1))


class Layout(NamedTuple):
    """How a parameter is a matrix `[g, o, d]`: which of its axes count blocks, which rows and which columns."""

    shape: tuple[int, ...]
    blocks: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """`g`, `o` and `d`."""
        g, o, d = (math.prod(self.shape[axis] for axis in axes) for axes in (self.blocks, self.rows, self.columns))
        return g, o, d

    def matrix(self, tensor: Tensor) -> Tensor:
        """Gives a tensor of the parameter's shape as `[g, o, d]`."""
        return tensor.permute(self.blocks + self.rows + self.columns).reshape(self.sizes)

    def unpack(self, matrix: Tensor) -> Tensor:
        """Gives a matrix `[g, o, d]` in the parameter's shape."""
        order = self.blocks + self.rows + self.columns
        return matrix.reshape([self.shape[axis] for axis in order]).permute([order.index(a) for a in range(len(order))])

    def places(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Says which blocks, rows and columns entries `[b, o, d]` of a parameter, given by position, are in."""
        lines = (positions[:, 0, 0], self.blocks), (positions[0, :, 0], self.rows), (positions[0, 0, :], self.columns)
        blocks, rows, columns = (self._counted(line, axes) for line, axes in lines)
        return blocks, rows, columns

    def _counted(self, positions: Tensor, axes: tuple[int, ...]) -> Tensor:
        coordinates = torch.unravel_index(positions, self.shape)
        found = torch.zeros_like(positions)
        for axis in axes:
            found = found * self.shape[axis] + coordinates[axis]
        return found


@final
@dataclass(frozen=True, eq=False)
class MatrixUse(Use):
    """A product in any other spelling, of all or some entries of a parameter.

    Args:
        spelled: the product in normal form.
        layout: of the parameter; None until all its uses are known.
    """

    spelled: Spelled = field(kw_only=True)
    layout: Layout | None = field(default=None, kw_only=True)

    @functools.cached_property
    def _places(self) -> tuple[Tensor, Tensor, Tensor]:
        assert self.layout is not None, "uses are looked at once their layout is known"
        return self.layout.places(self.spelled.positions)

    @property
    def is_shared(self) -> bool:
        """Only a lone block shares its rows."""
        return self.num_blocks == 1

    def chunks(self, max_elements: int) -> Iterator[Tensor]:
        """Gives the rows, with zeros for columns that this use does not multiply."""
        rows = self.spelled.rows(self.inputs.detach())
        assert self.layout is not None, "uses are looked at once their layout is known"
        width = self.layout.sizes[2]
        size = max(1, max_elements // max(1, width * rows.shape[0]))
        for start in range(0, rows.shape[1], size):
            yield _spread(rows[:, start : start + size], 2, self._places[2], width)

    def num_products(self, weight: Tensor) -> int:
        """Counts `N o d` of its blocks."""
        return self.spelled.rows(self.inputs.detach()).shape[1] * self.spelled.positions.numel()

    def product(self, tangent: Tensor, delta: Tensor) -> Product:
        """Gives `delta^T dX`, zero for rows and columns that this use does not take part in."""
        assert self.layout is not None, "uses are looked at once their layout is known"
        _, height, width = self.layout.sizes
        left, right = self.spelled.deltas(delta) * self.spelled.factor, self.spelled.rows(tangent)
        _, heights, columns = self._places
        return Product(_spread(left, 2, heights, height), _spread(right, 2, columns, width))


def _spread(tensor: Tensor, axis: int, places: Tensor, size: int) -> Tensor:
    """Puts the entries along an axis where they belong among `size` of them, zeros elsewhere."""
    if len(places) == size and bool((places.diff() == 1).all()):
        return tensor
    shape = [*tensor.shape[:axis], size, *tensor.shape[axis + 1 :]]
    return tensor.new_zeros(shape).index_add(axis, places.to(tensor.device), tensor)
