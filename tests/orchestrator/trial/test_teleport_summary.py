"""What the teleports of a seed come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest
import torch

from orchestrator.home import StepSummary, TeleportSummary
from orchestrator.trial.teleport_summary import MAX_LOG_GAIN, MAX_STEPS, TeleportTotals, null_dim_of
from teleport_engine import GrowthStep, LayerReport, Outcome, StepTrace, Teleporter, TeleportReport


def teleport(seed: int) -> TeleportReport:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    teleporter = Teleporter(model, torch.nn.functional.cross_entropy, step=GrowthStep(1.5), num_steps=2)
    return teleporter.teleport(torch.randn(8, 6), torch.randint(0, 3, (8,)))


def test_seconds_are_added_up_by_phase_and_go_on_from_a_state() -> None:
    first, second = teleport(0), teleport(1)
    totals = TeleportTotals()
    totals.add(first)
    again = TeleportTotals()
    again.load_state_dict(totals.state_dict())
    again.add(second)
    expected = {name: asdict(first.seconds)[name] + asdict(second.seconds)[name] for name in asdict(first.seconds)}
    assert set(expected) == {"capture", "subspace", "direction", "apply"}
    assert again.summary().seconds == pytest.approx(expected)


def test_a_state_from_before_seconds_were_kept_is_read() -> None:
    totals = TeleportTotals()
    totals.add(teleport(0))
    state = totals.state_dict()
    del state["seconds"]
    older = TeleportTotals()
    older.load_state_dict(state)
    assert older.summary().seconds == {}


MOVED = LayerReport("body", 6, rank=2, null_dim=4, moved=True)
STILL = LayerReport("head", 16, reason="its inputs fill their space")
NORM = LayerReport("norm", None)


def report(
    trace: Sequence[StepTrace] = (),
    layers: tuple[LayerReport, ...] = (MOVED, STILL, NORM),
    outcome: Outcome = Outcome.MOVED,
    **changes: Any,
) -> TeleportReport:
    """A report by hand: the loss is 1 and the gradient norm 2 before, 8 after."""
    plain: dict[str, Any] = {"loss_before": 1.0, "loss_after": 1.0, "grad_norm_before": 2.0, "grad_norm_after": 8.0}
    return TeleportReport(outcome, **plain | changes, num_steps=len(trace), layers=layers, trace=tuple(trace))


def step(grad_norm: float, loss_drift: float = 0.0, probe_drift: float | None = None) -> StepTrace:
    return StepTrace(loss=1.0, grad_norm=grad_norm, eta=0.1, loss_drift=loss_drift, probe_drift=probe_drift)


def summed(*reports: TeleportReport) -> TeleportSummary:
    totals = TeleportTotals()
    for each in reports:
        totals.add(each)
    return totals.summary()


def test_nothing_added_is_nothing() -> None:
    empty = summed()
    assert (empty.count, empty.outcomes, empty.mean_gain, empty.layers, empty.steps) == (0, {}, None, (), ())
    assert empty.max_loss_drift is None
    assert empty.max_probe_drift is None


def test_the_mean_gain_is_geometric_over_the_teleports_that_moved_or_were_put_back() -> None:
    still = report(layers=(STILL,), outcome=Outcome.NO_ASCENT, grad_norm_after=200.0)
    back = report([step(2.0)], layers=(STILL,), outcome=Outcome.PUT_BACK, grad_norm_after=77.0)
    found = summed(report(), still, report(grad_norm_after=16.0), back)
    assert found.mean_gain == pytest.approx((16.0 * 64.0 * 1.0) ** (1 / 3))
    assert found.outcomes == {"moved": 2, "no ascent": 1, "put back": 1}
    assert found.count == 4
    assert summed(still).mean_gain is None


@pytest.mark.parametrize("after", [0.0, math.inf])
def test_a_gain_without_a_logarithm_leaves_the_mean_alone(after: float) -> None:
    # The square of the largest is infinite.
    assert summed(report(), report(grad_norm_after=after)).mean_gain == pytest.approx(16.0 if after == 0.0 else 4.0)
    assert summed(report(), report(grad_norm_after=1e200)).mean_gain == pytest.approx(16.0)


def test_the_largest_drifts_are_absolute_and_over_the_teleports_that_moved() -> None:
    found = summed(
        report(loss_after=1.25, probe_drift=0.5),
        report(loss_after=0.5, probe_drift=-0.75),
        report(loss_after=1.125),
        report(layers=(STILL,), loss_after=9.0, probe_drift=9.0),
    )
    assert (found.max_loss_drift, found.max_probe_drift) == (0.5, 0.75)
    assert summed(report(loss_after=0.5)).max_loss_drift == 0.5


def test_layers_are_averaged_over_the_teleports_that_factorised_them() -> None:
    also = LayerReport("head", 16, rank=6, null_dim=10, moved=True)
    other = LayerReport("body", 6, rank=5, null_dim=1, moved=True)
    body, head = summed(report(), report(layers=(other, also, NORM)), report()).layers
    assert (body.name, body.d_in, body.mean_rank, body.mean_null_dim, body.moved) == ("body", 6, 3.0, 3.0, 3)
    assert (head.name, head.d_in, head.mean_rank, head.mean_null_dim, head.moved) == ("head", 16, 6.0, 10.0, 1)
    assert (body.reason, head.reason) == (None, STILL.reason)
    [alone] = summed(report(layers=(STILL,))).layers
    assert (alone.mean_rank, alone.mean_null_dim, alone.moved) == (None, None, 0)


def test_the_null_dim_of_a_teleport_is_the_mean_over_the_layers_that_moved_in_one() -> None:
    factorised = LayerReport("f", 9, rank=1, null_dim=8)
    orbit = LayerReport("o", 9, moved=True)
    larger = LayerReport("l", 9, rank=3, null_dim=6, moved=True)
    assert null_dim_of(report(layers=(MOVED, STILL, factorised, orbit, larger))) == 5.0
    assert null_dim_of(report(layers=(STILL, factorised, orbit))) is None


def test_steps_are_averaged_over_the_teleports_that_got_so_far() -> None:
    found = summed(report([step(4.0, -0.25, 0.5), step(8.0, 0.5, -1.0)]), report([step(1.0, 0.75, -0.25)]), report())
    assert [(one.step, one.count, one.loss_drift, one.probe_drift) for one in found.steps] == [
        (1, 2, 0.5, 0.375),
        (2, 1, 0.5, 1.0),
    ]
    # Squared norms grew by 4 and by 1/4, then by 16.
    assert [one.gain for one in found.steps] == pytest.approx([1.0, 16.0])


def test_a_probe_that_is_measured_at_the_end_alone_is_of_the_last_step() -> None:
    first, last = summed(report([step(4.0), step(4.0)], probe_drift=-0.5)).steps
    assert (first.probe_drift, last.probe_drift) == (None, 0.5)
    mixed = summed(
        report([step(4.0)]), report([step(4.0)], probe_drift=0.25), report([step(4.0)], probe_drift=math.nan)
    )
    assert [(one.count, one.probe_drift) for one in mixed.steps] == [(3, 0.25)]


@pytest.mark.parametrize(
    "odd",
    [
        report([step(0.0, 8.0)]),
        report([step(math.inf, 8.0)]),
        report([step(math.nan, 8.0)]),
        report([step(4.0, math.nan)]),
        report([step(4.0, math.inf)]),
        report([step(4.0, 8.0)], grad_norm_before=0.0),
    ],
    ids=["no gradient", "infinite gradient", "gradient that is no number", "drift", "infinite drift", "none before"],
)
def test_a_step_without_a_gain_or_a_drift_is_left_out(odd: TeleportReport) -> None:
    assert summed(report([step(4.0, 0.5)]), odd).steps == (StepSummary(step=1, count=1, gain=4.0, loss_drift=0.5),)
    assert summed(odd).steps == ()


def test_the_gain_of_a_step_is_bounded_so_that_it_is_a_number() -> None:
    [found] = summed(report([step(1e300)], grad_norm_before=1e-300)).steps
    assert found.gain == math.exp(MAX_LOG_GAIN)


def test_steps_beyond_the_last_that_is_told_apart_are_left_out() -> None:
    assert len(summed(report([step(4.0)] * (MAX_STEPS + 3))).steps) == MAX_STEPS == 64


def test_a_state_holds_everything() -> None:
    totals = TeleportTotals()
    totals.add(report([step(4.0, 0.25, 0.5)], loss_after=1.5, probe_drift=0.5))
    again = TeleportTotals()
    again.load_state_dict(totals.state_dict())
    assert again.summary() == totals.summary()
    for each in (totals, again):
        each.add(report([step(8.0, 0.5, 1.0)], layers=(STILL, MOVED), outcome=Outcome.PUT_BACK))
    assert again.summary() == totals.summary()
