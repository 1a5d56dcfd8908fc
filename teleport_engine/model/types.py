"""Names for what passes between the parts, and the letters that shapes are written in.

Shapes, in every docstring of this package:

- `g`: row blocks of a weight, each of which multiplies inputs of its own (groups of a convolution; the query, key
  and value rows of an attention); 1 for a Linear;
- `o`, `d`: rows and columns of one block, so that a weight is a matrix `[g, o, d]`; where there is one block,
  `W [d_out, d_in]`;
- `n`: samples of a batch; `N`: rows that a weight multiplies (samples x tokens or patches, over all its uses);
- `k`: rank of an input subspace, so that its null space has `d - k` dimensions.

Inputs of a block are rows: `X [N, d]`, and a linear map is `Z = X W^T + b`, `[N, o]`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

__all__ = ["Inputs", "LossFn", "Params", "Product", "tensors_in", "with_tensors"]

Inputs: TypeAlias = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""What `model(...)` takes: one tensor, a tuple of positional or a dict of keyword arguments."""

LossFn: TypeAlias = Callable[[Any, Any], Tensor]
"""`loss_fn(outputs, targets)` gives the primary loss: a tensor without dimensions."""

Params: TypeAlias = dict[str, Tensor]
"""Parameter name, as in `model.named_parameters()`, to a tensor of that parameter's shape."""


class Product(NamedTuple):
    """Matrices `M_b = left_b^T right_b`, one per row block, the factors not yet multiplied.

    `left` is `[g, N, o]` and `right` `[g, N, d]`; `left` is None where the matrices are `right [g, o, d]` itself. A
    projection of the columns of `M` may be taken of the rows of `right` first, which is cheaper where `N < o`.
    """

    left: Tensor | None
    right: Tensor

    def matrix(self) -> Tensor:
        """Multiplies the factors: `M [g, o, d]`."""
        return self.right if self.left is None else self.left.mT @ self.right

    def short(self) -> "Product":
        """Gives the same matrices with as few rows to project as can be had: itself where `N < o`, else multiplied."""
        if self.left is None or self.left.shape[1] < self.left.shape[2]:
            return self
        return Product(None, self.matrix())

    def times(self, factor: float) -> "Product":
        """Scales the matrices."""
        return self if factor == 1.0 else Product(self.left, factor * self.right)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Gives the tensors in tuples, lists and mappings, or the tensor itself, in order; anything else holds none."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)


def with_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Replaces each tensor of a batch by what a function gives for it.

    Returns:
        The structure made anew; a mapping becomes a dict, a tuple or list of a class of its own keeps its class where
        it is a named tuple, and otherwise stays the very object.
    """
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: with_tensors(part, function) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(with_tensors(part, function) for part in value)
    if isinstance(value, tuple) and getattr(value, "_fields", None) is not None:
        return type(value)(*(with_tensors(part, function) for part in value))
    return value
