"""tau = "auto": 1 where that leaves room, and less where it does not and the drift allows it."""

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from teleport_engine import AutoTau, FixedStep, GrowthStep, Outcome, Teleporter, TeleportReport
from teleport_engine.nullspace.tau import Lowering
from tests.teleport_engine import dense
from tests.teleport_engine.cases import Case, make, mlp, teleporter_of

REACH = 0.1


def full_rank(n: int = 64) -> Case:
    """More samples than any layer has inputs, some directions of which are weak."""
    torch.manual_seed(3)
    model = mlp(6, 24, 24, 4, activation=nn.Tanh).double()
    inputs = torch.randn(n, 6).double() * torch.tensor([1.0, 0.5, 0.3, 0.1, 0.03, 0.01]).double()
    return Case(model, nn.functional.cross_entropy, inputs, torch.arange(n) % 4, frozenset("24"))


def climb(case: Case, **options: Any) -> TeleportReport:
    options = {"tau": "auto", "step": GrowthStep(1.2), "num_steps": 2, **options}
    return teleporter_of(case.model, case.loss_fn, **options).teleport(case.inputs, case.targets)


def gradients(case: Case) -> dict[str, torch.Tensor]:
    named = dict(case.model.named_parameters())
    outputs = case.model(*case.inputs) if isinstance(case.inputs, tuple) else case.model(case.inputs)
    found = torch.autograd.grad(case.loss_fn(outputs, case.targets), list(named.values()), allow_unused=True)
    return {name: grad for name, grad in zip(named, found, strict=True) if grad is not None}


@pytest.mark.parametrize("rule", [AutoTau(), AutoTau(0.3, 0.003, 0.9), AutoTau(1.0, 0.1, 0.5), AutoTau(0.2, 1e-6)])
def test_the_null_spaces_are_those_of_the_dense_twin(rule: AutoTau) -> None:
    case = full_rank()
    rows, slopes = dense.linear_rows(case.model, case.inputs), gradients(case)
    weights = {name: weight.detach() for name, weight in case.model.named_parameters()}
    expected = {}
    for name in ("2", "4"):
        weight, slope = weights[f"{name}.weight"], slopes[f"{name}.weight"]
        allowance = rule.drift / (2 * REACH * float(weight.norm()))
        expected[name] = dense.lowered_null_dim(rows[name], slope, rule.asked(24), rule.least, allowance)
    report = climb(case, tau=rule)
    assert {layer.name: layer.null_dim for layer in report.layers[1:]} == expected
    for layer in report.layers[1:]:
        assert (layer.tau == 1.0) == (layer.null_dim == 0)
        assert layer.captured == pytest.approx(layer.tau, abs=1e-12)
        assert layer.captured is not None
        assert layer.captured >= rule.least - 1e-12
    assert report.layers[0].reason == "input is fixed"
    assert (report.layers[0].tau, report.layers[0].captured) == (None, None)


def test_it_says_what_it_lowered_and_keeps_the_drift() -> None:
    case = full_rank()
    assert climb(copy.deepcopy(case), tau=1.0).outcome is Outcome.NO_NULL_SPACE
    report = climb(case, tau=AutoTau(null_share=0.25, drift=0.02), step=GrowthStep(1.02), num_steps=4)
    assert report.outcome is Outcome.MOVED
    assert report.route == "double_backward"
    assert report.grad_norm_after > report.grad_norm_before
    assert 0.0 < abs(report.loss_drift) <= 0.02
    assert [layer.null_dim for layer in report.layers] == [None, 6, 6]
    (message,) = report.messages
    assert message.startswith("tau lowered where the null space is shorter than asked for: '2' to 0.99")
    assert message.count("(6 dimensions)") == 2


def test_a_bound_that_bites_is_told() -> None:
    report = climb(full_rank(), tau=AutoTau(null_share=1.0, drift=0.02))
    assert "of 24 asked for)" in report.messages[0]


def test_with_next_to_no_drift_allowed_nothing_is_lowered() -> None:
    case = full_rank()
    before = copy.deepcopy(case.model.state_dict())
    report = climb(case, tau=AutoTau(drift=1e-12))
    assert (report.outcome, report.messages) == (Outcome.NO_NULL_SPACE, ())
    assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())


@pytest.mark.parametrize("name", ["relu", "tanh", "batch_norm_in_train_mode", "called_several_times_and_tied"])
def test_where_there_is_room_it_is_the_exact_teleport(name: str) -> None:
    case, twin = make(name), make(name)
    exact = climb(twin, tau=1.0, max_relative_step=0.1)
    report = climb(case, tau="auto")
    assert (report.outcome, report.route) == (exact.outcome, "jvp")
    # A step without a cap explodes, and then rounding decides the figure that its message has.
    assert [told.partition(":")[0] for told in report.messages] == [told.partition(":")[0] for told in exact.messages]
    assert [layer.null_dim for layer in report.layers] == [layer.null_dim for layer in exact.layers]
    assert [layer.tau for layer in report.layers if layer.moved] == [1.0, 1.0]
    assert abs(report.loss_drift) <= 1e-12
    with torch.no_grad():
        for mine, theirs in zip(case.model.parameters(), twin.model.parameters(), strict=True):
            assert float((mine - theirs).abs().max()) <= 1e-9 * max(1.0, float(theirs.abs().max()))


def test_the_first_order_change_of_any_allowed_move_is_within_the_bound() -> None:
    case, rule = full_rank(), AutoTau(null_share=0.5, drift=0.05, least=0.9)
    teleporter = Teleporter(case.model, case.loss_fn, tau=rule)
    moves, slopes = teleporter.direction(case.inputs, case.targets), gradients(case)
    assert set(moves) == {"2.weight", "4.weight"}
    weights = {name: weight.detach() for name, weight in case.model.named_parameters()}
    total = 0.0
    for name, move in moves.items():
        longest = move * (REACH * float(weights[name].norm()) / float(move.norm()))
        total += abs(float((slopes[name] * longest).sum()))
    assert 0.0 < total <= rule.drift


def test_blocks_that_share_their_inputs_share_the_allowance() -> None:
    """The packed projection of an attention: three blocks, one basis; a grouped convolution: a basis each."""
    for name, layer_name in (("torch's own transformer", "decoder.multihead_attn"), ("convolutions", "2")):
        case = make(name)
        n = 64
        if isinstance(case.inputs, tuple):
            inputs: Any = tuple(torch.randn(n, *part.shape[1:]).double() for part in case.inputs)
        else:
            inputs = torch.randn(n, *case.inputs.shape[1:]).double()
        case = case._replace(inputs=inputs, targets=torch.arange(n) % 4)
        report = climb(case, tau=AutoTau(null_share=0.2, drift=0.5, least=0.5))
        layer = next(layer for layer in report.layers if layer.name == layer_name)
        assert layer.tau is not None
        assert layer.tau < 1.0
        assert 0 < (layer.null_dim or 0) <= math.ceil(0.2 * (layer.d_in or 0))
        assert report.outcome in {Outcome.MOVED, Outcome.DRIFT, Outcome.CAP_REACHED}
        assert abs(report.loss_drift) <= 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fewer_rows_than_columns_but_not_few_enough(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = mlp(6, 24, 24, 4, activation=nn.Tanh).to(dtype)
    inputs, targets = torch.randn(20, 6, dtype=dtype), torch.arange(20) % 4
    case = Case(model, nn.functional.cross_entropy, inputs, targets, frozenset("24"))
    exact = climb(copy.deepcopy(case), tau=1.0)
    assert [layer.null_dim for layer in exact.layers] == [None, 4, 4]
    report = climb(case, tau=AutoTau(null_share=0.5, drift=0.5, least=0.9))
    assert [layer.null_dim for layer in report.layers] == [None, 12, 12]
    assert all(layer.tau is not None and 0.9 <= layer.tau < 1.0 for layer in report.layers[1:])


def test_with_a_sample_of_its_own() -> None:
    case = full_rank()
    sample = case.inputs + 0.01 * torch.randn_like(case.inputs)
    teleporter = Teleporter(case.model, case.loss_fn, tau="auto", step=FixedStep(1e-3))
    report = teleporter.teleport(case.inputs, case.targets, subspace=sample)
    assert report.outcome in {Outcome.MOVED, Outcome.DRIFT}
    assert report.layers[1].tau is not None


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    dim=st.integers(1, 12),
    share=st.floats(0.01, 1.0),
    least=st.floats(0.5, 0.9999),
    allowance=st.floats(0.0, 3.0),
)
def test_more_allowed_is_never_less_room(seed: int, dim: int, share: float, least: float, allowance: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2 * dim, dim, generator=generator, dtype=torch.float64)
    gradient = torch.randn(3, dim, generator=generator, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    found = [
        Lowering(AutoTau(share, 0.01, floor), gradient, factor * allowance).null_dim(values, vectors, 0)
        for factor, floor in ((1.0, least), (2.0, least), (1.0, least / 2.0))
    ]
    assert found[0] <= found[1]
    assert found[0] <= found[2]
    assert max(found) <= math.ceil(share * dim)
    assert found[0] == dense.lowered_null_dim(rows, gradient, math.ceil(share * dim), least, allowance)


def test_a_gradient_that_is_not_finite_allows_nothing() -> None:
    rule = Lowering(AutoTau(1.0), torch.full((1, 3), math.nan), 1.0)
    assert rule.null_dim(torch.tensor([0.0, 0.0, 1.0]), torch.eye(3), 1) == 1


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"null_share": 0.0}, r"null_share must lie in \(0, 1\], got 0\.0"),
        ({"null_share": 1.5}, r"null_share must lie in \(0, 1\], got 1\.5"),
        ({"drift": 0.0}, r"drift must be finite and > 0, got 0\.0"),
        ({"drift": math.inf}, "drift must be finite and > 0, got inf"),
        ({"least": 1.0}, r"least must lie in \(0, 1\), got 1\.0"),
    ],
)
def test_its_numbers_are_checked(settings_: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AutoTau(**settings_)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tau": "automatic"},
            r"tau must lie in \(0, 1\], or be 'auto', an AutoTau, a DriftTau or a LayerwiseTau, got 'automatic'",
        ),
        ({"tau": "auto", "route": "jvp"}, "route 'jvp' needs tau = 1 .* got tau auto"),
        ({"tau": "auto", "factorisation": "randomised"}, "'randomised' needs a tau to aim at, got tau auto"),
    ],
)
def test_what_does_not_go_with_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        teleporter_of(mlp(3, 4, 2), nn.functional.cross_entropy, **options)
