import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_engine import Outcome, Schedule, TeleportReport, WhileItPays


@given(epochs=st.integers(0, 4), batches=st.integers(0, 6), per_epoch=st.integers(1, 5), step=st.integers(0, 40))
def test_first_batches_of_the_first_epochs(epochs: int, batches: int, per_epoch: int, step: int) -> None:
    schedule = Schedule(epochs=epochs, batches=batches, batches_per_epoch=per_epoch)
    epoch, batch = divmod(step, per_epoch)
    assert schedule.is_due(step) == (epoch < epochs and batch < batches)


def due(schedule: Schedule, stop: int = 30) -> list[int]:
    return [step for step in range(stop) if schedule.is_due(step)]


def test_always_every_and_warmup() -> None:
    assert due(Schedule(), 4) == [0, 1, 2, 3]
    assert due(Schedule(every=7)) == [0, 7, 14, 21, 28]
    assert due(Schedule(every=7, warmup=5)) == [5, 12, 19, 26]


def test_warmup_shifts_the_window_of_its_epoch_alone() -> None:
    schedule = Schedule(epochs=2, batches=2, batches_per_epoch=10, warmup=4)
    assert due(schedule) == [4, 5, 10, 11]


def test_every_counts_from_the_first_of_the_epoch() -> None:
    assert due(Schedule(epochs=2, batches=5, batches_per_epoch=10, every=2)) == [0, 2, 4, 10, 12, 14]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1, "batches_per_epoch": 3}, "epochs must be a whole number >= 0, got -1"),
        ({"batches": 2.5, "batches_per_epoch": 3}, "batches must be a whole number >= 0, got 2.5"),
        ({"batches_per_epoch": 0}, "batches_per_epoch must be a whole number >= 1, got 0"),
        ({"every": 0}, "every must be a whole number >= 1, got 0"),
        ({"warmup": True}, "warmup must be a whole number >= 0, got True"),
        ({"epochs": 2}, "batches_per_epoch is needed"),
        ({"batches": 2}, "batches_per_epoch is needed"),
    ],
)
def test_wrong_numbers_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**options)


def test_negative_step_is_refused() -> None:
    with pytest.raises(ValueError, match="step_index must be >= 0, got -1"):
        Schedule().is_due(-1)


def test_given_steps_and_no_others() -> None:
    assert due(Schedule(at=(0, 4, 29)), 40) == [0, 4, 29]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": [3]}, "at must be a tuple of whole numbers >= 0"),
        ({"at": (3, -1)}, "at must be a tuple of whole numbers >= 0"),
        ({"at": (3, 2.5)}, "at must be a tuple of whole numbers >= 0"),
        ({"at": (3,), "every": 2}, "at stands alone"),
        ({"at": (3,), "warmup": 1}, "at stands alone"),
        ({"at": (3,), "batches_per_epoch": 5}, "at stands alone"),
    ],
)
def test_steps_that_cannot_be_given_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**options)


def with_growth(growth: float, cost: float) -> TeleportReport:
    """A teleport after which the squared gradient norm is ``exp(growth)`` times what it was."""
    return TeleportReport(
        outcome=Outcome.MOVED,
        loss_before=1.0,
        loss_after=1.0,
        grad_norm_before=1.0,
        grad_norm_after=math.exp(growth / 2.0),
        num_steps=1,
        layers=(),
        num_gradient_evaluations=cost,
    )


POOR, RICH = with_growth(0.0, 4.0), with_growth(8.0, 4.0)


class TestWhileItPays:
    def test_it_ends_for_good_after_so_many_poor_teleports_in_a_row(self) -> None:
        schedule = WhileItPays(Schedule(every=2), 1.0, patience=2)
        ended = []
        for report in (POOR, RICH, POOR, POOR, RICH):
            schedule.note(report)
            ended.append((schedule.has_ended, schedule.is_due(4)))
        assert ended[:4] == [(False, True), (False, True), (False, True), (True, False)]
        assert not WhileItPays(Schedule(every=2), 1.0).is_due(3)

    @pytest.mark.parametrize(("growth", "cost", "pays"), [(6.0, 4.0, True), (2.0, 4.0, False), (0.4, 0.25, True)])
    def test_the_growth_counts_for_each_gradient_evaluation(self, growth: float, cost: float, pays: bool) -> None:
        schedule = WhileItPays(Schedule(), 1.0, patience=1)
        schedule.note(with_growth(growth, cost))
        assert schedule.has_ended is not pays

    def test_a_gain_that_is_just_enough_pays(self) -> None:
        exact = 2.0 * math.log(4.0)
        report = replace(with_growth(0.0, 2.0), grad_norm_after=4.0)
        schedule = WhileItPays(Schedule(), exact / 2.0, patience=1)
        schedule.note(report)
        assert not schedule.has_ended

    def test_a_teleport_without_cost_gains_nothing(self) -> None:
        schedule = WhileItPays(Schedule(), 1.0, patience=1)
        schedule.note(with_growth(8.0, 0.0))
        assert schedule.has_ended

    def test_it_waits_for_three_by_default(self) -> None:
        schedule = WhileItPays(Schedule(), 1.0)
        schedule.note(POOR)
        schedule.note(POOR)
        assert not schedule.has_ended
        schedule.note(POOR)
        assert schedule.has_ended

    def test_it_goes_on_from_a_state_and_the_schedule_inside_does_too(self) -> None:
        first, second = (WhileItPays(WhileItPays(Schedule(), 1.0, patience=3), 100.0, patience=2) for _ in range(2))
        first.note(POOR)
        second.load_state_dict(first.state_dict())
        assert second.state_dict() == first.state_dict() == {"num_poor": 1, "schedule": {"num_poor": 1, "schedule": {}}}
        second.note(RICH)
        assert second.has_ended
        assert second.state_dict()["schedule"]["num_poor"] == 0, "the schedule inside learns of each teleport"

    @pytest.mark.parametrize("least_gain", [0.0, -1.0, math.inf, math.nan])
    def test_a_least_gain_that_is_no_gain_is_refused(self, least_gain: float) -> None:
        with pytest.raises(ValueError, match="least_gain must be finite and > 0"):
            WhileItPays(Schedule(), least_gain)

    @pytest.mark.parametrize("patience", [0, 1.5, True])
    def test_a_patience_that_is_no_number_of_teleports_is_refused(self, patience: Any) -> None:
        with pytest.raises(ValueError, match="patience must be a whole number >= 1"):
            WhileItPays(Schedule(), 1.0, patience)
