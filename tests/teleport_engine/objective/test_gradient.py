"""Objectives: one contract, run over each; value and direction against an explicit Hessian in float64."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from teleport_engine import (
    FixedStep,
    GradCurvature,
    GradNorm,
    GrowthStep,
    LogGradNorm,
    Objective,
    Options,
    Outcome,
    Teleporter,
)
from teleport_engine.objective.second_backward import Decomposed
from tests.teleport_engine import dense
from tests.teleport_engine.cases import make, mlp, outputs_of, teleporter_of

# What each objective is, of the explicit gradient and Hessian and the parameters' number.
Twin = Callable[[Tensor, Tensor], Tensor]


OBJECTIVES: dict[str, tuple[Objective, Twin]] = {
    "norm": (GradNorm(), lambda g, H: 0.5 * g @ g),
    "log norm": (LogGradNorm(), lambda g, H: 0.5 * torch.log(g @ g)),
    "flatter": (GradCurvature(), lambda g, H: -(g @ H @ g) / (g @ g)),
    "sharper": (GradCurvature("sharper"), lambda g, H: (g @ H @ g) / (g @ g)),
}
every = pytest.mark.parametrize(("objective", "twin"), OBJECTIVES.values(), ids=OBJECTIVES.keys())


def tiny() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(5)
    return mlp(2, 4, 4, 2, activation=nn.Tanh).double(), torch.randn(2, 2).double(), torch.randn(2, 2).double()


def dense_value(model: nn.Module, inputs: Tensor, targets: Tensor, twin: Twin) -> float:
    g, H = dense.gradient_and_hessian(model, nn.functional.mse_loss, inputs, targets)
    return float(twin(g, H))


@every
class TestObjectiveContract:
    def test_value_is_that_of_the_explicit_hessian(self, objective: Objective, twin: Twin) -> None:
        model, inputs, targets = tiny()
        expected = dense_value(model, inputs, targets, twin)
        report = Teleporter(model, nn.functional.mse_loss, objective=objective).teleport(inputs, targets)
        assert report.objective_before == pytest.approx(expected, rel=1e-10)
        assert report.objective_after == pytest.approx(dense_value(model, inputs, targets, twin), rel=1e-10)

    @pytest.mark.parametrize("tau", [1.0, 0.9])
    def test_direction_is_the_finite_difference_in_every_entry(
        self, objective: Objective, twin: Twin, tau: float
    ) -> None:
        model, inputs, targets = tiny()
        teleporter = Teleporter(model, nn.functional.mse_loss, objective=objective, tau=tau)
        directions = teleporter.direction(inputs, targets)
        rows = dense.linear_rows(model, inputs)
        assert directions.keys() == ({"2.weight", "4.weight"} if tau == 1.0 else {"0.weight", "2.weight", "4.weight"})
        for name, part in directions.items():
            weight = model.get_parameter(name)
            full = torch.zeros_like(weight)
            for index in range(weight.numel()):
                values = []
                for sign in (1.0, -1.0):
                    entry = weight.detach().view(-1)[index]
                    kept = entry.clone()
                    entry += sign * 1e-5
                    values.append(dense_value(model, inputs, targets, twin))
                    entry.copy_(kept)
                full.view(-1)[index] = (values[0] - values[1]) / 2e-5
            expected = full @ dense.projector(rows[name.removesuffix(".weight")], tau)
            assert float((part - expected).norm()) <= 1e-6 * float(full.norm())

    def test_climbing_it_raises_it_and_keeps_the_outputs(self, objective: Objective, twin: Twin) -> None:
        model, inputs, targets = tiny()
        before = outputs_of(model, inputs)
        report = Teleporter(
            model, nn.functional.mse_loss, objective=objective, step=GrowthStep(1.02), num_steps=3
        ).teleport(inputs, targets)
        assert report.outcome is Outcome.MOVED, report.messages
        values = [report.objective_before, *(step.objective for step in report.trace)]
        for old, new in itertools.pairwise(values):
            rise = objective.rise(old, 1.02)
            assert abs(new - old - rise) <= 0.05 * rise * 1.0001
        assert float((outputs_of(model, inputs) - before).abs().max()) <= 1e-10
        half = dense.half_square_norm(model, nn.functional.mse_loss, inputs, targets)
        assert report.grad_norm_after == pytest.approx(math.sqrt(2.0 * half)), "the norm is reported either way"

    def test_a_flat_loss_is_no_ascent(self, objective: Objective, twin: Twin) -> None:
        model, inputs, _ = tiny()
        report = Teleporter(model, lambda outputs, _: 0.0 * outputs.sum(), objective=objective).teleport(inputs, None)
        assert report.outcome is Outcome.NO_ASCENT

    @pytest.mark.parametrize("rho", [1.001, 1.5, 30.0])
    @pytest.mark.parametrize("value", [-7.0, 0.5, 1e6])
    def test_growth_is_a_rise(self, objective: Objective, twin: Twin, rho: float, value: float) -> None:
        rise = objective.rise(abs(value) if isinstance(objective, GradNorm) else value, rho)
        assert rise > 0.0
        assert math.isfinite(rise)

    def test_the_global_random_state_is_not_touched(self, objective: Objective, twin: Twin) -> None:
        model, inputs, targets = tiny()
        before = torch.get_rng_state()
        Teleporter(model, nn.functional.mse_loss, objective=objective).direction(inputs, targets)
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["inplace_relu", "batch_norm_in_train_mode", "attention_and_layer_norm"])
@pytest.mark.parametrize("objective", [GradCurvature(), GradCurvature("sharper")], ids=["flatter", "sharper"])
def test_third_derivatives_exist_through_real_layers(name: str, objective: Objective) -> None:
    case = make(name)
    before = outputs_of(case.model, case.inputs)
    report = Teleporter(case.model, case.loss_fn, objective=objective, step=GrowthStep(1.05), num_steps=2).teleport(
        case.inputs, case.targets
    )
    assert report.outcome is Outcome.MOVED, report.messages
    assert report.route == "triple_backward"
    assert report.objective_after > report.objective_before
    assert float((outputs_of(case.model, case.inputs) - before).abs().max()) <= 1e-10


@pytest.mark.parametrize("shape", [(8, 3), (4, 3, 5), (4, 3, 5, 2)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_without_its_kernel_is_batch_norm(shape: tuple[int, ...], training: bool, affine: bool) -> None:
    x = torch.randn(shape).double()
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    module = kind(3, affine=affine).double()
    module(2.0 * x + 1.0)  # running statistics that are not the first ones
    module.train(training)
    with Decomposed():
        found = copy.deepcopy(module)(x)
    assert torch.allclose(found, module(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("route", ["auto", "double_backward"])
def test_the_log_takes_the_papers_way(route: Any) -> None:
    """Same direction, growth with the same meaning: the same place, whatever the scale of the loss."""
    case = make("tanh")
    by_norm, by_log, scaled = (copy.deepcopy(case.model) for _ in range(3))
    step = GrowthStep(1.5)
    Teleporter(by_norm, case.loss_fn, Options(step=step, route=route)).teleport(case.inputs, case.targets)
    options: dict[str, Any] = {"objective": LogGradNorm(), "route": route}
    report = teleporter_of(by_log, case.loss_fn, step=step, **options).teleport(case.inputs, case.targets)
    assert report.route == ("jvp" if route == "auto" else "double_backward")
    assert report.objective_after == pytest.approx(math.log(report.grad_norm_after))
    start, there, here = (model.get_parameter("2.weight").detach() for model in (case.model, by_norm, by_log))
    assert float((here - there).norm()) <= 0.1 * float((there - start).norm())

    fixed: dict[str, Any] = {"step": FixedStep(0.01), **options}
    teleporter_of(case.model, case.loss_fn, **fixed).teleport(case.inputs, case.targets)
    teleporter_of(scaled, lambda x, y: 1e3 * case.loss_fn(x, y), **fixed).teleport(case.inputs, case.targets)
    assert torch.allclose(scaled.get_parameter("2.weight"), case.model.get_parameter("2.weight"), rtol=1e-9)


def test_parameters_that_the_loss_does_not_see_count_as_nothing() -> None:
    model, inputs, targets = tiny()
    wider = nn.ModuleDict({"used": copy.deepcopy(model), "spare": nn.Linear(4, 4).double()})

    class Wraps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = wider

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.parts["used"](x)
            return outputs

    objective = GradCurvature("sharper")
    found = Teleporter(Wraps(), nn.functional.mse_loss, objective=objective).direction(inputs, targets)
    expected = Teleporter(model, nn.functional.mse_loss, objective=objective).direction(inputs, targets)
    assert found.keys() == {f"parts.used.{name}" for name in expected}
    for name, part in expected.items():
        assert torch.allclose(found[f"parts.used.{name}"], part, rtol=1e-12)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="aim must be 'sharper' or 'flatter', got 'up'"):
        GradCurvature(aim="up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="route 'jvp' serves objectives of the gradient norm alone, got GradCurvature"):
        Teleporter(tiny()[0], nn.functional.mse_loss, Options(objective=GradCurvature(), route="jvp"))
