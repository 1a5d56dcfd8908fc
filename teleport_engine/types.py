"""Names for what passes between the parts, and the letters that shapes are written in.

Shapes, in every docstring of this package:

- `d_in`, `d_out`: columns and rows of a weight `W [d_out, d_in]`; `d` alone means `d_in`;
- `n`: samples of a batch; `N`: rows that a weight multiplies (samples, or samples x tokens, over all its uses);
- `k`: rank of an input subspace, so that its null space has `d - k` dimensions.

Inputs of a layer are rows: `X [N, d]`, and a linear map is `Z = X W^T + b`, `[N, d_out]`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

__all__ = ["Inputs", "LossFn", "Params", "Product"]

Inputs: TypeAlias = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""What `model(...)` takes: one tensor, a tuple of positional or a dict of keyword arguments."""

LossFn: TypeAlias = Callable[[Any, Any], Tensor]
"""`loss_fn(outputs, targets)` gives the primary loss: a tensor without dimensions."""

Params: TypeAlias = dict[str, Tensor]
"""Parameter name, as in `model.named_parameters()`, to a tensor of that parameter's shape."""


class Product(NamedTuple):
    """A matrix `M = left^T right [d_out, d_in]`, its factors `[N, d_out]` and `[N, d_in]` not yet multiplied.

    `left` is None where the matrix is `right` itself. A projection of the columns of `M` may be taken of the rows
    of `right` first, which is cheaper where `N < d_out`.
    """

    left: Tensor | None
    right: Tensor

    def matrix(self) -> Tensor:
        """Multiplies the factors.

        Returns:
            `M [d_out, d_in]`.
        """
        return self.right if self.left is None else self.left.T @ self.right

    def short(self) -> "Product":
        """The same matrix with as few rows to project as can be had.

        Returns:
            Itself where `N < d_out`, else the product taken.
        """
        if self.left is None or self.left.shape[0] < self.left.shape[1]:
            return self
        return Product(None, self.matrix())
