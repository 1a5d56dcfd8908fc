"""Rules of what is measured: tau and scale per layer, growth per step, each against the dense, obvious way."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from teleport_engine import (
    FixedStep,
    GrowthStep,
    IdentityMove,
    LayerFacts,
    LayerwiseStep,
    LayerwiseTau,
    MeasuredGrowth,
    ModelFacts,
    Options,
    Outcome,
    RandomMove,
    RuleError,
    Teleporter,
)
from tests.teleport_engine import dense
from tests.teleport_engine.cases import CASES, Case, OwnStep, make, mlp, outputs_of, teleporter_of


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def moves(case: Case, **options: Any) -> dict[str, Tensor]:
    """What one teleport adds to each parameter, in a copy of the case."""
    before = weights(case.model)
    teleporter_of(case.model, case.loss_fn, **options).teleport(case.inputs, case.targets)
    after = weights(case.model)
    with torch.no_grad():
        for name, value in case.model.named_parameters():
            value.copy_(before[name])
    return {name: after[name] - before[name] for name in before}


def seen_by(case: Case, **options: Any) -> list[LayerFacts]:
    """What a rule of scales was told in one step."""
    told: list[LayerFacts] = []

    def rule(layer: LayerFacts) -> float:
        told.append(layer)
        return 1e-3

    teleporter_of(case.model, case.loss_fn, step=LayerwiseStep(rule), num_steps=1, **options).teleport(
        case.inputs, case.targets
    )
    return told


@pytest.mark.parametrize("name", CASES)
def test_a_scale_multiplies_the_rows_of_its_layer_and_keeps_the_batch(name: str) -> None:
    case = make(name)
    directions = Teleporter(case.model, case.loss_fn).direction(case.inputs, case.targets)
    before = outputs_of(case.model, case.inputs)
    scales: dict[str, float] = {}

    def rule(layer: LayerFacts) -> float:
        scales[layer.name] = 0.01 * layer.position / layer.fan_in
        return scales[layer.name]

    moved = moves(case, step=LayerwiseStep(rule), num_steps=1)
    assert len(scales) > 1
    assert len(set(scales.values())) > 1
    for key, move in moved.items():
        label = key if key in scales else key.rpartition(".")[0]
        expected = scales[label] * directions[key] if key in directions else torch.zeros_like(move)
        torch.testing.assert_close(move, expected, rtol=1e-9, atol=1e-14)
    report = Teleporter(case.model, case.loss_fn, step=LayerwiseStep(rule), num_steps=4).teleport(
        case.inputs, case.targets
    )
    assert report.outcome is Outcome.MOVED
    assert report.grad_norm_after > report.grad_norm_before
    assert abs(report.loss_drift) <= 1e-12
    assert float((outputs_of(case.model, case.inputs) - before).abs().max()) <= 1e-10


def test_equal_scales_are_a_fixed_step() -> None:
    case = make("tanh")
    scaled = moves(case, step=LayerwiseStep(lambda layer: 0.03), num_steps=3)
    fixed = moves(case, step=FixedStep(0.03), num_steps=3)
    for name, move in fixed.items():
        torch.testing.assert_close(scaled[name], move, rtol=1e-10, atol=1e-14)


def test_the_step_rule_goes_along_what_was_scaled() -> None:
    case = make("tanh")
    by_layer = LayerwiseStep(lambda layer: float(layer.position), OwnStep(norm=0.01))
    moved = moves(case, step=by_layer, num_steps=1)
    assert math.sqrt(sum(float(move.square().sum()) for move in moved.values())) == pytest.approx(0.01, rel=1e-9)

    asked: list[float] = []

    class Watching:
        def length(self, line: Any) -> float:
            asked.extend([line.slope, line.direction_norm, (line.at(1e-7) - line.value) / 1e-7])
            return 1e-7

    moves(case, step=LayerwiseStep(lambda layer: float(layer.position), Watching()), num_steps=1)
    slope, length, difference = asked
    assert slope == pytest.approx(difference, rel=1e-4)
    assert slope != pytest.approx(length**2, rel=1e-2), "with scales the slope is no square of a length"

    growing = LayerwiseStep(lambda layer: float(layer.position), GrowthStep(1.5))
    report = Teleporter(case.model, case.loss_fn, step=growing, num_steps=1).teleport(case.inputs, case.targets)
    assert report.grad_norm_ratio**2 == pytest.approx(1.5, rel=0.05)


@pytest.mark.parametrize("name", ["relu", "convolutions", "attention_and_layer_norm", "torch's own transformer"])
def test_tau_per_layer_is_each_layer_of_a_teleporter_with_that_tau(name: str) -> None:
    case = make(name)
    taus = (1.0, 0.999, 0.9)

    def rule(layer: LayerFacts) -> float:
        return taus[layer.position % 3]

    positions: dict[str, int] = {}

    def noted(layer: LayerFacts) -> float:
        positions[layer.name] = layer.position
        return rule(layer)

    mixed = Teleporter(case.model, case.loss_fn, tau=LayerwiseTau(noted)).direction(case.inputs, case.targets)
    alone = {
        tau: Teleporter(case.model, case.loss_fn, Options(tau=tau, route="double_backward")).direction(
            case.inputs, case.targets
        )
        for tau in taus
    }
    found = 0
    for key, parameter in case.model.named_parameters():
        label = key if key in positions else key.rpartition(".")[0]
        if label not in positions or parameter.ndim < 2:
            continue
        expected = alone[taus[positions[label] % 3]]
        assert (key in mixed) == (key in expected), key
        if key in mixed:
            torch.testing.assert_close(mixed[key], expected[key], rtol=1e-7, atol=1e-11)
            found += 1
    assert found > 1


def test_a_rule_that_leaves_all_at_one_is_exact_and_skips_the_fixed_layer() -> None:
    for with_spectrum in (False, True):
        case = make("relu")
        tau = LayerwiseTau(lambda layer: 1.0, with_spectrum=with_spectrum)
        report = Teleporter(case.model, case.loss_fn, tau=tau, step=GrowthStep(1.3)).teleport(case.inputs, case.targets)
        assert report.route == "jvp"
        assert abs(report.loss_drift) <= 1e-12
        # Eight samples fill its six inputs, which only a factorisation can tell.
        assert report.layers[0].reason == ("no null space" if with_spectrum else "input is fixed")
        assert [layer.tau for layer in report.layers[1:]] == [1.0, 1.0]


def test_facts_are_those_of_the_dense_twin() -> None:
    case = make("relu")
    rows = dense.linear_rows(case.model, case.inputs)
    named = dict(case.model.named_parameters())
    loss = case.loss_fn(case.model(case.inputs), case.targets)
    grads = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
    in_tau: dict[str, LayerFacts] = {}

    def rule(layer: LayerFacts) -> float:
        in_tau[layer.name] = layer
        return 1.0

    case_of_tau = make("relu")
    Teleporter(
        case_of_tau.model, case_of_tau.loss_fn, tau=LayerwiseTau(rule, with_gradient=True, with_spectrum=True)
    ).direction(case_of_tau.inputs, case_of_tau.targets)
    assert list(in_tau) == ["0", "2", "4"]
    for facts in [*seen_by(case), *in_tau.values()]:
        weight = named[f"{facts.name}.weight"]
        energies = dense.energies(rows[facts.name])
        assert (facts.width, facts.fan_in) == tuple(weight.shape)
        assert (facts.fan_out, facts.num_layers) == (facts.width, 3)
        assert facts.position == int(facts.name) / 2 + 1
        assert facts.stable_rank == pytest.approx(float(energies.sum() / energies[0]), rel=1e-9)
        assert facts.grad_norm == pytest.approx(float(grads[f"{facts.name}.weight"].norm()), rel=1e-9)
        if facts.name not in in_tau or facts is in_tau[facts.name]:
            assert (facts.rank, facts.null_dim, facts.null_share) == (None, None, None)
            assert facts.weight_norm == pytest.approx(float(named_norm(case_of_tau.model, facts.name)), rel=1e-9)
        else:
            assert facts.rank == dense.rank(rows[facts.name], 1.0)
            assert facts.null_dim == facts.fan_in - facts.rank
            assert facts.null_share == pytest.approx(facts.null_dim / facts.fan_in)


def named_norm(model: nn.Module, name: str) -> float:
    return float(dict(model.named_parameters())[f"{name}.weight"].detach().norm())


def test_facts_of_convolutions_and_moving_biases() -> None:
    facts = {one.name: one for one in seen_by(make("convolutions"), move_bias=True)}
    assert (facts["2"].fan_in, facts["2"].fan_out, facts["2"].width) == (12 * 6, 24 * 6, 24)
    _, torchs = nn.init._calculate_fan_in_and_fan_out(make("convolutions").model.get_parameter("2.weight"))
    assert facts["2"].fan_out == torchs
    layer = facts["2"]
    assert layer.rank is not None
    assert layer.null_dim is not None
    assert layer.rank + layer.null_dim == layer.fan_in + 1, "the bias is a column of its own"


def test_stable_rank_is_the_mean_over_row_blocks_and_zero_without_energy() -> None:
    torch.manual_seed(0)
    first = nn.Conv1d(8, 8, 1)
    model = nn.Sequential(first, nn.Conv1d(8, 4, 1, groups=2), nn.Flatten(), nn.Linear(4 * 3, 2)).double()
    inputs, told = torch.randn(2, 8, 3).double(), {}

    def rule(layer: LayerFacts) -> float:
        told[layer.name] = layer.stable_rank
        return 0.99

    with torch.no_grad():
        hidden = first(inputs).transpose(1, 2).reshape(-1, 8)
    Teleporter(model, nn.functional.cross_entropy, tau=LayerwiseTau(rule, with_spectrum=True)).direction(
        inputs, torch.tensor([0, 1])
    )
    found = [np.linalg.svd(half.numpy(), compute_uv=False) ** 2 for half in (hidden[:, :4], hidden[:, 4:])]
    assert told["1"] == pytest.approx(np.mean([values.sum() / values[0] for values in found]), rel=1e-9)

    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    Teleporter(model, nn.functional.cross_entropy, tau=LayerwiseTau(rule, with_spectrum=True)).direction(
        inputs, torch.tensor([0, 1])
    )
    assert told["1"] == 0.0


def test_a_rule_of_tau_costs_a_gradient_only_where_it_looks_at_one() -> None:
    def cost(tau: Any) -> float:
        case = make("relu")
        teleporter = Teleporter(case.model, case.loss_fn, tau=tau, step=FixedStep(1e-3), num_steps=1)
        return teleporter.teleport(case.inputs, case.targets).num_gradient_evaluations

    plain = cost(0.99)
    assert cost(LayerwiseTau(lambda layer: 0.99)) == plain
    assert cost(LayerwiseTau(lambda layer: 0.99, with_gradient=True)) == pytest.approx(plain + 2 / 3)


def test_growth_by_what_is_measured() -> None:
    case = make("relu")
    told: list[ModelFacts] = []

    def rule(model: ModelFacts) -> float:
        told.append(model)
        return 1.0 + model.num_layers / 10

    report = Teleporter(case.model, case.loss_fn, step=MeasuredGrowth(rule), num_steps=2).teleport(
        case.inputs, case.targets
    )
    ratios = [
        report.trace[0].grad_norm / report.grad_norm_before,
        report.trace[1].grad_norm / report.trace[0].grad_norm,
    ]
    assert [ratio**2 for ratio in ratios] == pytest.approx([1.3, 1.3], rel=0.05)
    assert [one.loss for one in told] == pytest.approx([report.loss_before] * 2)
    assert [one.grad_norm for one in told] == pytest.approx([report.grad_norm_before, report.trace[0].grad_norm])
    assert told[0].weight_norm < told[1].weight_norm


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_none_is_told_with_its_layer_and_the_weights_are_as_before(value: float) -> None:
    case = make("relu")
    before, calls = weights(case.model), iter([0.01] * 3 + [value])
    teleporter = Teleporter(case.model, case.loss_fn, step=LayerwiseStep(lambda layer: next(calls)), num_steps=3)
    with pytest.raises(RuleError, match=r"scale of layer '4' must be finite and > 0, got (0.0|-1.0|nan|inf)"):
        teleporter.teleport(case.inputs, case.targets)
    assert all(torch.equal(value, before[name]) for name, value in weights(case.model).items())


@pytest.mark.parametrize("with_spectrum", [False, True])
@pytest.mark.parametrize("value", [0.0, 1.5, math.nan])
def test_a_tau_that_is_none_is_told_with_its_layer(value: float, with_spectrum: bool) -> None:
    case = make("relu")
    tau = LayerwiseTau(lambda layer: value if layer.name == "2" else 1.0, with_spectrum=with_spectrum)
    with pytest.raises(RuleError, match=r"tau of layer '2' must lie in \(0, 1\], got (0.0|1.5|nan)"):
        Teleporter(case.model, case.loss_fn, tau=tau).teleport(case.inputs, case.targets)


def test_what_does_not_go_together_is_refused() -> None:
    model, loss_fn = mlp(4, 8, 3), nn.functional.cross_entropy
    with pytest.raises(ValueError, match="route 'jvp' needs tau = 1"):
        Teleporter(model, loss_fn, Options(tau=LayerwiseTau(lambda layer: 1.0), route="jvp"))
    with pytest.raises(ValueError, match="LayerwiseStep: rule must be one of the whole line"):
        LayerwiseStep(lambda layer: 1.0, LayerwiseStep(lambda layer: 1.0))


def test_a_random_move_is_as_long_as_the_scaled_direction_in_each_layer() -> None:
    case = make("relu")
    step = LayerwiseStep(lambda layer: 0.01 * layer.position)
    directed = moves(case, step=step, num_steps=1)
    drawn = moves(case, step=step, num_steps=1, move=RandomMove(0, 0.5))
    for name, move in directed.items():
        assert float(drawn[name].norm()) == pytest.approx(0.5 * float(move.norm()), rel=1e-9)
    put_back = moves(case, step=step, num_steps=1, move=IdentityMove())
    assert all(not move.any() for move in put_back.values())


@pytest.mark.parametrize("factorisation", ["randomised", "auto"])
def test_a_randomised_factorisation_holds_the_tau_of_each_layer(factorisation: Any) -> None:
    torch.manual_seed(0)
    model = mlp(16, 96, 96, 4, activation=nn.Tanh).double()
    tau = LayerwiseTau(lambda layer: 1.0 - 0.01 * layer.position)
    report = Teleporter(
        model,
        nn.functional.cross_entropy,
        Options(tau=tau, factorisation=factorisation, step=FixedStep(1e-3), num_steps=1),
    ).teleport(torch.randn(200, 16).double(), torch.arange(200) % 4)
    for place, layer in enumerate(report.layers, 1):
        assert layer.tau == pytest.approx(1.0 - 0.01 * place)
        assert layer.captured is not None
        assert layer.captured >= 1.0 - 0.01 * place - 1e-12


def test_a_teleporter_with_rules_goes_on_from_its_state() -> None:
    def teleporter(case: Case) -> Teleporter:
        tau, step = (
            LayerwiseTau(lambda layer: 1.0 - 0.01 / layer.width),
            LayerwiseStep(lambda layer: 0.1 / layer.fan_in),
        )
        return Teleporter(case.model, case.loss_fn, Options(tau=tau, step=step, num_steps=2, move=RandomMove(3)))

    through, broken_off = make("tanh"), make("tanh")
    whole = teleporter(through)
    first = teleporter(broken_off)
    for one, case in ((whole, through), (first, broken_off)):
        one.teleport(case.inputs, case.targets)
    whole.teleport(through.inputs, through.targets)
    again = teleporter(broken_off)
    again.load_state_dict(first.state_dict())
    again.teleport(broken_off.inputs, broken_off.targets)
    expected = weights(through.model)
    assert all(torch.equal(value, expected[name]) for name, value in weights(broken_off.model).items())
