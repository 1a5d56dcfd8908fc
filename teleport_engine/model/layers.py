"""The weights of a model that may turn out to be linear maps, and the modules that cannot."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from teleport_engine.model.linear_maps import Layout, LinearUse, MatrixUse, Use
from teleport_engine.model.spellings import Spelled

__all__ = ["FrozenModule", "WeightLayer", "find_layers", "settled"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_COMPUTABLE = (nn.Linear, *_CONVOLUTIONS)
_COMPUTED = "its weight is computed from other parameters: frozen"
_ELSEWHERE = "its weight is used outside its linear map: frozen"
_FROZEN_KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((nn.Embedding, nn.EmbeddingBag), "an embedding: frozen"),
    ((nn.RNNBase, nn.RNNCellBase), "a recurrent layer, whose products are not seen one by one: frozen"),
    (
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        "a transposed convolution, not supported: frozen",
    ),
)


@final
@dataclass(frozen=True, eq=False)
class WeightLayer:
    """A weight that may turn out to be a linear map: a matrix of equal row blocks `[g, o, d]`.

    Args:
        name: of the module that owns it (of the parameter, where the module has more than one candidate).
        parameter_name: as in `model.named_parameters()`.
        weight: `[g * o, ...]`, with `d` entries in each row.
        num_blocks: `g`.
        bias: `[g * o]`, where it moves along: the matrix is then `[W | b]` and `d` one larger.
        copies: other parameters in the same memory, which move along.
        layout: how the weight is a matrix, where that is not rows of `d` entries each; the bias then stays.
    """

    name: str
    parameter_name: str
    weight: nn.Parameter
    num_blocks: int = 1
    bias: nn.Parameter | None = None
    copies: tuple[nn.Parameter, ...] = ()
    layout: Layout | None = None

    @property
    def d_in(self) -> int:
        """Inputs of one output unit, the column of the bias not counted."""
        if self.layout is not None:
            return self.layout.sizes[2]
        return self.weight.shape[1:].numel()

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """What moves: the weight, and the bias where it moves along."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @property
    def trained(self) -> tuple[tuple[nn.Parameter, ...], ...]:
        """For each of `parameters`, all that have its numbers and a gradient of their own."""
        weights = (self.weight, *(copy for copy in self.copies if copy.requires_grad))
        return (weights,) if self.bias is None else (weights, (self.bias,))

    def matrix(self, tensors: Sequence[Tensor]) -> Tensor:
        """Gives tensors of the shapes of `parameters` as one matrix per block: `[g, o, d]`."""
        if self.layout is not None:
            return self.layout.matrix(tensors[0])
        matrix = tensors[0].reshape(self.num_blocks, -1, self.d_in)
        if self.bias is None:
            return matrix
        return torch.cat([matrix, tensors[1].reshape(self.num_blocks, -1, 1)], 2)

    def unpack(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Takes a matrix `[g, o, d]` apart into a tensor for each of `parameters`, in its shape."""
        if self.layout is not None:
            return (self.layout.unpack(matrix),)
        if self.bias is None:
            return (matrix.reshape(self.weight.shape),)
        weight, bias = matrix[:, :, :-1], matrix[:, :, -1]
        return weight.reshape(self.weight.shape), bias.reshape(self.bias.shape)


@final
@dataclass(frozen=True)
class FrozenModule:
    """A module with parameters of its own that cannot move, and why."""

    name: str
    reason: str
    d_in: int | None = None


def find_layers(model: nn.Module, *, move_bias: bool = False) -> list[WeightLayer | FrozenModule]:
    """Finds every module with parameters of its own: those that may move, and the rest with the reason.

    Args:
        model: any module.
        move_bias: biases of linear maps move along with their weights.

    Returns:
        In the order of `model.named_modules()`; a module with several matrices gives several candidates.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    in_memory: dict[Any, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        in_memory.setdefault(_memory(parameter), []).append(parameter)
    owner_of: dict[Any, str] = {}
    found: list[WeightLayer | FrozenModule] = []
    for name, module in model.named_modules():
        own = {key: p for key, p in module._parameters.items() if p is not None}
        reason = _frozen_kind(module)
        matrices = {key: p for key, p in own.items() if _may_be_matrix(module, p)} if not reason else {}
        if reason or (own and not matrices):
            if own or reason == _COMPUTED:
                label = name or next((names[id(parameter)] for parameter in own.values()), "")
                found.append(FrozenModule(label, reason or "not a linear layer: frozen"))
            continue
        for key, weight in matrices.items():
            label = name if name and len(matrices) == 1 else names[id(weight)]
            d_in = weight.shape[1:].numel()
            memory = _memory(weight)
            if memory in owner_of:
                reason = f"shares its weight with {owner_of[memory]!r}, under whose name it is reported"
                found.append(FrozenModule(label, reason, d_in))
                continue
            owner_of[memory] = label
            if not weight.requires_grad:
                found.append(FrozenModule(label, "requires_grad is False", d_in))
            elif weight.layout != torch.strided:
                found.append(FrozenModule(label, "its weight is sparse: frozen"))
            else:
                bias = own.get(key.replace("weight", "bias")) if move_bias else None
                if bias is not None:
                    is_free = bias.requires_grad and _memory(bias) not in owner_of and bias.shape == weight.shape[:1]
                    is_free = is_free and len(in_memory[_memory(bias)]) == 1
                    owner_of[_memory(bias)] = label
                    bias = bias if is_free else None
                copies = tuple(one for one in in_memory[memory] if one is not weight)
                found.append(WeightLayer(label, names[id(weight)], weight, _num_blocks(module, weight), bias, copies))
    return found


def _memory(tensor: Tensor) -> Any:
    """Says where a tensor lies: tensors of one memory are one weight, whichever parameter they are reached by."""
    if tensor.layout != torch.strided or not tensor.data_ptr():
        return id(tensor)
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _frozen_kind(module: nn.Module) -> str:
    """Says why no parameter of a module of this kind is a linear map; nothing where one may be."""
    if isinstance(module, (ParametrizationList, *_COMPUTABLE)) and "weight" not in module._parameters:
        # Parametrizations and the old weight norm keep the numbers elsewhere.
        return _COMPUTED
    if is_parametrized(module) and not isinstance(module, _COMPUTABLE):
        return _COMPUTED
    return next((reason for kinds, reason in _FROZEN_KINDS if isinstance(module, kinds)), "")


def _may_be_matrix(module: nn.Module, parameter: Tensor) -> bool:
    """Accepts matrices anywhere, and kernels in convolutions and in modules that are not torch's own."""
    if parameter.numel() == 0:
        return False
    if parameter.ndim == 2:
        return True
    is_own = type(module).__module__.startswith("torch.nn.")
    return 3 <= parameter.ndim <= 5 and (isinstance(module, (*_CONVOLUTIONS, nn.Bilinear)) or not is_own)


def _num_blocks(module: nn.Module, weight: Tensor) -> int:
    if isinstance(module, _CONVOLUTIONS):
        return module.groups
    return 3 if isinstance(module, nn.MultiheadAttention) and weight is module.in_proj_weight else 1


def settled(
    layer: WeightLayer,
    uses: Sequence[Use],
    num_other_uses: int,
    num_other_bias_uses: int,
    is_differentiated: bool,
) -> tuple[WeightLayer, Sequence[Use]] | str:
    """Says what a candidate is, once a forward has been watched.

    Args:
        layer: the candidate.
        uses: its linear uses.
        num_other_uses: how often its weight appeared elsewhere.
        num_other_bias_uses: how often its bias did, or its weight without the bias.
        is_differentiated: whether the forward or the loss takes a derivative through it.

    Returns:
        The layer and its uses, without the bias where that cannot move along; or the reason why it is frozen.
    """
    if is_differentiated:
        # A move keeps what the layer gives, but not how that depends on its input.
        return "the forward or the loss takes a derivative through it, which a move would change: frozen"
    if not uses:
        return "not seen as a linear map in the forward: frozen"
    if num_other_uses:
        return _ELSEWHERE
    if any(isinstance(use, MatrixUse) for use in uses):
        return _laid_out(layer, uses)
    if layer.bias is None or not num_other_bias_uses:
        return layer, uses
    return replace(layer, bias=None), [replace(use, is_augmented=False) for use in uses]


def _laid_out(layer: WeightLayer, uses: Sequence[Use]) -> tuple[WeightLayer, Sequence[Use]] | str:
    """Finds the one matrix that all uses of a weight multiply by; or says why there is none."""
    shape = tuple(layer.weight.shape)
    sides: list[str] = [""] * len(shape)
    whole = torch.arange(layer.weight.numel(), device="cpu").reshape(1, shape[0], -1)
    if any(not isinstance(use, MatrixUse | LinearUse) for use in uses) or layer.num_blocks > 1:
        return _ELSEWHERE
    for use in uses:
        positions = use.spelled.positions if isinstance(use, MatrixUse) else whole
        for axis, coordinates in enumerate(torch.unravel_index(positions, shape)):
            ways = [
                side for dim, side in enumerate("bod") if bool((coordinates != coordinates.narrow(dim, 0, 1)).any())
            ]
            if len(ways) > 1:
                return "its weight is multiplied in another shape, whose axes are not its own: frozen"
            if ways and sides[axis] not in ("", ways[0]):
                return "its weight is multiplied from both sides: frozen"
            sides[axis] = ways[0] if ways else sides[axis]
    # An axis of which every use takes one entry counts blocks: one expert of many.
    sides = [side or ("o" if size == 1 else "b") for side, size in zip(sides, shape, strict=True)]
    axes = (tuple(axis for axis, side in enumerate(sides) if side == name) for name in "bod")
    layout = Layout(shape, *axes)
    settled_uses: list[Use] = []
    for use in uses:
        one = replace(use, layout=layout) if isinstance(use, MatrixUse) else _respelled(use, whole, layout)
        blocks = layout.places(one.spelled.positions)[0]
        if not bool((blocks.diff() == 1).all()):
            return "blocks of its weight are multiplied out of order: frozen"
        settled_uses.append(replace(one, blocks=slice(int(blocks[0]), int(blocks[-1]) + 1)))
    return replace(layer, bias=None, num_blocks=layout.sizes[0], layout=layout), settled_uses


def _respelled(use: Use, positions: Tensor, layout: Layout) -> MatrixUse:
    """Gives a use of the whole weight by `F.linear` in normal form."""

    def rows(tensor: Tensor) -> Tensor:
        return tensor.reshape(1, -1, tensor.shape[-1])

    return MatrixUse(
        use.inputs, use.edge, use.blocks, spelled=Spelled(use.inputs, positions, rows, rows), layout=layout
    )
