"""Attention taken apart: the same bits as torch's, and which rows of its weights multiply what (A9)."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from teleport_engine import GrowthStep, Outcome, TeleportReport
from teleport_engine.model.call_patch import unrolled_attention
from teleport_engine.model.layer_calls import Watch
from teleport_engine.model.layers import WeightLayer, find_layers
from teleport_engine.model.linear_maps import Use
from tests.teleport_engine.cases import stacked_rows, teleporter_of

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no bias": {"bias": False},
    "other widths of keys and values": {"kdim": 6, "vdim": 3},
    "bias_kv": {"add_bias_kv": True},
    "zero attention": {"add_zero_attn": True},
    "dropout": {"dropout": 0.5},
}


def _masks(tgt_len: int, src_len: int, num_batches: int) -> dict[str, dict[str, Any]]:
    causal = torch.ones(tgt_len, src_len).triu(1).bool()
    padding = torch.zeros(num_batches, src_len).bool()
    padding[0, -1] = True
    return {
        "none": {},
        "bool": {"attn_mask": causal},
        "float": {"attn_mask": torch.zeros(tgt_len, src_len, dtype=torch.float64).masked_fill(causal, -torch.inf)},
        "each head": {"attn_mask": causal.expand(2 * num_batches, -1, -1)},
        "padding": {"key_padding_mask": padding},
        "both": {"attn_mask": causal, "key_padding_mask": padding},
        "hint": {"attn_mask": causal, "is_causal": True},
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sides", ["self", "cross", "three"])
def test_it_gives_the_bits_of_torch(kind: str, sides: str) -> None:
    separate = "kdim" in KINDS[kind]
    tgt_len, src_len = (4, 4) if sides == "self" else (4, 5)
    query = torch.randn(2, tgt_len, 8, dtype=torch.float64)
    key = query if sides == "self" and not separate else torch.randn(2, src_len, 6 if separate else 8).double()
    value = torch.randn(2, src_len, 3).double() if separate else key if sides != "three" else torch.randn_like(key)
    for batch_first, (mask, options), (need_weights, average) in itertools.product(
        (True, False), _masks(tgt_len, src_len, 2).items(), ((False, True), (True, True), (True, False))
    ):
        module = nn.MultiheadAttention(8, 2, batch_first=batch_first, **KINDS[kind]).double()
        inputs = [x if batch_first else x.transpose(0, 1) for x in (query, key, value)]
        inputs = [inputs[0], inputs[0], inputs[0]] if value is query else inputs
        inputs = [inputs[0], inputs[1], inputs[1]] if value is key else inputs
        options = {**options, "need_weights": need_weights, "average_attn_weights": average}
        torch.manual_seed(1)
        expected = module(*inputs, **options)
        torch.manual_seed(1)
        with Watch([layer for layer in find_layers(module) if isinstance(layer, WeightLayer)]) as watch:
            found = module(*inputs, **options)
        assert all(len(uses) >= 1 for uses in watch.uses), (mask, batch_first)
        for mine, twin in zip(found, expected, strict=True):
            assert mine is twin is None or torch.equal(mine, twin), (mask, batch_first, need_weights)


def test_inputs_without_a_batch() -> None:
    module, x = nn.MultiheadAttention(8, 2), torch.randn(4, 8)
    with Watch([]):
        found = module(x, x, x)
    assert all(map(torch.equal, found, module(x, x, x)))


def test_torch_has_not_moved_the_hand_over() -> None:
    """The unrolled code must not hand itself over again, or a watch would see nothing."""
    assert "has_torch_function" in nn.functional.multi_head_attention_forward.__code__.co_names
    assert unrolled_attention.__globals__["has_torch_function"](()) is False


def _uses(module: nn.Module, *inputs: Tensor) -> dict[str, list[Use]]:
    layers = [layer for layer in find_layers(module) if isinstance(layer, WeightLayer)]
    with Watch(layers, is_census=True) as watch:
        module(*inputs)
    assert watch.num_other_uses == [0] * len(layers)
    return {layer.parameter_name: uses for layer, uses in zip(layers, watch.uses, strict=True)}


class TestRowBlocks:
    def test_self_attention_has_one_input_for_three_blocks(self) -> None:
        x = torch.randn(4, 2, 8)
        (use,) = _uses(nn.MultiheadAttention(8, 2), x, x, x)["in_proj_weight"]
        assert (use.blocks, use.is_shared) == (slice(0, 3), True)
        stacks = stacked_rows([use], 3)
        assert stacks[0] is stacks[1] is stacks[2]
        assert torch.equal(stacks[0], x.reshape(8, 8))

    def test_cross_attention_has_the_query_from_one_side_and_the_rest_from_the_other(self) -> None:
        x, y = torch.randn(4, 2, 8), torch.randn(3, 2, 8)
        uses = _uses(nn.MultiheadAttention(8, 2), x, y, y)["in_proj_weight"]
        assert [use.blocks for use in uses] == [slice(0, 1), slice(1, 3)]
        stacks = stacked_rows(uses, 3)
        assert stacks[1] is stacks[2]
        assert torch.equal(stacks[0], x.reshape(8, 8))
        assert torch.equal(stacks[1], y.reshape(6, 8))

    def test_three_inputs_are_three(self) -> None:
        inputs = [torch.randn(4, 2, 8) for _ in range(3)]
        uses = _uses(nn.MultiheadAttention(8, 2), *inputs)["in_proj_weight"]
        assert [use.blocks for use in uses] == [slice(0, 1), slice(1, 2), slice(2, 3)]
        assert all(torch.equal(use.inputs, x) for use, x in zip(uses, inputs, strict=True))

    def test_a_module_called_on_both_sides_stacks_block_by_block(self) -> None:
        class Both(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attention = nn.MultiheadAttention(8, 2)

            def forward(self, x: Tensor, y: Tensor) -> Tensor:
                h = self.attention(x, x, x)[0]
                found: Tensor = self.attention(h, y, y)[0]
                return found

        x, y = torch.randn(4, 2, 8), torch.randn(3, 2, 8)
        stacks = stacked_rows(_uses(Both(), x, y)["attention.in_proj_weight"], 3)
        assert [len(stack) for stack in stacks] == [16, 14, 14]
        assert stacks[0] is not stacks[1] is stacks[2]


class Attends(nn.Module):
    """first -> attention -> out; `extra` rows of the packed projection are used on their own."""

    def __init__(self, extra: Any = None) -> None:
        super().__init__()
        self.first, self.attention, self.out = nn.Linear(5, 16), nn.MultiheadAttention(16, 2), nn.Linear(16, 3)
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        a = self.attention(h, h, h)[0]
        if self.extra is not None:
            a = a + self.extra(self.attention.in_proj_weight, h)
        logits: Tensor = self.out(a.mean(0))
        return logits


def climb(model: nn.Module, **options: Any) -> TeleportReport:
    teleporter = teleporter_of(
        model.double(), nn.functional.cross_entropy, step=GrowthStep(1.2), num_steps=2, **options
    )
    return teleporter.teleport(torch.randn(3, 2, 5).double(), torch.arange(2))


@pytest.mark.parametrize(
    ("extra", "rank"),
    [
        (lambda w, h: nn.functional.linear(h + 1.0, w[16:32]), 6),
        (lambda w, h: nn.functional.linear(h + 1.0, w)[..., :16], 7),
        (lambda w, h: nn.functional.linear(h + 1.0, w.narrow(0, 0, 32))[..., :16], 6),
        (lambda w, h: nn.functional.linear(h + 1.0, torch.split(w, 16)[2]), 6),
    ],
    ids=["a slice", "all of it", "narrow", "split"],
)
def test_whole_blocks_used_on_their_own_are_more_linear_maps(extra: Any, rank: int) -> None:
    report = climb(Attends(extra))
    assert report.outcome is Outcome.MOVED
    attention = next(layer for layer in report.layers if layer.name == "attention")
    assert (attention.moved, attention.num_blocks, attention.rank) == (True, 3, rank)
    assert abs(report.loss_drift) <= 1e-12


@pytest.mark.parametrize(
    "extra",
    [
        lambda w, h: nn.functional.linear(h, w[8:24]),
        lambda w, h: nn.functional.linear(h, w[::3]),
        lambda w, h: nn.functional.linear(h, w[:16].T),
        lambda w, h: h * w[16:32].mean(),
        lambda w, h: h * w[:16].detach().sum(),
        lambda w, h: nn.functional.linear(w[:3, None].expand(-1, 2, -1), w[:16]),
    ],
    ids=["half blocks", "each third row", "the other side", "its mean", "detached rows", "as an input"],
)
def test_other_rows_freeze_it(extra: Any) -> None:
    model = Attends(extra)
    report = climb(model)
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert reasons["attention"] == "its weight is used outside its linear map: frozen"
    assert reasons["attention.out_proj"] == ""
    assert abs(report.loss_drift) <= 1e-12


@pytest.mark.parametrize("kind", ["bias_kv", "zero attention"])
@pytest.mark.parametrize("move_bias", [False, True])
def test_added_keys_and_values_are_no_rows_of_the_projections(kind: str, move_bias: bool) -> None:
    model = Attends()
    model.attention = nn.MultiheadAttention(16, 2, **KINDS[kind])
    report = climb(model, move_bias=move_bias)
    assert (report.outcome, report.route) == (Outcome.MOVED, "jvp")
    attention = next(layer for layer in report.layers if layer.name == "attention")
    assert (attention.rank, attention.null_dim) == (6, 10 + move_bias)
    assert abs(report.loss_drift) <= 1e-12
