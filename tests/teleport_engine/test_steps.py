"""Guards, rollback and cost of the steps of a teleport (B1)."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from teleport_engine import FixedStep, GrowthStep, Limits, Line, Options, Outcome, Teleporter
from teleport_engine.model import SECOND_BACKWARD, TANGENT
from tests.teleport_engine import dense
from tests.teleport_engine.cases import OwnStep, make, moved_names, teleporter_of


class TestGuards:
    def test_non_finite_is_rolled_back_bit_for_bit(self) -> None:
        case = make("relu", torch.float32)
        before = copy.deepcopy(case.model.state_dict())
        report = Teleporter(case.model, case.loss_fn, step=FixedStep(1e30)).teleport(case.inputs, case.targets)
        assert report.outcome is Outcome.NON_FINITE
        assert (report.num_steps, report.trace) == (0, ())
        assert report.loss_after == report.loss_before
        assert {layer.reason for layer in report.layers if layer.null_dim} == {"rolled back"}
        assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())

    def test_steps_taken_before_the_explosion_are_rolled_back_too(self) -> None:
        case = make("relu", torch.float32)
        before = copy.deepcopy(case.model.state_dict())
        calls = 0

        def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return case.loss_fn(outputs, targets) * (float("nan") if calls >= 9 else 1.0)

        report = Teleporter(case.model, loss_fn, step=FixedStep(1e-3)).teleport(case.inputs, case.targets)
        assert calls == 12, "the fourth landing is not finite, and the three of the shorter steps after it"
        assert (report.outcome, report.num_steps) == (Outcome.NON_FINITE, 0)
        assert report.grad_norm_after == report.grad_norm_before
        assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())

    @pytest.mark.parametrize("rule", [FixedStep(1e39), FixedStep(1e300), OwnStep(norm=1e300), GrowthStep(1e300)])
    def test_lengths_that_float32_has_no_number_for(self, rule: Any) -> None:
        case = make("relu", torch.float32)
        before = copy.deepcopy(case.model.state_dict())
        report = Teleporter(case.model, case.loss_fn, step=rule).teleport(case.inputs, case.targets)
        assert report.outcome in (Outcome.NON_FINITE, Outcome.TARGET_MISSED)
        torch.testing.assert_close(case.model.state_dict(), before, rtol=0.0, atol=0.0)

    @pytest.mark.parametrize("tau", [1.0, 0.9])
    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_bad_numbers_in_the_batch_move_nothing(self, tau: float, bad: float) -> None:
        case = make("tanh")
        case.inputs[0, 0] = bad
        before = copy.deepcopy(case.model.state_dict())
        teleporter = Teleporter(case.model, case.loss_fn, tau=tau)
        report = teleporter.teleport(case.inputs, case.targets)
        assert report.outcome is Outcome.NON_FINITE
        assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())
        if bad != bad:
            assert teleporter.direction(case.inputs, case.targets) == {}

    def test_bad_numbers_in_the_subspace_sample_move_nothing(self) -> None:
        case = make("tanh")
        sample = torch.full((4, 6), float("nan")).double()
        report = Teleporter(case.model, case.loss_fn).teleport(case.inputs, case.targets, subspace=sample)
        assert report.outcome is Outcome.NON_FINITE

    def test_the_cap_undoes_the_step_that_passes_it(self) -> None:
        case = make("relu")
        twin = Teleporter(copy.deepcopy(case.model), case.loss_fn, step=GrowthStep(1.5))
        free = twin.teleport(case.inputs, case.targets)
        cap = free.trace[3].grad_norm * 1.01
        report = Teleporter(
            case.model, case.loss_fn, Options(step=GrowthStep(1.5), limits=Limits(grad_norm_cap=cap, max_backoffs=0))
        ).teleport(case.inputs, case.targets)
        assert report.outcome is Outcome.CAP_REACHED
        assert report.num_steps == 4
        assert report.grad_norm_after == free.trace[3].grad_norm <= cap
        half = dense.half_square_norm(case.model, case.loss_fn, case.inputs, case.targets)
        assert math.sqrt(2 * half) == pytest.approx(report.grad_norm_after, rel=1e-12)

    def test_a_start_above_the_cap_stays(self) -> None:
        case = make("relu")
        report = Teleporter(case.model, case.loss_fn, Options(limits=Limits(grad_norm_cap=1e-9))).teleport(
            case.inputs, case.targets
        )
        assert (report.outcome, report.num_steps) == (Outcome.CAP_REACHED, 0)
        assert not moved_names(report)

    def test_drift_undoes_the_step_that_passes_it(self) -> None:
        case = make("tanh")
        report = Teleporter(
            case.model,
            case.loss_fn,
            Options(tau=0.9, step=GrowthStep(1.5), num_steps=20, limits=Limits(max_loss_drift=0.05, max_backoffs=0)),
        ).teleport(case.inputs, case.targets)
        assert report.outcome is Outcome.DRIFT
        assert 0 < report.num_steps < 20
        assert 0.0 < abs(report.loss_drift) <= 0.05
        assert "step undone" in report.messages[0]
        with torch.no_grad():
            assert float(case.loss_fn(case.model(case.inputs), case.targets)) == pytest.approx(
                report.loss_after, rel=1e-12
            )

    def test_probe_drift_is_watched_and_guarded(self) -> None:
        case = make("tanh")
        probe = torch.randn(16, 6).double(), torch.randn(16, 4).double()
        model = copy.deepcopy(case.model)
        with torch.no_grad():
            before = float(case.loss_fn(model(probe[0]), probe[1]))
        free = Teleporter(model, case.loss_fn, step=GrowthStep(1.5)).teleport(case.inputs, case.targets, probe=probe)
        with torch.no_grad():
            after = float(case.loss_fn(model(probe[0]), probe[1]))
        assert free.probe_drift == pytest.approx(after - before, rel=1e-9)
        limit = abs(after - before) / 3
        report = Teleporter(
            case.model,
            case.loss_fn,
            Options(step=GrowthStep(1.5), limits=Limits(max_probe_drift=limit, max_backoffs=0)),
        ).teleport(case.inputs, case.targets, probe=probe)
        assert report.outcome is Outcome.DRIFT
        assert report.probe_drift is not None
        assert abs(report.probe_drift) <= limit
        assert 0 < report.num_steps < 8

    def test_growth_that_cannot_be_had_moves_nothing(self) -> None:
        case = make("relu")
        before = copy.deepcopy(case.model.state_dict())
        step = GrowthStep(1.3, max_evaluations=1)
        report = Teleporter(case.model, case.loss_fn, step=step).teleport(case.inputs, case.targets)
        assert report.outcome is Outcome.TARGET_MISSED
        assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())


@pytest.mark.usefixtures("passes_alone")
def test_passes_are_counted_in_gradients() -> None:
    case = make("relu")
    options: dict[str, Any] = {"step": FixedStep(1e-4), "num_steps": 4}
    report = teleporter_of(copy.deepcopy(case.model), case.loss_fn, **options).teleport(case.inputs, case.targets)
    assert report.num_gradient_evaluations == pytest.approx(1 + 4 * (1 + TANGENT))
    report = teleporter_of(copy.deepcopy(case.model), case.loss_fn, tau=0.9, **options).teleport(
        case.inputs, case.targets
    )
    assert report.num_gradient_evaluations == pytest.approx(1 + 1 / 3 + 4 * (1 + SECOND_BACKWARD)), (
        "with a second forward"
    )
    assert report.seconds.total > 0.0
    assert min(report.seconds.capture, report.seconds.subspace, report.seconds.direction, report.seconds.apply) > 0.0


@pytest.mark.usefixtures("passes_alone")
def test_a_rule_of_ones_own_pays_once_for_the_point_it_takes() -> None:
    case = make("tanh")

    class Asks:
        def length(self, line: Line) -> float:
            assert line.at(1e-3) > line.value
            assert line.slope > 0.0
            return 1e-3

    report = Teleporter(case.model, case.loss_fn, step=Asks(), num_steps=3).teleport(case.inputs, case.targets)
    assert report.num_steps == 3
    assert report.num_gradient_evaluations == pytest.approx(1 + 3 * (1 + TANGENT))
