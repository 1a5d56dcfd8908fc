"""Models that hold each shape of a linear map, small enough to look at."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from teleport_engine import Limits, Line, Options, Teleporter, TeleportReport
from teleport_engine.model import Use
from tests.teleport_engine.dense import Loss


class Case(NamedTuple):
    model: nn.Module
    loss_fn: Loss
    inputs: Any
    targets: Any
    can_move: frozenset[str]


def mlp(*widths: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for d_in, d_out in itertools.pairwise(widths):
        layers += [nn.Linear(d_in, d_out), activation()]
    return nn.Sequential(*layers[:-1])


class Tokens(nn.Module):
    """One block of attention made of Linear layers, with LayerNorm, residuals and a head on the mean token."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.embed = nn.Linear(6, d)
        self.norm = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.head = nn.Linear(d, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v))
        logits: Tensor = self.head(x.mean(dim=1))
        return logits


class Repeated(nn.Module):
    """One Linear called three times, and its weight tied to another module's."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 48)
        self.again = nn.Linear(48, 48)
        self.twin = nn.Linear(48, 48)
        self.twin.weight = self.again.weight
        self.head = nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        for _ in range(3):
            x = x + 0.5 * torch.tanh(self.again(x))
        logits: Tensor = self.head(torch.tanh(self.twin(x)))
        return logits


class Translates(nn.Module):
    """Encoder and decoder blocks of torch's own: self- and cross-attention, both orders of the batch, a mask."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.embed = nn.Linear(6, d)
        self.encoder = nn.TransformerEncoderLayer(d, 2, 2 * d, batch_first=True, dropout=0.0, norm_first=True)
        self.decoder = nn.TransformerDecoderLayer(d, 4, d, batch_first=False, dropout=0.0, activation="gelu")
        self.reader = nn.MultiheadAttention(d, 2, kdim=6, vdim=6, batch_first=True)
        self.head = nn.Linear(d, 4)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=target.dtype)
        memory = self.encoder(self.embed(source)).transpose(0, 1)
        x = self.decoder(self.embed(target).transpose(0, 1), memory, tgt_mask=causal.to(target.device))
        x = x.transpose(0, 1)
        x = x + self.reader(x, source, source)[0]
        logits: Tensor = self.head(x.mean(1))
        return logits


def _classes(n: int) -> Tensor:
    return torch.arange(n) % 4


def _relu() -> Case:
    return Case(mlp(6, 32, 32, 4), nn.functional.cross_entropy, torch.randn(8, 6), _classes(8), frozenset("24"))


def _inplace_relu() -> Case:
    model = mlp(6, 32, 32, 4, activation=lambda: nn.ReLU(inplace=True))
    return Case(model, nn.functional.cross_entropy, torch.randn(8, 6), _classes(8), frozenset("24"))


def _tanh() -> Case:
    model = mlp(6, 32, 32, 4, activation=nn.Tanh)
    return Case(model, nn.functional.mse_loss, torch.randn(8, 6), torch.randn(8, 4), frozenset("24"))


def _batch_norm() -> Case:
    model = nn.Sequential(
        nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.Linear(32, 4)
    )
    return Case(model, nn.functional.cross_entropy, torch.randn(8, 6), _classes(8), frozenset("35"))


def _tokens() -> Case:
    moving = frozenset({"qkv", "out", "head"})
    return Case(Tokens(32), nn.functional.cross_entropy, torch.randn(4, 5, 6), _classes(4), moving)


def _repeated() -> Case:
    moving = frozenset({"again", "head"})
    return Case(Repeated(), nn.functional.cross_entropy, torch.randn(6, 5), _classes(6), moving)


def _convolutions() -> Case:
    model = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(inplace=True),
        nn.Conv2d(24, 24, (3, 2), stride=2, padding=(1, 0), groups=2),
        nn.BatchNorm2d(24),
        nn.Tanh(),
        nn.Conv2d(24, 24, 2, padding="same", dilation=2, padding_mode="circular", bias=False),
        nn.SiLU(),
        nn.Conv2d(24, 24, 3, padding=1, groups=24),
        nn.GroupNorm(4, 24),
        nn.Flatten(),
        nn.Linear(24 * 9, 4),
    )
    moving = frozenset({"2", "5", "10"})  # nine places of two samples fill the nine taps of a depthwise window
    return Case(model, nn.functional.cross_entropy, torch.randn(2, 3, 6, 6), _classes(2), moving)


def _lines_and_volumes() -> Case:
    model = nn.Sequential(
        nn.Conv1d(4, 40, 5, padding=2, padding_mode="replicate"),
        nn.Tanh(),
        nn.Conv1d(40, 48, 3, stride=2, padding="valid", dilation=2),
        nn.Unflatten(1, (24, 2)),
        nn.Unflatten(3, (2, 2)),
        nn.Tanh(),
        nn.Conv3d(24, 12, 2, padding=1, groups=3),
        nn.Flatten(),
        nn.Linear(324, 4),
    )
    return Case(model, nn.functional.mse_loss, torch.randn(2, 4, 11), torch.randn(2, 4), frozenset({"2", "6", "8"}))


def _translates() -> Case:
    attentions = {"encoder.self_attn", "decoder.self_attn", "decoder.multihead_attn"}
    moving = {
        *attentions,
        *(f"{name}.out_proj" for name in attentions),
        *("encoder.linear1", "encoder.linear2", "decoder.linear1", "decoder.linear2"),
        *("reader.q_proj_weight", "reader.out_proj", "head"),
    }
    inputs = torch.randn(2, 4, 6), torch.randn(2, 3, 6)
    return Case(Translates(16), nn.functional.cross_entropy, inputs, _classes(2), frozenset(moving))


CASES: dict[str, Callable[[], Case]] = {
    "relu": _relu,
    "inplace_relu": _inplace_relu,
    "tanh": _tanh,
    "batch_norm_in_train_mode": _batch_norm,
    "attention_and_layer_norm": _tokens,
    "called_several_times_and_tied": _repeated,
    "convolutions": _convolutions,
    "lines_and_volumes": _lines_and_volumes,
    "torch's own transformer": _translates,
}


def make(name: str, dtype: torch.dtype = torch.float64) -> Case:
    """The case with its own seed, in the given precision."""
    torch.manual_seed(sorted(CASES).index(name))
    case = CASES[name]()

    def cast(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(cast(part) for part in value)
        return value.to(dtype) if value.is_floating_point() else value

    return case._replace(model=case.model.to(dtype), inputs=cast(case.inputs), targets=cast(case.targets))


def outputs_of(model: nn.Module, inputs: Any) -> Tensor:
    """In the model's own mode, its buffers left alone."""
    with torch.no_grad():
        outputs: Tensor = copy.deepcopy(model)(*inputs) if isinstance(inputs, tuple) else copy.deepcopy(model)(inputs)
    return outputs


def moved_names(report: TeleportReport) -> frozenset[str]:
    return frozenset(layer.name for layer in report.layers if layer.moved)


LIMITS = frozenset(field.name for field in dataclasses.fields(Limits))


def teleporter_of(model: nn.Module, loss_fn: Loss, **given: Any) -> Teleporter:
    """With any options and limits by their names, as tests hold them in dicts."""
    limits = {name: value for name, value in given.items() if name in LIMITS}
    options = {name: value for name, value in given.items() if name not in LIMITS}
    return Teleporter(model, loss_fn, Options(**options, limits=Limits(**limits)))


@dataclasses.dataclass(frozen=True)
class OwnStep:
    """A user's step rule: a move of this Frobenius norm, or of this share of that of the weights."""

    norm: float = 0.0
    share: float = 0.0

    def length(self, line: Line) -> float:
        return (self.norm or self.share * line.weight_norm()) / line.direction_norm


def stacked_rows(uses: Sequence[Use], num_blocks: int) -> list[Tensor]:
    """What a weight multiplies, per block `X [N, d]`, its uses stacked; one tensor for blocks that share their rows."""
    found: dict[tuple[tuple[int, int], ...], Tensor] = {}
    stacks = []
    for block in range(num_blocks):
        feeds = [(use, block - use.blocks.start) for use in uses if use.blocks.start <= block < use.blocks.stop]
        key = tuple((id(use), 0 if use.is_shared else own) for use, own in feeds)
        if key not in found:
            parts = [chunk[own] for use, own in feeds for chunk in use.chunks(1 << 62)]
            found[key] = parts[0] if len(parts) == 1 else torch.cat(parts)
        stacks.append(found[key])
    return stacks
