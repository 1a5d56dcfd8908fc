"""Layers whose units may be rescaled one against the other, in closed form and on all data.

A *chain* is layers one after the other, with only positively homogeneous operations between neighbours (ReLU,
LeakyReLU, pooling, dropout). A unit's incoming weights and bias may be multiplied by `a > 0` and its outgoing weights
by `1 / a`. Three kinds are found:

- linear maps and convolutions in an `nn.Sequential`, and the two of an `nn.TransformerEncoderLayer` or
  `nn.TransformerDecoderLayer` with ReLU. A norm may be the first: its scale and shift are the incoming weights.
- value rows and output projection of an `nn.MultiheadAttention`, whose output is linear in the values.
- its query and key rows: a product of the two is left alone where one is multiplied by `a` and the other by `1 / a`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

__all__ = ["Chain", "Part", "chains"]

_HOMOGENEOUS = (
    *(nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Flatten),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)
_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d)
# Norms, and the maps that may follow: those to whose inputs a norm's scales belong, one for one.
_NORMS: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    nn.LayerNorm: (nn.Linear,),
    nn.RMSNorm: (nn.Linear,),
    nn.BatchNorm1d: (nn.Linear, nn.Conv1d),
    nn.BatchNorm2d: (nn.Conv2d, nn.Linear),
    nn.GroupNorm: (nn.Conv1d, nn.Conv2d),
}
_ALL = slice(None)
_BLOCKS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


@final
@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a weight with their bias: the units of one layer.

    Args:
        weight: `[units, inputs, ...]`, or the scales `[units]` of a norm.
        bias: `[units]`, where there is one.
        rows: which rows of the weight.
        bias_rows: which entries of the bias.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    rows: slice = field(default_factory=lambda: _ALL)
    bias_rows: slice = field(default_factory=lambda: _ALL)

    @property
    def num_units(self) -> int:
        """How many rows."""
        return len(range(*self.rows.indices(self.weight.shape[0])))

    def squares(self) -> Tensor:
        """Gives the squares of the weight in float64, `[units, inputs]`, those of a kernel added up."""
        own = self.weight.detach()[self.rows].to(torch.float64).square()
        return own.flatten(2).sum(-1) if own.ndim > 2 else own.reshape(len(own), -1)

    def bias_squares(self) -> Tensor:
        """Gives the squares of the bias in float64, `[units]`; zeros for a layer without a bias."""
        if self.bias is None:
            return torch.zeros(self.num_units, dtype=torch.float64, device=self.weight.device)
        return self.bias.detach()[self.bias_rows].to(torch.float64).square()


@final
@dataclass(frozen=True, eq=False)
class Chain:
    """Layers one after the other, whose units may be rescaled.

    Args:
        parts: the layers.
        spans: between neighbours, how many inputs of the upper one a unit of the lower one has.
        is_product: the last layer's own units take `1 / a`, row for row: keys, against queries.
    """

    parts: list[Part]
    spans: list[int]
    is_product: bool = False

    def multiply(self, logs: Sequence[Tensor], factors: dict[int, Tensor]) -> None:
        """Multiplies into `factors`, by id of the parameter, what each is multiplied by.

        Args:
            logs: logarithms of the factors of the units of all parts but the last.
            factors: what parameters are multiplied by already.
        """
        for place, part in enumerate(self.parts):
            tail = [1] * (part.weight.ndim - 1)
            log = torch.zeros((1, *tail), dtype=torch.float64, device=part.weight.device)
            own = logs[place] if place < len(logs) else -logs[-1] if self.is_product else None
            if own is not None:
                own = own.to(log)
                log = log + own.view(-1, *tail)
                if part.bias is not None:
                    _multiply(factors, part.bias, part.bias_rows, own)
            if place > 0 and not self.is_product:
                below = logs[place - 1].to(log).repeat_interleave(self.spans[place - 1])
                log = log - below.view(1, -1, *tail[1:])
            _multiply(factors, part.weight, part.rows, log)


def _multiply(factors: dict[int, Tensor], parameter: nn.Parameter, rows: slice, log: Tensor) -> None:
    factor = log.exp()
    if rows != _ALL:
        whole = factor.new_ones(parameter.shape[0], *factor.shape[1:])
        whole[rows] = factor
        factor = whole
    known = factors.get(id(parameter))
    factors[id(parameter)] = factor.to(parameter.dtype) if known is None else known * factor.to(parameter.dtype)


def chains(model: nn.Module) -> tuple[list[Chain], str]:
    """Finds the chains of a model; the sentence says why there is no chain, where there is no chain."""
    owners = [id(parameter) for module in model.modules() for parameter in module._parameters.values()]
    calls = [id(child) for module in model.modules() for child in module._modules.values()]
    search = _Search(owners, calls, [], set())
    for module in model.modules():
        if type(module) is nn.Sequential:
            search.follow(list(module.children()))
        elif type(module) is nn.MultiheadAttention:
            search.attend(module)
        elif type(module) in _BLOCKS:
            search.follow(_feed_forward(module))
    told = f" ({', '.join(sorted(search.why))})" if search.why else ""
    return search.found, f"no two neighbouring layers with only homogeneous operations between them{told}"


def _feed_forward(block: Any) -> list[nn.Module]:
    """Gives the modules of a block of torch's own that follow each other as in a Sequential."""
    is_relu = block.activation is nn.functional.relu or isinstance(block.activation, nn.ReLU)
    activation = nn.ReLU() if is_relu else block.activation if isinstance(block.activation, nn.Module) else nn.GELU()
    norms = [block.norm3 if isinstance(block, nn.TransformerDecoderLayer) else block.norm2] if block.norm_first else []
    return [*norms, block.linear1, activation, block.linear2]


@final
@dataclass(frozen=True)
class _Search:
    """Looks for chains; `why` collects what has stood between two layers."""

    owners: Sequence[int]
    calls: Sequence[int]
    found: list[Chain]
    why: set[str]

    def follow(self, modules: Sequence[nn.Module]) -> None:
        """Finds the chains among modules that are called one after the other."""
        chain: list[nn.Module] = []
        spans: list[int] = []
        between: list[nn.Module] = []
        for module in modules:
            is_norm = type(module) in _NORMS and self._is_free(module)
            is_map = type(module) in _MAPS
            if not is_norm and not is_map:
                between.append(module)
                continue
            is_map = is_map and self._is_free(module)
            span = _span(chain[-1], between, module, self.why) if chain and is_map else None
            if span is None:
                self._keep(chain, spans)
                chain, spans = [module] if is_map or is_norm else [], []
            else:
                chain.append(module)
                spans.append(span)
            between = []
        self._keep(chain, spans)

    def _keep(self, chain: Sequence[nn.Module], spans: list[int]) -> None:
        if spans:
            self.found.append(Chain([_part(one) for one in chain], spans))

    def attend(self, attention: nn.MultiheadAttention) -> None:
        """Finds the two chains of an attention: queries against keys, and values against the output projection."""
        if not self._is_free(attention) or not self._is_free(attention.out_proj):
            return
        if attention.bias_k is not None:
            self.why.add("an attention with bias_k has keys and values of its own")
            return
        size, bias = attention.embed_dim, attention.in_proj_bias
        own = [slice(start * size, (start + 1) * size) for start in range(3)]
        packed: Any = attention.in_proj_weight
        if packed is None:
            weights: list[Any] = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
            queries, keys, values = (
                Part(weight, bias, bias_rows=rows) for weight, rows in zip(weights, own, strict=True)
            )
        else:
            queries, keys, values = (Part(packed, bias, rows, rows) for rows in own)
        self.found.append(Chain([queries, keys], [1], is_product=True))
        self.found.append(Chain([values, _part(attention.out_proj)], [1]))

    def _is_free(self, module: nn.Module) -> bool:
        """Says whether a layer has weights, is trained, is no other's too, and comes once."""
        own = [parameter for parameter in module._parameters.values() if parameter is not None]
        # An attention does not change by how often it is called; that its weights are its own is enough.
        is_once = self.calls.count(id(module)) == 1 or isinstance(module, nn.MultiheadAttention)
        is_alone = is_once and all(self.owners.count(id(parameter)) == 1 for parameter in own)
        is_grouped = getattr(module, "groups", 1) != 1
        named = ("weight", "in_proj_weight", "q_proj_weight")  # a parametrised one is computed from others
        has_weight = any(module._parameters.get(name) is not None for name in named)
        return has_weight and is_alone and not is_grouped and all(parameter.requires_grad for parameter in own)


def _part(module: nn.Module) -> Part:
    bias: Any = module._parameters.get("bias")
    return Part(module.get_parameter("weight"), bias)


def _span(lower: nn.Module, between: Sequence[nn.Module], upper: nn.Module, why: set[str]) -> int | None:
    """Tells how many inputs of the upper layer a unit of the lower one has; None where they cannot be rescaled."""
    others = [type(part).__name__ for part in between if type(part) not in _HOMOGENEOUS]
    if others:
        why.update(f"{name} is not homogeneous" for name in others)
        return None
    flattens = any(type(part) is nn.Flatten for part in between)
    if type(lower) in _NORMS:
        if lower.get_parameter("weight").ndim != 1 or not isinstance(upper, _NORMS[type(lower)]):
            return None
        if type(lower) is nn.BatchNorm2d and isinstance(upper, nn.Linear) and not flattens:
            return None
    elif isinstance(lower, nn.Linear) != isinstance(upper, nn.Linear) and not flattens:
        return None
    span, rest = divmod(int(upper.get_parameter("weight").shape[1]), int(lower.get_parameter("weight").shape[0]))
    if rest or span == 0 or (span > 1 and not flattens):
        return None
    return span
