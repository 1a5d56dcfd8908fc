"""The spellings of a linear map: what torch's products multiply by a weight, in one normal form.

`F.linear`, `x @ W`, `W @ x`, `mm`, `bmm`, `addmm`, `baddbmm`, `einsum` and `F.bilinear` are all `Z_b = X_b M_b^T` for
some blocks `b`, with `X [b, N, d]`, `M [b, o, d]` and `Z [b, N, o]`. The weight may be a view of a parameter, so it is
given as the positions of its entries in that.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["PRODUCTS", "SCALINGS", "VIEWS", "Spelled"]

_Reading: TypeAlias = Callable[[Tensor], Tensor]


class Spelled(NamedTuple):
    """A product in normal form.

    Args:
        inputs: what the weight multiplies, as it stood in the call.
        positions: of the entries of `M [b, o, d]` in the parameter, flattened.
        rows: takes a tensor of the shape of the inputs to `[b, N, d]`.
        deltas: takes a tensor of the shape of the output to `[b, N, o]`.
        factor: the product is this times `X M^T`.
    """

    inputs: Tensor
    positions: Tensor
    rows: _Reading
    deltas: _Reading
    factor: Any = 1.0


Find: TypeAlias = Callable[[Any], "Tensor | None"]
"""Gives the positions of a tensor's entries in a watched parameter; None for any other tensor."""


def _linear(given: Mapping[str, Any], find: Find) -> Spelled | None:
    return _by_letters("...d,od->...o", given["input"], given["weight"], find)


def _matmul(given: Mapping[str, Any], find: Find) -> Spelled | None:
    left, right = given["input"], given["other"]
    of_left = {1: "d", 2: "nd"}.get(left.ndim, "...nd")
    of_right = {1: "d", 2: "do"}.get(right.ndim, "...do")
    if find(right) is not None:
        of_right = of_right.replace("...", "e")
        of_left = of_left if right.ndim < 3 or left.ndim < 3 else "...end"
    else:
        of_left = of_left.replace("...", "e")
        of_right = of_right if left.ndim < 3 or right.ndim < 3 else "...edo"
    out = ("..." if "..." in of_left + of_right else "") + ("e" if "e" in of_left + of_right else "")
    kept = [one for one in "no" if one in of_left + of_right]
    return _by_letters(f"{of_left},{of_right}->{out}{''.join(kept)}", left, right, find)


def _addmm(given: Mapping[str, Any], find: Find) -> Spelled | None:
    names = ("mat1", "mat2") if "mat1" in given else ("batch1", "batch2")
    found = _matmul({"input": given[names[0]], "other": given[names[1]]}, find)
    return None if found is None else found._replace(factor=given.get("alpha", 1.0))


def _einsum(given: Mapping[str, Any], find: Find) -> Spelled | None:
    operands = given["operands"]
    operands = operands[0] if len(operands) == 1 and isinstance(operands[0], (tuple, list)) else operands
    if not isinstance(given["equation"], str) or len(operands) != 2:
        return None
    equation = given["equation"].replace(" ", "")
    if "->" not in equation:
        terms = equation.replace(",", "")
        equation += "->" + "".join(sorted(one for one in set(terms) - {"."} if terms.count(one) == 1))
    return _by_letters(equation, operands[0], operands[1], find)


def _bilinear(given: Mapping[str, Any], find: Find) -> Spelled | None:
    positions = find(given["weight"])
    if positions is None:
        return None
    # Linear in the products of each entry of one input with each of the other.
    outer = (given["input1"].unsqueeze(-1) * given["input2"].unsqueeze(-2)).flatten(-2)
    flat = positions.flatten(1)
    return _by_letters("...d,od->...o", outer, flat, lambda one: flat if one is flat else None)


def _by_letters(equation: str, left: Any, right: Any, find: Find) -> Spelled | None:
    """Reads the product of two tensors from the letters of an einsum; None where it is no linear map of one of them."""
    terms, out = equation.split("->")
    left_term, _, right_term = terms.partition(",")
    positions = find(left)
    of_weight, inputs, of_inputs = left_term, right, right_term
    if positions is None:
        positions = find(right)
        of_weight, inputs, of_inputs = right_term, left, left_term
    elif find(right) is not None:
        return None
    if positions is None or not isinstance(inputs, Tensor) or "..." in of_weight:
        return None
    named = of_inputs.replace("...", "")
    free = inputs.ndim - len(named)
    spare = [chr(ord("A") + place) for place in range(26) if chr(ord("A") + place) not in equation][:free]
    of_inputs, out = (one.replace("...", "".join(spare)) for one in (of_inputs, out))
    if len(set(of_weight)) < len(of_weight) or len(set(of_inputs)) < len(of_inputs) or positions.ndim != len(of_weight):
        return None
    blocks = [one for one in of_weight if one in out and one in of_inputs]
    columns = [one for one in of_weight if one in of_inputs and one not in out]
    heights = [one for one in of_weight if one in out and one not in of_inputs]
    samples = [one for one in out if one not in of_weight]
    if len(blocks) + len(columns) + len(heights) < len(of_weight) or not set(of_inputs) <= {
        *samples,
        *blocks,
        *columns,
    }:
        return None
    if not columns:
        return None
    sizes = dict(zip(of_weight, positions.shape, strict=True))
    if any(sizes.get(one, size) != size for one, size in zip(of_inputs, inputs.shape, strict=True)):
        return None  # one of them is broadcast

    def size_of(letters: Sequence[str]) -> int:
        return math.prod(sizes[one] for one in letters)

    shape = [size_of(blocks), size_of(heights), size_of(columns)]
    order = [of_weight.index(one) for one in (*blocks, *heights, *columns)]
    return Spelled(
        inputs,
        positions.permute(order).reshape(shape),
        lambda x: _grouped(x, of_inputs, (blocks, samples, columns)),
        lambda z: _grouped(z, out, (blocks, samples, heights)),
    )


def _grouped(tensor: Tensor, letters: str, groups: Sequence[Sequence[str]]) -> Tensor:
    """Permutes a tensor, and makes one axis of each group of letters."""
    moved = tensor.permute([letters.index(one) for group in groups for one in group])
    sides = iter(moved.shape)
    return moved.reshape([math.prod([next(sides) for _ in group]) for group in groups])


_MATMUL, _ADDMM, _BADDBMM = ("input", "other"), ("input", "mat1", "mat2"), ("input", "batch1", "batch2")

_MATMULS: tuple[Any, ...] = (torch.matmul, torch.mm, torch.bmm)
_MATMULS += (torch.Tensor.matmul, torch.Tensor.mm, torch.Tensor.bmm, torch.Tensor.__matmul__)

PRODUCTS: dict[Any, tuple[tuple[str, ...], Callable[[Mapping[str, Any], Find], Spelled | None]]] = {
    nn.functional.linear: (("input", "weight", "bias"), _linear),
    nn.functional.bilinear: (("input1", "input2", "weight", "bias"), _bilinear),
    torch.einsum: (("equation", "*operands"), _einsum),
    torch.addmm: (_ADDMM, _addmm),
    torch.Tensor.addmm: (_ADDMM, _addmm),
    torch.baddbmm: (_BADDBMM, _addmm),
    torch.Tensor.baddbmm: (_BADDBMM, _addmm),
    torch.Tensor.__rmatmul__: (("other", "input"), _matmul),
    **dict.fromkeys(_MATMULS, (_MATMUL, _matmul)),
}
"""Products, the names of their arguments, and how each is read."""

_SHARED: tuple[str, ...] = (
    "t",
    "transpose",
    "permute",
    "swapaxes",
    "movedim",
    "reshape",
    "flatten",
    "unsqueeze",
    "squeeze",
    "narrow",
)
_SHARED += ("select", "chunk", "split", "unbind")

VIEWS: frozenset[Any] = frozenset(
    (
        *(getattr(owner, name) for owner in (torch, torch.Tensor) for name in _SHARED),
        *(torch.Tensor.view, torch.Tensor.contiguous, torch.Tensor.__getitem__),
        *(getattr(torch.Tensor, name).__get__ for name in ("T", "mT")),
    )
)
"""Ways to take some entries of a weight in another order, which read none of them."""

SCALINGS: dict[Any, bool] = {
    **dict.fromkeys((torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__), False),
    **dict.fromkeys((torch.div, torch.Tensor.div, torch.Tensor.__truediv__), True),
}
"""Products with a number, and whether it divides."""
