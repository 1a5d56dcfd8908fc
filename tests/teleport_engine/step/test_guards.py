"""Guards: back off, then undo bit for bit, and say so. Each test fails where its guard is taken out."""

import copy
import itertools
import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from teleport_engine import FixedStep, GrowthStep, GuardEvent, Outcome, Teleporter, TeleportReport
from teleport_engine.model.layers import WeightLayer
from teleport_engine.step.guards import Room
from tests.teleport_engine.cases import Case, OwnStep, make, mlp, teleporter_of


def climb(case: Case, model: nn.Module | None = None, probe: Any = None, **options: Any) -> TeleportReport:
    teleporter = teleporter_of(
        case.model if model is None else model, case.loss_fn, **{"step": GrowthStep(1.5), **options}
    )
    return teleporter.teleport(case.inputs, case.targets, probe=probe)


def state(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def is_same(model: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def actions(report: TeleportReport, guard: str) -> list[str]:
    assert {event.guard for event in report.events} == {guard}
    return [event.action for event in report.events]


class TestBackOff:
    def test_cap(self) -> None:
        case = make("relu")
        free = climb(case, copy.deepcopy(case.model))
        cap = math.sqrt(free.trace[3].grad_norm * free.trace[4].grad_norm)
        report = climb(case, grad_norm_cap=cap)
        assert report.outcome is Outcome.CAP_REACHED
        assert free.trace[3].grad_norm < report.grad_norm_after <= cap, "a shorter fifth step was within the cap"
        assert actions(report, "grad_norm_cap")[0] == "halved"
        assert actions(report, "grad_norm_cap")[-4:] == ["halved", "halved", "halved", "undone"]
        assert all(event.value > event.limit == cap for event in report.events)
        assert [str(event) for event in report.events] == list(report.messages)
        norms = [report.grad_norm_before, *(step.grad_norm for step in report.trace)]
        assert all(new >= old for old, new in itertools.pairwise(norms))

    def test_loss_drift(self) -> None:
        case = make("tanh")
        free = climb(case, copy.deepcopy(case.model), tau=0.9)
        limit = abs(free.trace[0].loss_drift) / 3.0
        report = climb(case, tau=0.9, max_loss_drift=limit)
        assert actions(report, "loss_drift")[0] == "halved"
        assert report.num_steps > 0
        assert report.trace[0].eta < free.trace[0].eta
        assert abs(report.loss_drift) <= limit < abs(free.loss_drift)

    def test_probe_drift(self) -> None:
        case = make("tanh")
        probe = torch.randn(16, 6).double(), torch.randn(16, 4).double()
        free = climb(case, copy.deepcopy(case.model), probe)
        assert free.probe_drift is not None
        limit = abs(free.probe_drift) / 20.0
        report = climb(case, probe=probe, max_probe_drift=limit)
        assert set(actions(report, "probe_drift")) == {"halved", "undone"}
        assert report.probe_drift is not None
        assert 0.0 < abs(report.probe_drift) <= limit
        drifts = [step.probe_drift for step in report.trace]
        assert report.probe_drift == drifts[-1]
        assert all(drift is not None and abs(drift) <= limit for drift in drifts)

    def test_non_finite(self) -> None:
        """One bad landing is stepped around: the step is halved and kept."""
        case = make("relu")
        calls = 0

        def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return case.loss_fn(outputs, targets) * (float("nan") if calls == 5 else 1.0)

        report = climb(case._replace(loss_fn=loss_fn), step=FixedStep(1e-3), num_steps=3)
        assert (report.outcome, report.num_steps) == (Outcome.MOVED, 3)
        assert actions(report, "non_finite") == ["halved"]
        assert math.isnan(report.events[0].value)
        assert [step.eta for step in report.trace] == [1e-3, 1e-3 / 2, 1e-3]

    @pytest.mark.parametrize("max_backoffs", [0, 1, 5])
    def test_a_hopeless_first_step_leaves_no_trace(self, max_backoffs: int) -> None:
        case = make("relu", torch.float32)
        before = state(case.model)
        report = climb(case, step=FixedStep(1e30), max_backoffs=max_backoffs)
        assert (report.outcome, report.num_steps) == (Outcome.NON_FINITE, 0)
        assert actions(report, "non_finite") == ["halved"] * max_backoffs + ["rolled back"]
        assert is_same(case.model, before)

    def test_an_undone_step_leaves_the_bits_of_the_step_before(self) -> None:
        case = make("tanh")
        twin = copy.deepcopy(case.model)
        options: dict[str, Any] = {"tau": 0.9, "max_backoffs": 0}
        free = climb(case, copy.deepcopy(case.model), num_steps=4, **options)
        limit = (abs(free.trace[1].loss_drift) + abs(free.trace[2].loss_drift)) / 2.0
        report = climb(case, num_steps=4, max_loss_drift=limit, **options)
        assert (report.outcome, report.num_steps) == (Outcome.DRIFT, 2)
        climb(case, twin, num_steps=2, **options)
        assert is_same(case.model, twin.state_dict())

    def test_a_start_beyond_the_cap_is_said(self) -> None:
        case = make("relu")
        report = climb(case, grad_norm_cap=1e-9)
        assert report.events == (GuardEvent(0, "grad_norm_cap", report.grad_norm_before, 1e-9, "stopped"),)

    def test_nothing_is_said_where_nothing_happened(self) -> None:
        report = climb(make("relu"), grad_norm_cap=1e9, max_loss_drift=1.0, max_relative_step=1e3)
        assert (report.outcome, report.events, report.messages) == (Outcome.MOVED, (), ())


class TestRelativeStep:
    @pytest.mark.parametrize("share", [0.01, 0.3])
    @pytest.mark.parametrize("name", ["tanh", "called_several_times_and_tied"])
    def test_no_layer_moves_further_than_its_share(self, name: str, share: float) -> None:
        case = make(name)
        before = state(case.model)
        report = climb(case, step=OwnStep(share=0.2), max_relative_step=share, num_steps=12)
        shares = [
            layer.step_length / float(before[f"{layer.name}.weight"].norm()) for layer in report.layers if layer.moved
        ]
        assert max(shares) <= share * (1 + 1e-9)
        assert max(shares) >= share * 0.9, "the layer that is furthest uses its share"
        assert report.outcome is Outcome.CAP_REACHED
        assert actions(report, "relative_step")[-1] == "stopped"
        assert "shortened" in actions(report, "relative_step")

    def test_a_step_within_it_is_the_same_step(self) -> None:
        case = make("tanh")
        free, limited = copy.deepcopy(case.model), copy.deepcopy(case.model)
        first = climb(case, free, num_steps=2)
        second = climb(case, limited, num_steps=2, max_relative_step=10.0)
        assert is_same(limited, free.state_dict())
        assert first.num_gradient_evaluations == second.num_gradient_evaluations

    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 2**16), share=st.floats(1e-3, 2.0), start=st.floats(0.0, 1.0))
    def test_room_ends_at_the_nearest_boundary(self, seed: int, share: float, start: float) -> None:
        torch.manual_seed(seed)
        weights = [nn.Parameter(torch.randn(3, 4).double()) for _ in range(3)]
        layers = [WeightLayer(str(i), f"{i}.weight", weight) for i, weight in enumerate(weights)]
        origin = [weight.detach().clone() for weight in weights]
        for weight in weights:
            step = torch.randn(3, 4).double()
            weight.data += start * share * float(weight.detach().norm()) * step / step.norm()
        directions = [torch.randn(1, 3, 4).double() for _ in weights]
        eta = Room(layers, origin, share).longest(directions)

        def worst(length: float) -> float:
            found = []
            for weight, first, part in zip(weights, origin, directions, strict=True):
                limit = share * float(first.norm())
                moved = float((weight.detach() + length * part[0] - first).norm())
                found.append(max(moved, float((length * part).norm())) / limit)
            return max(found)

        assert worst(eta) == pytest.approx(1.0, abs=1e-6)
        assert worst(1.01 * eta + 1e-9) > 1.0

    def test_a_layer_of_zeros_is_not_limited(self) -> None:
        zero, one = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
        layers = [WeightLayer("zero", "zero", zero), WeightLayer("one", "one", one)]
        room = Room(layers, [zero.detach().clone(), one.detach().clone()], 0.5)
        assert room.longest([torch.ones(1, 2, 2), None]) == math.inf
        assert room.longest([torch.ones(1, 2, 2), torch.ones(1, 2, 2)]) == pytest.approx(0.5)


class TestEvalDrift:
    def test_batch_norm_in_train_mode_hides_a_drift_of_the_other_mode(self) -> None:
        case = make("batch_norm_in_train_mode")
        with torch.no_grad():
            case.model(2.0 * case.inputs + 1.0)
        before = state(case.model)

        def eval_loss() -> float:
            with torch.no_grad():
                return float(case.loss_fn(copy.deepcopy(case.model).eval()(case.inputs), case.targets))

        start = eval_loss()
        report = climb(case)
        assert abs(report.loss_drift) <= 1e-12
        assert report.eval_drift == pytest.approx(eval_loss() - start, rel=1e-10)
        assert abs(report.eval_drift or 0.0) > 1e-3
        assert all(module.training for module in case.model.modules())
        assert all(
            torch.equal(value, before[key]) for key, value in case.model.state_dict().items() if "running" in key
        )

    @pytest.mark.parametrize("name", ["relu", "attention_and_layer_norm"])
    def test_it_is_silent_without_one(self, name: str) -> None:
        assert climb(make(name), num_steps=1).eval_drift is None

    def test_a_loss_that_means_nothing_there_is_told(self) -> None:
        case = make("batch_norm_in_train_mode")

        def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
            if not case.model.training:
                raise AttributeError("no auxiliary outputs")
            return case.loss_fn(outputs, targets)

        teleporter = Teleporter(case.model, loss_fn, step=GrowthStep(1.1), num_steps=1)
        report = teleporter.teleport(case.inputs, case.targets)
        assert (report.outcome, report.eval_drift) == (Outcome.MOVED, None)
        message = "no eval_drift: in evaluation mode the loss raises AttributeError (no auxiliary outputs)"
        assert report.messages == (message,)

    def test_it_is_silent_in_eval_mode(self) -> None:
        case = make("batch_norm_in_train_mode")
        case.model.eval()
        assert climb(case, num_steps=1).eval_drift is None


class TestReport:
    @pytest.mark.usefixtures("passes_alone")
    def test_each_step_says_what_it_did_and_cost(self) -> None:
        case = make("tanh")
        probe = torch.randn(8, 6).double(), torch.randn(8, 4).double()
        report = climb(case, tau=0.99, probe=probe, max_probe_drift=10.0, num_steps=3)
        assert len(report.trace) == 3
        for step in report.trace:
            assert step.loss_drift == step.loss - report.loss_before
            assert step.seconds.direction > 0.0
            assert step.seconds.apply > 0.0
            assert step.seconds.capture == step.seconds.subspace == 0.0
        assert sum(step.seconds.total for step in report.trace) <= report.seconds.total
        costs = [step.num_gradient_evaluations for step in report.trace]
        # Before the steps: one gradient, a second forward, and one on the probe batch of the same size.
        assert sum(costs) + 1.0 + 2.0 / 3.0 == pytest.approx(report.num_gradient_evaluations)

    @pytest.mark.parametrize("options", [{}, {"step": FixedStep(1e30)}, {"grad_norm_cap": 1e-9}])
    def test_it_goes_through_json(self, options: dict[str, Any]) -> None:
        report = climb(make("relu"), **options)
        found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert found["outcome"] == report.outcome.value
        assert found["loss_drift"] == report.loss_drift
        assert [layer["null_dim"] for layer in found["layers"]] == [layer.null_dim for layer in report.layers]
        assert [event["guard"] for event in found["events"]] == [event.guard for event in report.events]
        assert len(found["trace"]) == report.num_steps
        assert found["seconds"]["total"] == pytest.approx(report.seconds.total)

    def test_what_is_not_finite_is_none_in_it(self) -> None:
        case = make("relu")
        report = climb(case._replace(loss_fn=lambda x, y: case.loss_fn(x, y) * float("nan")))
        assert report.to_dict()["loss_before"] is None


class TestBehaviour:
    """B1, B3, B4 and the joint part of A7."""

    @pytest.mark.parametrize("rho", [1.1, 2.0, 5.0])
    @pytest.mark.parametrize("name", ["relu", "attention_and_layer_norm", "called_several_times_and_tied"])
    def test_the_growth_target_is_met_in_each_step(self, name: str, rho: float) -> None:
        report = climb(make(name), step=GrowthStep(rho), num_steps=3)
        norms = [report.grad_norm_before, *(step.grad_norm for step in report.trace)]
        assert len(norms) == 4
        for old, new in itertools.pairwise(norms):
            assert abs((new / old) ** 2 - rho) <= 0.05 * (rho - 1.0) * (1.0 + 1e-9)

    @pytest.mark.parametrize("eta", [1e-3, 0.2, 2.0])
    @pytest.mark.parametrize("name", ["relu", "tanh", "attention_and_layer_norm"])
    def test_a_fixed_step_never_lowers_the_norm(self, name: str, eta: float) -> None:
        report = climb(make(name), step=FixedStep(eta), num_steps=4)
        norms = [report.grad_norm_before, *(step.grad_norm for step in report.trace)]
        assert all(new >= old for old, new in itertools.pairwise(norms))

    def test_drift_and_gain_rise_as_tau_falls(self) -> None:
        """The same eta at each tau: the lower, the more of both; nothing at all at 1, where no null space is left."""
        torch.manual_seed(1)
        model = mlp(6, 16, 16, 4, activation=nn.Tanh).double()
        inputs, targets = torch.randn(64, 6).double(), torch.arange(64) % 4
        gains, drifts = [], []
        for tau in (1.0, 0.999, 0.99, 0.9, 0.7):
            twin = copy.deepcopy(model)
            report = Teleporter(twin, nn.functional.cross_entropy, tau=tau, step=FixedStep(1.0), num_steps=4).teleport(
                inputs, targets
            )
            assert report.outcome in {Outcome.MOVED, Outcome.NO_NULL_SPACE}
            gains.append(report.grad_norm_ratio)
            drifts.append(abs(report.loss_drift))
        assert drifts[0] == 0.0
        assert gains[0] == 1.0
        assert gains == sorted(gains)
        assert drifts == sorted(drifts)
        assert gains[-1] > 1.01
        assert drifts[-1] > 1e-4

    def test_the_probe_drifts_where_the_batch_does_not(self) -> None:
        case = make("tanh")
        probe = torch.randn(32, 6).double(), torch.randn(32, 4).double()
        report = climb(case, probe=probe)
        assert abs(report.loss_drift) <= 1e-12
        assert report.probe_drift is not None
        assert abs(report.probe_drift) > 1e-3


def test_options_are_checked() -> None:
    case = make("relu")
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match="max_backoffs must be a whole number >= 0, got"):
            climb(case, max_backoffs=wrong)
    with pytest.raises(ValueError, match=r"max_relative_step must be > 0 or None, got 0\.0"):
        climb(case, max_relative_step=0.0)
