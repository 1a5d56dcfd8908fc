"""Rescalings keep the function on all data, reach a growth in closed form, balance, and carry an optimizer along."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from teleport_engine import Outcome, TeleportReport
from teleport_engine.compare import OrbitTeleporter
from teleport_engine.schedule import Schedule

CE = nn.functional.cross_entropy


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(1)
    layers: list[nn.Module] = []
    for d_in, d_out in itertools.pairwise(widths):
        layers += [nn.Linear(d_in, d_out, bias=bias), activation()]
    return nn.Sequential(*layers[:-1]).double()


def cnn() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3, padding=1), nn.LeakyReLU(0.1), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(6 * 4, 3)),
    ).double()


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "relu": (lambda: mlp(5, 7, 6, 3), (5,)),
    "leaky": (lambda: mlp(5, 7, 3, activation=nn.LeakyReLU), (5,)),
    "without bias": (lambda: mlp(5, 7, 6, 3, bias=False), (5,)),
    "cnn": (cnn, (2, 8, 8)),
}


def batch(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(12, *shape, dtype=torch.float64, generator=generator), torch.arange(12) % 3


def square_norm(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """The naive twin: a fresh gradient at the present weights."""
    grads = torch.autograd.grad(CE(model(inputs), targets), list(model.parameters()))
    return float(sum(grad.square().sum() for grad in grads))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("towards", ["first", "last"])
@settings(deadline=None, max_examples=8)
@given(growth=st.floats(1.2, 50.0))
def test_it_grows_as_asked_and_keeps_the_function_on_all_data(name: str, towards: Any, growth: float) -> None:
    make, shape = MODELS[name]
    model = make()
    inputs, targets = batch(shape)
    elsewhere, _ = batch(shape, seed=9)
    before, outputs = square_norm(model, inputs, targets), model(elsewhere).detach()
    first = next(model.parameters()).detach().norm().item()
    report = OrbitTeleporter(model, CE, growth=growth, towards=towards).teleport(inputs, targets)
    assert report.outcome is Outcome.MOVED, report.messages
    after = square_norm(model, inputs, targets)
    assert after == pytest.approx(growth * before, rel=1e-9)
    assert report.grad_norm_after == pytest.approx(math.sqrt(after), rel=1e-9)
    assert torch.allclose(model(elsewhere), outputs, rtol=1e-10, atol=1e-10)
    assert (next(model.parameters()).detach().norm().item() > first) == (towards == "first")
    assert report.num_gradient_evaluations == pytest.approx(4 / 3)


@pytest.mark.parametrize("name", MODELS)
def test_two_directions_of_equal_growth_are_two_places_and_each_leads_back(name: str) -> None:
    make, shape = MODELS[name]
    model, inputs, targets = make(), *batch(shape)
    origin = copy.deepcopy(model.state_dict())
    found = {}
    for towards in ("first", "last"):
        model.load_state_dict(origin)
        a = float(OrbitTeleporter(model, CE, growth=3.0, towards=towards).teleport(inputs, targets).messages[0][4:])
        found[towards] = a
        for key, value in model.state_dict().items():
            ratio = value / origin[key]
            ratio = ratio[torch.isfinite(ratio)]
            assert torch.allclose(ratio, ratio.flatten()[0], rtol=1e-9), f"{key} has one factor"
    assert found["first"] > 1.0 > found["last"] > 0.0


@pytest.mark.parametrize("name", MODELS)
def test_balance_makes_incoming_and_outgoing_norms_equal_and_is_the_least_on_the_orbit(name: str) -> None:
    make, shape = MODELS[name]
    model, (inputs, targets) = make(), batch(shape)
    outputs, whole = model(inputs).detach(), sum(p.detach().square().sum().item() for p in model.parameters())
    report = OrbitTeleporter(model, CE, to="balance").teleport(inputs, targets)
    assert report.outcome is Outcome.MOVED
    assert torch.allclose(model(inputs), outputs, rtol=1e-10, atol=1e-10)
    assert report.grad_norm_after == pytest.approx(math.sqrt(square_norm(model, inputs, targets)), rel=1e-9)
    layers = [layer for layer in model if isinstance(layer, nn.Linear | nn.Conv2d)]
    for lower, upper in itertools.pairwise(layers):
        incoming = lower.weight.detach().flatten(1).square().sum(1)
        if lower.bias is not None:
            incoming = incoming + lower.bias.detach().square()
        outgoing = upper.weight.detach().transpose(0, 1).flatten(1).square().sum(1).view(len(incoming), -1).sum(1)
        assert torch.allclose(incoming, outgoing, rtol=1e-6)
    assert sum(p.detach().square().sum().item() for p in model.parameters()) < whole
    again = OrbitTeleporter(model, CE, to="balance").teleport(inputs, targets)
    assert again.grad_norm_after == pytest.approx(report.grad_norm_after, rel=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9),
        lambda parameters: torch.optim.Adam(parameters, 0.01, amsgrad=True, eps=1e-30),
        lambda parameters: torch.optim.RMSprop(parameters, 0.01, momentum=0.5, eps=1e-30),
    ],
    ids=["momentum", "adam", "rmsprop"],
)
def test_an_optimizer_that_is_carried_along_has_the_state_of_the_gradients_there(make: Any) -> None:
    """Its state is what it would be had all gradients been taken at the rescaled weights."""
    model, (inputs, targets) = mlp(5, 7, 3), batch((5,))
    optimizer = make(list(model.parameters()))
    for _ in range(3):
        optimizer.zero_grad()
        CE(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    before = copy.deepcopy(optimizer.state_dict()["state"])
    weights = copy.deepcopy(model.state_dict())
    report = OrbitTeleporter(model, CE, growth=3.0, optimizer=optimizer).teleport(inputs, targets)
    assert report.outcome is Outcome.MOVED
    after = optimizer.state_dict()["state"]
    powers = {"momentum_buffer": -1, "exp_avg": -1, "exp_avg_sq": -2, "max_exp_avg_sq": -2, "square_avg": -2}
    for index, (key, value) in enumerate(model.state_dict().items()):
        factor = (value / weights[key]).flatten()[0]
        for name, power in powers.items():
            if name in before[index]:
                assert torch.allclose(after[index][name], before[index][name] * factor**power, rtol=1e-9)


class Attends(nn.Module):
    """Tokens through an attention or a block that holds one."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.embed, self.part, self.head = nn.Linear(5, 8), part, nn.Linear(8, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x if x.ndim == 3 else x[:, None])
        if isinstance(self.part, nn.TransformerEncoderLayer):
            tokens = self.part(tokens)
        elif isinstance(self.part, nn.TransformerDecoderLayer):
            tokens = self.part(tokens, tokens.flip(1) + 1.0)
        else:
            other = tokens if self.part.kdim == 8 else x
            tokens = tokens + self.part(tokens, other, other)[0]
        logits: Tensor = self.head(tokens.mean(1))
        return logits


def _attention(**options: Any) -> nn.Module:
    torch.manual_seed(5)
    part = nn.MultiheadAttention(8, 2, batch_first=True, **options)
    if part.in_proj_bias is not None:
        nn.init.normal_(part.in_proj_bias)  # torch starts it at zero
    return Attends(part)


def _block(kind: Any, **options: Any) -> nn.Module:
    torch.manual_seed(6)
    part = kind(8, 2, 12, dropout=0.0, batch_first=True, **options)
    for name, parameter in part.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 0.1, 0.3)  # torch starts some at zero
    return Attends(part)


def _normed(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(7)
    model = nn.Sequential(*layers).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.3, 0.4)
    return model


# What must be rescaled in each, all else staying as it is.
ATTENTION = {"part.in_proj_weight", "part.in_proj_bias", "part.out_proj.weight"}
BLOCK = {f"part.self_attn.{name.removeprefix('part.')}" for name in ATTENTION}
WITHIN: dict[str, tuple[Any, tuple[int, ...], set[str]]] = {
    "attention": (_attention, (4, 5), ATTENTION),
    "attention without bias": (lambda: _attention(bias=False), (4, 5), ATTENTION - {"part.in_proj_bias"}),
    "attention with keys of another width": (
        lambda: _attention(kdim=5, vdim=5),
        (4, 5),
        ATTENTION - {"part.in_proj_weight"} | {f"part.{one}_proj_weight" for one in "qkv"},
    ),
    "encoder layer": (
        lambda: _block(nn.TransformerEncoderLayer),
        (4, 5),
        BLOCK | {"part.linear1.weight", "part.linear1.bias", "part.linear2.weight"},
    ),
    "encoder layer, norm first": (
        lambda: _block(nn.TransformerEncoderLayer, norm_first=True),
        (4, 5),
        BLOCK | {"part.norm2.weight", "part.norm2.bias", "part.linear1.bias", "part.linear2.weight"},
    ),
    "decoder layer of gelu": (
        lambda: _block(nn.TransformerDecoderLayer, norm_first=True, activation="gelu"),
        (4, 5),
        BLOCK
        | {name.replace("self_attn", "multihead_attn") for name in BLOCK}
        | {"part.norm3.weight", "part.norm3.bias", "part.linear1.weight"},
    ),
    "layer norm": (
        lambda: _normed(nn.LayerNorm(5), nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)),
        (5,),
        {"0.weight", "0.bias", "1.bias", "3.weight"},
    ),
    "batch norm": (
        lambda: _normed(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)),
        (5,),
        {"1.weight", "1.bias", "3.weight"},
    ),
    "batch norm of channels": (
        lambda: _normed(
            *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3)),
            *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)),
        ),
        (2, 8, 8),
        {"1.weight", "1.bias", "3.weight", "4.weight", "4.bias", "7.weight"},
    ),
}


@pytest.mark.parametrize("name", WITHIN)
@pytest.mark.parametrize("towards", ["first", "last"])
def test_attentions_blocks_and_norms_grow_as_asked_on_all_data(name: str, towards: Any) -> None:
    make, shape, expected = WITHIN[name]
    model, (inputs, targets), (elsewhere, _) = make(), batch(shape), batch(shape, seed=9)
    twin, origin = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    before = square_norm(copy.deepcopy(model), inputs, targets)
    report = OrbitTeleporter(model, CE, growth=3.0, towards=towards).teleport(inputs, targets)
    assert report.outcome is Outcome.MOVED, report.messages
    after = square_norm(copy.deepcopy(model), inputs, targets)
    assert after == pytest.approx(3.0 * before, rel=1e-9)
    assert report.grad_norm_after == pytest.approx(math.sqrt(after), rel=1e-9)
    for one in (model, twin):  # a batch norm as in training and as in evaluation
        one.eval() if towards == "first" else one.train()
    with torch.no_grad():
        assert torch.allclose(model(elsewhere), twin(elsewhere), rtol=1e-10, atol=1e-10)
    changed = {key for key, _ in model.named_parameters() if not torch.equal(model.state_dict()[key], origin[key])}
    # A weight between two others that are rescaled, row and column, is where it was but for rounding.
    moved = {key for key in changed if not torch.allclose(model.state_dict()[key], origin[key], rtol=1e-9)}
    assert moved == expected


def _in_and_out(model: Any) -> list[tuple[Tensor, Tensor]]:
    """The twin of the balance: squared norms of what comes into each unit of an attention, and of what goes out."""
    queries, keys, values = model.part.in_proj_weight.square().sum(1).chunk(3)
    biases = model.part.in_proj_bias.square().chunk(3)
    out = model.part.out_proj.weight.square().sum(0)
    return [(queries + biases[0], keys + biases[1]), (values + biases[2], out)]


def test_balance_in_an_attention_is_unit_by_unit() -> None:
    model, (inputs, targets) = _attention(), batch((4, 5))
    outputs, whole = model(inputs).detach(), sum(p.detach().square().sum().item() for p in model.parameters())
    assert not any(torch.allclose(incoming, outgoing, rtol=0.1) for incoming, outgoing in _in_and_out(model))
    report = OrbitTeleporter(model, CE, to="balance").teleport(inputs, targets)
    assert report.outcome is Outcome.MOVED
    assert torch.allclose(model(inputs), outputs, rtol=1e-10, atol=1e-10)
    assert report.grad_norm_after == pytest.approx(math.sqrt(square_norm(model, inputs, targets)), rel=1e-9)
    assert all(torch.allclose(incoming, outgoing, rtol=1e-6) for incoming, outgoing in _in_and_out(model))
    assert sum(p.detach().square().sum().item() for p in model.parameters()) < whole


@pytest.mark.parametrize("name", WITHIN)
def test_balance_is_the_least_on_the_orbit(name: str) -> None:
    make, shape, _ = WITHIN[name]
    model, (inputs, targets) = make(), batch(shape)
    assert OrbitTeleporter(model, CE, to="balance").teleport(inputs, targets).outcome is Outcome.MOVED
    least = sum(p.detach().square().sum().item() for p in model.parameters())
    for towards in ("first", "last"):  # a way along the orbit, and the way back
        other = copy.deepcopy(model)
        report = OrbitTeleporter(other, CE, growth=20.0, towards=towards).teleport(inputs, targets)
        assert report.outcome is Outcome.MOVED
        assert sum(p.detach().square().sum().item() for p in other.parameters()) > least


class Skip(nn.Module):
    """Uses a layer's output twice, which a chain does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.body[0](x)
        out: Tensor = self.head(self.body[2](self.body[1](inner)) + inner)
        return out


def teleported(model: nn.Module, **options: Any) -> TeleportReport:
    inputs, targets = batch((5,))
    before = copy.deepcopy(model.state_dict())
    report = OrbitTeleporter(model, CE, **options).teleport(inputs, targets)
    if report.outcome is not Outcome.MOVED:
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    return report


def test_a_layer_that_is_used_in_another_way_too_is_found_out_and_put_back() -> None:
    torch.manual_seed(3)
    report = teleported(Skip().double())
    assert report.outcome is Outcome.DRIFT
    assert "undone" in report.messages[0]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: mlp(5, 7, 3, activation=nn.Tanh), "Tanh is not homogeneous"),
        (lambda: mlp(5, 7, 3, activation=nn.GELU), "GELU is not homogeneous"),
        (
            lambda: nn.Sequential(
                nn.Linear(5, 7), nn.BatchNorm1d(7, affine=False), nn.ReLU(), nn.Linear(7, 3)
            ).double(),
            "BatchNorm1d is not homogeneous",
        ),
        (lambda: Attends(nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True)), "bias_k"),
        (lambda: nn.Sequential(nn.Linear(5, 3)).double(), "no two neighbouring layers"),
    ],
    ids=["tanh", "gelu", "batch norm", "keys of its own", "one layer"],
)
def test_what_has_no_rescaling_is_said(model: Any, told: str) -> None:
    report = teleported(model())
    assert report.outcome is Outcome.NO_MOVABLE_LAYER
    assert told in report.messages[0]


def test_tied_frozen_and_repeated_layers_stay() -> None:
    tied = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    tied[2].weight = tied[0].weight
    repeated = nn.Linear(5, 5).double()
    frozen = mlp(5, 7, 3)
    frozen[0].weight.requires_grad_(False)
    for model in (tied, nn.Sequential(repeated, nn.ReLU(), repeated, nn.Linear(5, 3).double()), frozen):
        assert teleported(model).outcome is Outcome.NO_MOVABLE_LAYER


def test_dropout_and_float32_keep_the_function_to_rounding() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
    inputs, targets = torch.randn(12, 5), torch.arange(12) % 3
    state = torch.get_rng_state()
    report = OrbitTeleporter(model, CE, growth=4.0).teleport(inputs, targets)
    assert report.outcome is Outcome.MOVED
    assert torch.equal(torch.get_rng_state(), state)
    assert report.loss_after == pytest.approx(CE(model(inputs), targets).item(), rel=1e-5)


def test_a_loss_that_is_not_finite_moves_nothing() -> None:
    model, (inputs, targets) = mlp(5, 7, 3), batch((5,))
    assert OrbitTeleporter(model, CE).teleport(inputs * math.nan, targets).outcome is Outcome.NON_FINITE


def test_what_raises_at_the_end_leaves_the_weights() -> None:
    model, (inputs, targets) = mlp(5, 7, 3), batch((5,))
    before, calls = copy.deepcopy(model.state_dict()), []

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return CE(outputs, targets)

    with pytest.raises(RuntimeError, match="out of memory"):
        OrbitTeleporter(model, loss_fn).teleport(inputs, targets)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_where_the_last_layer_has_no_gradient_there_is_no_way_towards_the_first() -> None:
    model, (inputs, targets) = mlp(5, 7, 3), batch((5,))

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * 0.0).sum() + next(model.parameters()).square().sum()

    report = OrbitTeleporter(model, loss_fn).teleport(inputs, targets)
    assert report.outcome in {Outcome.TARGET_MISSED, Outcome.DRIFT}


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"growth": 1.0}, "growth must be finite and > 1, got 1.0"),
        ({"to": "middle"}, "to must be 'growth' or 'balance', got 'middle'"),
        ({"towards": "up"}, "towards must be 'first' or 'last', got 'up'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        OrbitTeleporter(mlp(5, 7, 3), CE, **options)


def test_it_teleports_by_a_schedule() -> None:
    model, (inputs, targets) = mlp(5, 7, 3), batch((5,))
    with pytest.raises(ValueError, match="step needs a schedule"):
        OrbitTeleporter(model, CE).step(0, inputs, targets)
    orbit = OrbitTeleporter(model, CE, schedule=Schedule(epochs=1, batches=1, batches_per_epoch=4))
    assert orbit.step(1, inputs, targets) is None
    assert orbit.step(0, inputs, targets) is not None
