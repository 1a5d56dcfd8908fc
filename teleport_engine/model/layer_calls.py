"""Watching a forward for what each weight multiplies.

Layers are not recognised by their class but watched at work: a `TorchFunctionMode` sees each convolution and each
product of matrices, whatever its spelling, and whose weight it got, or what view of it. So a subclass of `nn.Linear`,
a module called several times, a weight tied between modules, a functional use and the rows of an attention's packed
projection are all the same case, and a weight that appears in any other call (an embedding, a penalty in the loss, a
detached copy) is known not to be a linear map alone.

A derivative that the forward takes itself (of an energy by positions, say) goes backward through some of the weights,
and depends on them in another way than by what they give: these are noticed too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor, nn
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor, is_gradtrackingtensor
from torch.autograd import forward_ad
from torch.autograd.graph import GradientEdge, get_gradient_edge

from teleport_engine.model.call_patch import CallPatch, Calls, unrolled_attention
from teleport_engine.model.convolution import ConvUse, Window
from teleport_engine.model.layers import WeightLayer
from teleport_engine.model.linear_maps import LinearUse, MatrixUse, Use
from teleport_engine.model.spellings import PRODUCTS, SCALINGS, VIEWS

__all__ = ["Watch"]

# Questions about a weight that read none of its values.
_READS: frozenset[Any] = frozenset(
    getattr(torch.Tensor, name).__get__
    for name in ("device", "dtype", "is_cuda", "is_leaf", "is_sparse", "layout", "ndim", "requires_grad", "shape")
) | frozenset(
    getattr(torch.Tensor, name)
    for name in ("dim", "is_complex", "is_contiguous", "is_floating_point", "numel", "size", "stride")
)

# Backwards that a forward may take, and their arguments that matter.
_DERIVATIVES: dict[Any, tuple[str, ...]] = {
    torch.autograd.grad: ("outputs", "inputs"),
    torch.Tensor.backward: ("outputs",),
}

_LINEAR = ("input", "weight", "bias")
_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


class _Rows(NamedTuple):
    """One of a layer's parameters, or what was taken from it.

    Args:
        layer_index: whose it is.
        is_bias: whether it is the bias.
        blocks: which row blocks of the parameter it is; None where it is no run of whole ones, unscaled.
        positions: of its entries in the parameter; None for the parameter itself.
        factor: it is this times what stands there.
    """

    layer_index: int
    is_bias: bool
    blocks: slice | None
    positions: Tensor | None = None
    factor: Any = 1.0


class _Call(NamedTuple):
    """A call of a linear map, its arguments by name, with what it fed."""

    arguments: Mapping[str, Any]
    layer: WeightLayer
    blocks: slice
    edge: GradientEdge | None


def _linear_use(call: _Call) -> Use | None:
    if call.layer.layout is not None:
        return None
    return LinearUse(call.arguments["input"], call.edge, call.blocks, call.layer.bias is not None)


def _conv_use(call: _Call) -> Use | None:
    """Reads a call of a convolution; None where the groups of the call are not the blocks of the weight."""
    given = call.arguments
    if call.layer.layout is not None or call.blocks != slice(0, given.get("groups", 1)):
        return None
    sliding = {name: given[name] for name in ("stride", "padding", "dilation") if name in given}
    window = Window.of_call(call.layer.weight.shape[2:], **sliding)
    return ConvUse(given["input"], call.edge, call.blocks, call.layer.bias is not None, window=window)


_MAPS: dict[Any, tuple[tuple[str, ...], Callable[[_Call], Use | None]]] = {
    nn.functional.linear: (_LINEAR, _linear_use),
    nn.functional.conv1d: (_CONVOLUTION, _conv_use),
    nn.functional.conv2d: (_CONVOLUTION, _conv_use),
    nn.functional.conv3d: (_CONVOLUTION, _conv_use),
}


@final
class Watch(CallPatch):
    """Records the uses of some weights while it is active.

    Args:
        layers: whose weights to watch; uses are kept in this order.
        replaced: `id(parameter)` to the tensor that the forward runs with in its place.
        is_census: count also every other appearance of a parameter, at some cost for each call.

    Attributes:
        uses: per layer, its linear uses in the order of the forward.
        num_other_uses: per layer, the other appearances of its weight (0 everywhere without a census).
        num_other_bias_uses: per layer whose bias moves along, the uses of the weight without it and its appearances
            without the weight (0 everywhere without a census).
        is_differentiated: per layer, whether a derivative was taken through a use of its weight (False everywhere
            without a census).
        has_derivative: whether any derivative was taken.
    """

    entered: ClassVar[Calls] = {nn.functional.multi_head_attention_forward: unrolled_attention}

    def __init__(
        self, layers: Iterable[WeightLayer], replaced: Mapping[int, Tensor] | None = None, *, is_census: bool = False
    ) -> None:
        super().__init__()
        self._layers = list(layers)
        self._is_census = is_census
        self._rows: dict[int, _Rows] = {}
        self._kept_alive: list[Tensor] = []  # as long as their ids are keys
        for index, layer in enumerate(self._layers):
            held = [(False, layer.weight), *((False, copy) for copy in layer.copies)]
            held += [(True, layer.bias)] if layer.bias is not None else []
            for is_bias, parameter in held:
                tensor = parameter if replaced is None else replaced.get(id(parameter), parameter)
                self._note_rows(tensor, _Rows(index, is_bias, slice(0, layer.num_blocks)))
        self.uses: list[list[Use]] = [[] for _ in self._layers]
        self.num_other_uses = [0] * len(self._layers)
        self.num_other_bias_uses = [0] * len(self._layers)
        self.is_differentiated = [False] * len(self._layers)
        self.has_derivative = False

    def _run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Runs the call and notes the watched weights in it."""
        if self._is_census and func in _DERIVATIVES:
            self._note_derivative(dict(zip(_DERIVATIVES[func], args, strict=False)) | dict(kwargs))
        result = func(*args, **kwargs)
        if func in _MAPS:
            names, read = _MAPS[func]
            is_noted = self._note_call(dict(zip(names, args, strict=False)) | dict(kwargs), read, result)
        else:
            is_noted = False
        if func in PRODUCTS and not is_noted:
            self._note_product(func, args, kwargs, result)
        elif func in VIEWS:
            self._note_views(func, args, kwargs, result)
        elif func in SCALINGS and len(args) == 2 and not kwargs:
            self._note_scaled(SCALINGS[func], args, result)
        if self._is_census and func not in _READS:
            self._count((args, tuple(kwargs.values())), 1)
        return result

    def _note_call(self, arguments: dict[str, Any], read: Callable[[_Call], Use | None], result: Tensor) -> bool:
        """Notes a call of a linear map by whole row blocks; says whether it is one."""
        rows = self._rows.get(id(_unwrapped(arguments["weight"])))
        if rows is None or rows.is_bias:
            return False
        if self._is_census and _has_tangent(result):
            self.is_differentiated[rows.layer_index] = True
        if is_functorch_wrapped_tensor(result) or rows.blocks is None:
            return False
        edge = get_gradient_edge(result) if result.requires_grad else None
        layer = self._layers[rows.layer_index]
        use = read(_Call(arguments, layer, rows.blocks, edge))
        if use is None:
            return False
        self._note_use(rows, use)
        if self._is_census and layer.bias is not None:
            fits = self._rows.get(id(arguments.get("bias"))) == rows._replace(is_bias=True, positions=None)
            self.num_other_bias_uses[rows.layer_index] += -1 if fits else 1
        return True

    def _note_use(self, rows: _Rows, use: Use) -> None:
        self.uses[rows.layer_index].append(use)
        if self._is_census:
            self.num_other_uses[rows.layer_index] -= 1

    def _note_product(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Notes a product with a watched weight, or with what was taken from one, in any other spelling."""
        names, read = PRODUCTS[func]
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
        if "*operands" in names:
            given["operands"] = args[1:]
        watched = [rows for value in _flat(given.values()) if (rows := self._weight_rows(value)) is not None]
        if len(watched) != 1 or is_functorch_wrapped_tensor(result):
            return
        (rows,) = watched
        spelled = read(given, lambda value: None if self._weight_rows(value) is None else self._positions(rows))
        if spelled is None or not spelled.positions.numel():
            return
        edge = get_gradient_edge(result) if result.requires_grad else None
        layer = self._layers[rows.layer_index]
        if isinstance(rows.factor, Tensor) or rows.factor != 1.0:
            spelled = spelled._replace(factor=spelled.factor * rows.factor)
        use = MatrixUse(spelled.inputs, edge, slice(0, 1), spelled=spelled, layout=layer.layout)
        if layer.layout is not None:
            blocks = layer.layout.places(spelled.positions)[0]
            use = replace(use, blocks=slice(int(blocks[0]), int(blocks[-1]) + 1))
        self._note_use(rows, use)

    def _weight_rows(self, value: Any) -> _Rows | None:
        rows = self._rows.get(id(value)) if isinstance(value, Tensor) else None
        return None if rows is None or rows.is_bias else rows

    def _positions(self, rows: _Rows) -> Tensor:
        if rows.positions is not None:
            return rows.positions
        weight = self._layers[rows.layer_index].weight
        return torch.arange(weight.numel(), device="cpu").reshape(weight.shape)

    def _note_views(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Watches what is taken from a watched parameter; taking it is no other use."""
        rows = self._rows.get(id(args[0])) if args else None
        if rows is None or not all(isinstance(part, Tensor) for part in _listed(result)):
            return
        args = [args[0], *map(_numbered, args[1:])]
        if any(isinstance(one, Tensor) for one in _flat(args[1:])):
            return  # one entry may be taken several times
        parts = _listed(result)
        found = [None if rows.blocks is None else _row_blocks(args[0], part, rows.blocks) for part in parts]
        if rows.is_bias and None in found:
            return
        positions = [None] * len(parts) if rows.is_bias else _listed(func(self._positions(rows), *args[1:], **kwargs))
        for part, blocks, places in zip(parts, found, positions, strict=True):
            if part is not args[0]:
                self._note_rows(part, rows._replace(blocks=blocks, positions=places))
        if self._is_census:
            self._count((args[0],), -1)

    def _note_scaled(self, divides: bool, args: Sequence[Any], result: Any) -> None:
        """Watches a watched weight times a number, which may be a tensor of one entry."""
        for weight, number in (args, args[::-1]):
            rows = self._weight_rows(weight)
            if rows is None or (divides and weight is not args[0]):
                continue
            if isinstance(number, Tensor) and (
                number.numel() != 1 or number.ndim > weight.ndim or id(number) in self._rows
            ):
                continue
            value = number.detach().reshape(()) if isinstance(number, Tensor) else number
            factor = rows.factor / value if divides else rows.factor * value
            self._note_rows(result, rows._replace(blocks=None, positions=self._positions(rows), factor=factor))
            if self._is_census:
                self._count((weight,), -1)
            return

    def _note_derivative(self, arguments: Mapping[str, Any]) -> None:
        """Notes the layers that a backward inside the forward goes through."""
        self.has_derivative = True
        inside = _between(_listed(arguments["outputs"]), _listed(arguments.get("inputs")))
        for index, uses in enumerate(self.uses):
            if any(use.edge is not None and use.edge.node in inside for use in uses):
                self.is_differentiated[index] = True

    def _note_rows(self, tensor: Tensor, rows: _Rows) -> None:
        self._rows[id(tensor)] = rows
        self._kept_alive.append(tensor)

    def _count(self, values: Any, by: int) -> None:
        for value in values:
            if isinstance(value, Tensor):
                rows = self._rows.get(id(_unwrapped(value)))
                if rows is not None:
                    counts = self.num_other_bias_uses if rows.is_bias else self.num_other_uses
                    counts[rows.layer_index] += by
            elif isinstance(value, (tuple, list)):
                self._count(value, by)


def _row_blocks(whole: Tensor, part: Tensor, blocks: slice) -> slice | None:
    """Says which blocks a view holds, of a tensor that holds some; None where it is no run of whole ones."""
    if part.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
        return None
    if part.shape[1:] != whole.shape[1:] or part.stride() != whole.stride() or not part.numel():
        return None
    num_rows = whole.shape[0] // (blocks.stop - blocks.start)
    start, rest = divmod(int(part.storage_offset() - whole.storage_offset()), whole.stride(0))
    if rest or start % num_rows or part.shape[0] % num_rows:
        return None
    first = blocks.start + start // num_rows
    return slice(first, first + part.shape[0] // num_rows)


def _unwrapped(tensor: Any) -> Any:
    """Gives the tensor inside the wrappers of `torch.func`."""
    while isinstance(tensor, Tensor) and is_functorch_wrapped_tensor(tensor):
        tensor = get_unwrapped(tensor)
    return tensor


def _has_tangent(result: Tensor) -> bool:
    """Says whether `torch.func` or the forward mode is taking a derivative through a result."""
    inner: Any = result
    while is_functorch_wrapped_tensor(inner):
        if is_gradtrackingtensor(inner):
            return True
        inner = get_unwrapped(inner)
    if forward_ad._current_level < 0:
        return False
    return forward_ad.unpack_dual(inner).tangent is not None  # type: ignore[no-untyped-call]


def _numbered(index: Any) -> Any:
    """Gives an index with numbers in the place of tensors that hold one (a router's choice of an expert)."""
    if isinstance(index, tuple):
        return tuple(map(_numbered, index))
    if not isinstance(index, Tensor) or index.ndim or index.dtype is torch.bool or is_functorch_wrapped_tensor(index):
        return index
    return int(index)


def _flat(values: Any) -> list[Any]:
    return [part for value in values for part in (_flat(value) if isinstance(value, (tuple, list)) else [value])]


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (tuple, list)) and not isinstance(value, GradientEdge) else [value]


def _between(outputs: Sequence[Any], inputs: Sequence[Any]) -> set[Any]:
    """Gives the nodes of the autograd graph that a backward from some tensors to others goes through.

    Without any `inputs` it goes to all leaves.
    """
    left = [edge.node for edge in map(_edge, outputs) if edge is not None]
    parents: dict[Any, list[Any]] = {node: [] for node in left}
    leaves = []
    while left:
        node = left.pop()
        children = [child for child, _ in node.next_functions if child is not None]
        for child in children:
            if child not in parents:
                parents[child] = []
                left.append(child)
            parents[child].append(node)
        if not children:
            leaves.append(node)
    left = [edge.node for edge in map(_edge, inputs) if edge is not None] if inputs else leaves
    found: set[Any] = set()
    while left:
        new = [parent for parent in parents.get(left.pop(), ()) if parent not in found]
        found.update(new)
        left += new
    return found


def _edge(value: Any) -> GradientEdge | None:
    if isinstance(value, GradientEdge):
        return value
    return get_gradient_edge(value) if isinstance(value, Tensor) and value.requires_grad else None
