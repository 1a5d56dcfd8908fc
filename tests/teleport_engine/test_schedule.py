from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teleport_engine import Schedule


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
