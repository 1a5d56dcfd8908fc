"""Substitutes give torch's own values and gradients, and have the derivatives that torch's lack."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from teleport_engine import GrowthStep, Outcome, Teleporter
from teleport_engine.model.torch_gaps import Substitutes
from tests.teleport_engine import dense

IDS = torch.tensor([1, 0, 2, 2, 4, 1])


def _values(function: Any, weight: Tensor) -> tuple[Tensor, Tensor]:
    out = function(weight)
    (grad,) = torch.autograd.grad(out.pow(3).sum(), weight)
    return out.detach(), grad


def test_hardsigmoid() -> None:
    x = torch.cat([torch.linspace(-4, 4, 33), torch.tensor([-3.0, 3.0])]).double().requires_grad_()
    expected = _values(nn.functional.hardsigmoid, x)
    with Substitutes() as mode:
        found = _values(nn.functional.hardsigmoid, x)
        in_place = (x * 1.0).clone()
        returned = nn.functional.hardsigmoid(in_place, inplace=True)
    assert mode.num_replaced == 2
    for mine, twin in zip(found, expected, strict=True):
        assert torch.allclose(mine, twin, atol=1e-15)
    assert returned is in_place
    assert torch.allclose(in_place, expected[0], atol=1e-15)


def test_weight_norm() -> None:
    v, g = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True), torch.rand(4, 1, 1, dtype=torch.float64)
    expected = _values(lambda v: torch._weight_norm(v, g, 0), v)
    with Substitutes() as mode:
        found = _values(lambda v: torch._weight_norm(v, g, 0), v)
    assert mode.num_replaced == 1
    for mine, twin in zip(found, expected, strict=True):
        assert torch.allclose(mine, twin, atol=1e-14)


@pytest.mark.parametrize("kind", ["sum", "mean"])
def test_embedding_bag(kind: str) -> None:
    weight = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    bags: list[tuple[Tensor, dict[str, Any]]] = [
        (IDS.reshape(2, 3), {}),
        (IDS, {"offsets": torch.tensor([0, 2, 2, 5])}),
        (IDS, {"offsets": torch.tensor([0, 2, 6]), "include_last_offset": True}),
        (IDS.int(), {"offsets": torch.tensor([0, 4]).int()}),
    ]
    for (ids, given), padding in itertools.product(bags, [None, 2, -1]):
        options = {**given, "mode": kind, "padding_idx": padding}
        if kind == "sum":
            options["per_sample_weights"] = torch.rand(ids.shape, dtype=torch.float64)

        def bag(w: Tensor, ids: Tensor = ids, options: dict[str, Any] = options) -> Tensor:
            found: Tensor = nn.functional.embedding_bag(ids, w, **options)
            return found

        expected = _values(bag, weight)
        with Substitutes() as mode:
            found = _values(bag, weight)
        assert mode.num_replaced == 1
        for mine, twin in zip(found, expected, strict=True):
            assert torch.allclose(mine, twin, atol=1e-14), options


def test_grouped_mm() -> None:
    rows = torch.randn(7, 4)
    ends = torch.tensor([3, 3, 5], dtype=torch.int32)  # nobody goes to the second group, the last two rows to none

    def product(w: Tensor) -> Tensor:
        return nn.functional.grouped_mm(rows, w.transpose(1, 2), offs=ends)[:5]

    weight = torch.randn(3, 8, 4, requires_grad=True)
    expected = _values(product, weight)
    with Substitutes() as mode:
        found = _values(product, weight)
        alone = nn.functional.grouped_mm(weight.mT.detach(), weight.detach())  # a group for each: left to torch
    assert mode.num_replaced == 1
    assert alone.shape == (3, 4, 4)
    for mine, twin in zip(found, expected, strict=True):
        assert torch.allclose(mine, twin, rtol=1e-5)


class Routed(nn.Module):
    """A token of each sample goes to an expert of its own, by torch's grouped product, which takes no double."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(5, 16), nn.Linear(8, 3)
        self.experts = nn.Parameter(0.3 * torch.randn(3, 8, 16))

    def forward(self, x: Tensor) -> Tensor:
        ends = torch.tensor([2, 2, 6], dtype=torch.int32)
        rows = nn.functional.grouped_mm(torch.tanh(self.first(x)), self.experts.mT, offs=ends)
        logits: Tensor = self.head(torch.tanh(rows))
        return logits


@pytest.mark.parametrize("options", [{}, {"tau": 0.99}])
def test_experts_by_grouped_mm_move(options: dict[str, Any]) -> None:
    model, inputs, targets = Routed(), torch.randn(6, 5), torch.arange(6) % 3
    with torch.no_grad():
        before = model(inputs)
    unused = model.experts[1].detach().clone()
    teleporter = Teleporter(model, nn.functional.cross_entropy, step=GrowthStep(1.2), num_steps=2, **options)
    report = teleporter.teleport(inputs, targets)
    (layer,) = [layer for layer in report.layers if layer.name == "experts"]
    assert (layer.moved, layer.num_blocks, layer.d_in) == (True, 3, 16), layer
    assert torch.equal(model.experts[1], unused)
    with torch.no_grad():
        assert float((model(inputs) - before).abs().max()) <= (1e-5 if not options else 0.3)


def test_the_largest_of_a_bag_is_left_to_torch() -> None:
    weight = torch.randn(5, 3)
    with Substitutes() as mode:
        found = [
            nn.functional.embedding_bag(IDS[None], weight, mode="max"),
            nn.functional.embedding_bag(IDS[None], weight, None, None, 2.0, False, "max"),
        ]
    assert mode.num_replaced == 0
    assert torch.equal(found[0], found[1])


class Bags(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.words, self.squeeze = nn.EmbeddingBag(9, 16, **options), nn.Hardsigmoid(inplace=True)
        self.mid, self.head = nn.Linear(16, 24), nn.Linear(24, 4)

    def forward(self, words: Tensor) -> Tensor:
        h = self.mid(self.words(words))
        logits: Tensor = self.head(h * self.squeeze(h * 2.0))
        return logits


@pytest.mark.parametrize("options", [{}, {"mode": "sum", "sparse": True}, {"max_norm": 0.5}], ids=str)
@pytest.mark.parametrize("tau", [1.0, 0.9])
def test_models_of_them_teleport(options: dict[str, Any], tau: float) -> None:
    model = Bags(**options).double()
    words, targets = torch.arange(12).reshape(4, 3) % 9, torch.arange(4)
    before = copy.deepcopy(model.state_dict())
    teleporter = Teleporter(model, nn.functional.cross_entropy, tau=tau, step=GrowthStep(1.1), num_steps=2)
    directions = teleporter.direction(words, targets)
    report = teleporter.teleport(words, targets)
    assert (report.outcome, report.route) == (Outcome.MOVED, "jvp" if tau == 1.0 else "double_backward")
    assert report.layers[0].reason == "an embedding: frozen"
    assert tau < 1.0 or abs(report.loss_drift) <= 1e-12
    assert torch.equal(model.words.weight, before["words.weight"]), "not renormalised either"
    assert model.words.sparse is options.get("sparse", False)

    twin = Bags(**{**options, "sparse": False, "max_norm": None}).double()
    twin.load_state_dict(before)
    if "max_norm" in options:
        with torch.no_grad():
            norms = twin.words.weight.norm(dim=1, keepdim=True)
            twin.words.weight *= (0.5 / (norms + 1e-7)).clamp(max=1.0)
    rows = dense.map_rows(copy.deepcopy(twin), words)
    with Substitutes():
        parameters = dict(twin.named_parameters())
        wanted = [parameters[name] for name in rows]
        full = dense.half_square_norm_gradient(twin, nn.functional.cross_entropy, words, targets, wanted)
    for (name, of_blocks), part in zip(rows.items(), full, strict=True):
        expected = dense.projected(part, of_blocks, tau)
        assert float((directions[name] - expected).norm()) <= 1e-9 * float(part.norm())
