"""When a run reached its target, against curves whose crossing is known in closed form."""

from __future__ import annotations

import math

import pytest

from orchestrator.home.records import HistoryRow
from orchestrator.home.target import TimesToTarget, times_to_target
from orchestrator.spec import Target

MISSED = TimesToTarget(steps_to_target=None, seconds_to_target=None, gradient_evaluations_to_target=None)


def row(step: int, **metrics: float) -> HistoryRow:
    """A row at a step; a gradient costs 3 here, and the clock is behind by a second."""
    return HistoryRow(
        seed=0,
        step=step,
        epoch=step / 10,
        seconds=1.0 + step / 100,
        teleport_seconds=0.0,
        gradient_evaluations=3.0 * step,
        num_teleports=0,
        metrics=metrics,
    )


def loss(value: float) -> Target:
    return Target(metric="train_loss", value=value)


@pytest.mark.parametrize("every", [1, 7, 50])
def test_an_exponential_loss_is_found_exactly_however_seldom_it_is_evaluated(every: int) -> None:
    rows = [row(step, train_loss=2.0 * math.exp(-step / 30)) for step in range(0, 200, every)]
    found = times_to_target(loss(0.5), rows)
    crossing = 30 * math.log(4.0)
    assert found["steps_to_target"] == pytest.approx(crossing)
    assert found["seconds_to_target"] == pytest.approx(1.0 + crossing / 100)
    assert found["gradient_evaluations_to_target"] == pytest.approx(3 * crossing)


@pytest.mark.parametrize(
    ("target", "rows"),
    [
        (
            Target(metric="validation_accuracy", value=0.5),
            [row(10, validation_accuracy=0.2), row(20, validation_accuracy=0.6)],
        ),
        (loss(-0.5), [row(10, train_loss=1.0), row(20, train_loss=-1.0)]),
        (loss(0.25), [row(10, train_loss=1.0), row(20, train_loss=0.0)]),
    ],
    ids=["accuracy", "negative", "zero"],
)
def test_what_is_no_positive_loss_moves_along_a_straight_line(target: Target, rows: list[HistoryRow]) -> None:
    assert times_to_target(target, rows)["steps_to_target"] == pytest.approx(17.5)


def test_the_first_crossing_counts_also_where_the_target_is_lost_again() -> None:
    rows = [row(step, train_loss=value) for step, value in enumerate((4.0, 1.0, 4.0, 0.25))]
    assert times_to_target(loss(2.0), rows)["steps_to_target"] == pytest.approx(0.5)


@pytest.mark.parametrize("value", [0.5, 0.1])
def test_a_run_that_begins_at_its_target_reached_it_there(value: float) -> None:
    found = times_to_target(loss(0.5), [row(0, train_loss=value), row(10, train_loss=0.05)])
    assert found == TimesToTarget(steps_to_target=0.0, seconds_to_target=1.0, gradient_evaluations_to_target=0.0)


def test_an_evaluation_that_is_at_the_target_exactly_is_the_moment() -> None:
    found = times_to_target(loss(0.5), [row(10, train_loss=0.7), row(20, train_loss=0.5)])
    assert found == TimesToTarget(steps_to_target=20.0, seconds_to_target=1.2, gradient_evaluations_to_target=60.0)


def test_neighbouring_floats_have_a_crossing() -> None:
    above = math.nextafter(1e10, math.inf)
    found = times_to_target(loss(1e10), [row(10, train_loss=above), row(20, train_loss=1e10)])
    assert found["steps_to_target"] == 20.0


def test_a_miss_is_none() -> None:
    assert times_to_target(loss(0.5), []) == MISSED
    assert times_to_target(loss(0.5), [row(0, train_loss=2.0), row(10, train_loss=0.6)]) == MISSED
