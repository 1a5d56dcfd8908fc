"""What a teleport promises (A1, A3-A7, B1, B5 of docs/method.md), over the cases of `cases.py`."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from teleport_engine import FixedStep, GrowthStep, Options, Outcome, Schedule, Teleporter
from tests.teleport_engine import dense
from tests.teleport_engine.cases import CASES, make, mlp, moved_names, outputs_of


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("route", ["auto", "double_backward"])
def test_outputs_stay_while_the_gradient_grows(name: str, dtype: torch.dtype, route: Any) -> None:
    case = make(name, dtype)
    before = outputs_of(case.model, case.inputs)
    teleporter = Teleporter(case.model, case.loss_fn, Options(step=GrowthStep(1.3), num_steps=8, route=route))
    report = teleporter.teleport(case.inputs, case.targets)
    assert report.outcome is Outcome.MOVED
    assert report.route == ("jvp" if route == "auto" else "double_backward"), report.messages
    assert report.num_steps == len(report.trace) == 8
    assert moved_names(report) == case.can_move
    is_double = dtype == torch.float64
    assert float((outputs_of(case.model, case.inputs) - before).abs().max()) <= (1e-10 if is_double else 2e-5)
    assert abs(report.loss_drift) <= (1e-12 if is_double else 1e-5)
    norms = [report.grad_norm_before, *(step.grad_norm for step in report.trace)]
    for old, new in itertools.pairwise(norms):
        assert (new / old) ** 2 == pytest.approx(1.3, abs=0.05 * 0.3 + 1e-5)
    assert report.grad_norm_after == norms[-1]
    half = dense.half_square_norm(copy.deepcopy(case.model), case.loss_fn, case.inputs, case.targets)
    assert report.grad_norm_after == pytest.approx(math.sqrt(2.0 * half), rel=1e-4)


@settings(deadline=None, max_examples=25)
@given(
    widths=st.lists(st.integers(2, 24), min_size=2, max_size=4),
    n=st.integers(1, 12),
    eta=st.floats(1e-3, 10.0),
    seed=st.integers(0, 2**16),
)
def test_outputs_never_change_at_tau_1(widths: list[int], n: int, eta: float, seed: int) -> None:
    torch.manual_seed(seed)
    model = mlp(5, *widths, 3, activation=nn.Tanh).double()
    inputs, targets = torch.randn(n, 5).double(), torch.arange(n) % 3
    before = outputs_of(model, inputs)
    report = Teleporter(model, nn.functional.cross_entropy, step=FixedStep(eta), num_steps=2).teleport(inputs, targets)
    scale = 1.0 + max(layer.step_length for layer in report.layers)
    assert float((outputs_of(model, inputs) - before).abs().max()) <= 1e-12 * scale * 100


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tau", [1.0, 0.99, 0.9])
@pytest.mark.parametrize("route", ["auto", "double_backward"])
def test_direction_is_that_of_the_dense_twin(name: str, tau: float, route: Any) -> None:
    case = make(name)
    directions = Teleporter(case.model, case.loss_fn, Options(tau=tau, route=route)).direction(
        case.inputs, case.targets
    )
    twin = copy.deepcopy(case.model)
    rows = dense.map_rows(copy.deepcopy(case.model), case.inputs)
    parameters = dict(twin.named_parameters())
    full = dense.half_square_norm_gradient(
        twin, case.loss_fn, case.inputs, case.targets, [parameters[name] for name in rows]
    )
    for (name, of_blocks), part in zip(rows.items(), full, strict=True):
        mine = directions.get(name, torch.zeros_like(part))
        assert float((mine - dense.projected(part, of_blocks, tau)).norm()) <= 1e-10 * float(part.norm()), name
    if tau == 1.0:
        moving = {layer if layer in parameters else f"{layer}.weight" for layer in case.can_move}
        packed = {name.replace("weight", "in_proj_weight") for name in moving}
        assert directions.keys() <= moving | packed
        assert len(directions) == len(case.can_move)


def test_direction_is_the_finite_difference_of_the_objective() -> None:
    case = make("tanh")
    directions = Teleporter(case.model, case.loss_fn).direction(case.inputs, case.targets)
    parameters = dict(case.model.named_parameters())
    slope = sum(float(part.square().sum()) for part in directions.values())
    values = []
    for sign in (1.0, -1.0):
        model = copy.deepcopy(case.model)
        with torch.no_grad():
            for name, part in directions.items():
                dict(model.named_parameters())[name].add_(part, alpha=sign * 1e-6)
        values.append(dense.half_square_norm(model, case.loss_fn, case.inputs, case.targets))
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-6)
    assert set(directions) <= set(parameters)


def test_the_dense_direction_of_the_first_layer_is_zero() -> None:
    case = make("tanh")
    weight = next(case.model.parameters())
    (part,) = dense.half_square_norm_gradient(case.model, case.loss_fn, case.inputs, case.targets, [weight])
    assert float((part @ dense.projector(case.inputs, 1.0)).norm()) <= 1e-12 * float(part.norm())


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_the_objective_of_one_layer_is_a_quadratic_in_the_step(name: str) -> None:
    case = make(name)
    part = Teleporter(case.model, case.loss_fn).direction(case.inputs, case.targets)["2.weight"]
    weight = case.model.get_parameter("2.weight")
    origin = weight.detach().clone()

    def at(eta: float) -> float:
        with torch.no_grad():
            weight.copy_(origin + eta * part)
        return dense.half_square_norm(case.model, case.loss_fn, case.inputs, case.targets)

    eta = 0.1 / float(part.norm())
    slope = float(part.square().sum())
    curvature = (at(eta) - at(0.0) - slope * eta) / eta**2
    assert curvature >= 0.0
    assert at(10 * eta) == pytest.approx(at(0.0) + slope * 10 * eta + curvature * (10 * eta) ** 2, rel=1e-10)


def test_the_schedule_decides() -> None:
    case = make("relu")
    schedule = Schedule(epochs=1, batches=2, batches_per_epoch=5)
    teleporter = Teleporter(case.model, case.loss_fn, step=GrowthStep(1.1), num_steps=1, schedule=schedule)
    reports = [teleporter.step(index, case.inputs, case.targets) for index in range(6)]
    assert [report is not None for report in reports] == [True, True, False, False, False, False]


def test_the_same_call_gives_the_same_bits() -> None:
    states = []
    for _ in range(2):
        case = make("relu", torch.float32)
        Teleporter(case.model, case.loss_fn, step=GrowthStep(1.3)).teleport(case.inputs, case.targets)
        states.append(case.model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_inputs_may_be_a_tuple_or_a_dict() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(3, 16), nn.Linear(2, 16), nn.Linear(16, 3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            logits: Tensor = self.head(torch.tanh(self.left(a) * self.right(b)))
            return logits

    model, a, b, targets = Two(), torch.randn(6, 3), torch.randn(6, 2), torch.arange(6) % 3
    teleporter = Teleporter(model, nn.functional.cross_entropy)
    first = teleporter.direction((a, b), targets)
    second = teleporter.direction({"b": b, "a": a}, targets)
    assert first.keys() == {"head.weight"}
    assert torch.equal(first["head.weight"], second["head.weight"])


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tau", [1.0, 0.99])
def test_cuda_gives_what_the_cpu_gives(name: str, tau: float) -> None:
    case = make(name)
    there = copy.deepcopy(case.model).cuda()
    expected = Teleporter(case.model, case.loss_fn, tau=tau).direction(case.inputs, case.targets)
    teleporter = Teleporter(there, case.loss_fn, tau=tau, step=GrowthStep(1.2))
    found = teleporter.direction(case.inputs.cuda(), case.targets.cuda())
    assert found.keys() == expected.keys()
    for key, part in expected.items():
        assert float((found[key].cpu() - part).norm()) <= 1e-9 * float(part.norm())
    report = teleporter.teleport(case.inputs.cuda(), case.targets.cuda())
    assert report.outcome is Outcome.MOVED
    if tau == 1.0:
        assert abs(report.loss_drift) <= 1e-12
