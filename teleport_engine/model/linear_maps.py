"""Linear maps at work: which rows a weight multiplies in one call, and the products taken with them.

Every movable weight is seen as `g` row blocks `[g, o, d]`, block `b` multiplying rows `X_b [N, d]` of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from teleport_engine.model.types import Product

__all__ = ["LinearUse", "Use"]


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

    def product(self, tangent: Tensor, delta: Tensor) -> Product:
        """Gives `delta^T dX`, not yet multiplied."""
        right = tangent.reshape(-1, tangent.shape[-1])
        if self.is_augmented:  # a one does not change
            right = torch.cat([right, right.new_zeros(right.shape[0], 1)], 1)
        # No -1 here: there may be no rows at all, for an expert that no token was sent to.
        left = delta.reshape(right.shape[0], self.num_blocks, delta.shape[-1] // self.num_blocks).transpose(0, 1)
        return Product(left, right.expand(self.num_blocks, -1, -1))
