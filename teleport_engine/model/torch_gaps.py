"""Operations of torch that lack a derivative which a teleport needs, by others that have it.

Of the operations that models are made of: `F.hardsigmoid` (in every MobileNetV3) has no second backward,
`torch._weight_norm` and `F.grouped_mm` no forward mode, `F.embedding_bag` neither.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from teleport_engine.model.call_patch import CallPatch, Calls

__all__ = ["Substitutes"]


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    found = nn.functional.relu6(input + 3.0) / 6.0
    return input.copy_(found) if inplace else found


def _embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor | None:
    """As `F.embedding_bag`; None for the mode "max", which torch differentiates."""
    if mode == "max":
        return None
    if offsets is None:
        num_bags, flat = input.shape[0], input.reshape(-1)
        bags = torch.arange(num_bags, device=flat.device).repeat_interleave(input.shape[1])
    else:
        flat = input
        starts = offsets[:-1] if include_last_offset else offsets
        num_bags = starts.numel()
        places = torch.arange(flat.numel(), device=flat.device)
        bags = torch.searchsorted(starts.contiguous().to(places.dtype), places, right=True) - 1
    rows = nn.functional.embedding(flat, weight, None, max_norm, norm_type, scale_grad_by_freq)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    if padding_idx is not None:
        kept = flat != padding_idx % weight.shape[0]
        rows, bags = rows[kept], bags[kept]
    sums = rows.new_zeros(num_bags, weight.shape[1]).index_add(0, bags, rows)
    if mode == "sum":
        return sums
    return sums / torch.bincount(bags, minlength=num_bags).clamp_min(1).to(sums.dtype)[:, None]


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _grouped_mm(
    mat_a: Tensor,
    mat_b: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor | None:
    """As `F.grouped_mm` of rows `[N, d]`, sorted by group, with matrices `[g, d, o]`; None for other shapes."""
    if offs is None or bias is not None or out_dtype is not None or (mat_a.ndim, mat_b.ndim) != (2, 3):
        return None
    ends = offs.tolist()
    parts = [mat_a[start:end] @ mat_b[group] for group, (start, end) in enumerate(itertools.pairwise([0, *ends]))]
    rest = mat_a.new_zeros(mat_a.shape[0] - ends[-1], mat_b.shape[2])  # rows of no group
    return torch.cat([*parts, rest])


_LOW = (torch.bfloat16, torch.float16)
_LOWERS = frozenset((torch.Tensor.bfloat16, torch.Tensor.half))


@final
class Substitutes(CallPatch):
    """Runs the substitutes while it is active; their values are torch's to rounding.

    Where a model turns autocast on inside its own forward, the calls run in full precision all the same: in bfloat16 no
    move cancels, so a teleport computes in the precision of the weights. Such calls count as replaced too.
    """

    table: ClassVar[Calls] = {
        nn.functional.hardsigmoid: _hardsigmoid,
        nn.functional.embedding_bag: _embedding_bag,
        torch._weight_norm: _weight_norm,
        torch._grouped_mm: _grouped_mm,
    }

    def _run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
            return self._replaced(func, args, kwargs)
        self.num_replaced += func not in self.table
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            func = torch.Tensor.float if func in _LOWERS else func
            full = {name: _in_full(value) for name, value in kwargs.items()}
            return self._replaced(func, [_in_full(value) for value in args], full)


def _in_full(value: Any) -> Any:
    """Takes what the model cast by hand for autocast back to full precision, too."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in _LOW else value
    if isinstance(value, torch.dtype):
        return torch.float32 if value in _LOW else value
    if type(value) in (tuple, list):
        return type(value)(_in_full(part) for part in value)
    return value
