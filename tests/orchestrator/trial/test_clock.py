from __future__ import annotations

import pytest

from orchestrator.trial.clock import Budget
from tests.orchestrator.trial.tasks import workload


def test_an_epoch_has_full_batches_only() -> None:
    budget = Budget.of(workload(data={"name": "digits", "batch_size": 32}, epochs=10), 1257)
    assert (budget.batches_per_epoch, budget.num_steps) == (39, 390)


def test_a_batch_larger_than_the_split_is_the_split() -> None:
    assert Budget.of(workload(), 100).batches_per_epoch == 1


@pytest.mark.parametrize(("epochs", "every"), [(1, 1), (10, 1), (20, 3), (100, 18)])
def test_by_default_two_percent_of_the_run(epochs: int, every: int) -> None:
    assert Budget.of(workload(epochs=epochs, evaluate={}), 1257).evaluate_every == every


@pytest.mark.parametrize("every", [1, 4, 5, 17, 18, 100])
def test_stretches_cover_every_step_once_and_end_at_the_last(every: int) -> None:
    stretches = list(Budget.of(workload(evaluate={"every": every}), 1257).stretches())
    assert [step for first, last in stretches for step in range(first, last)] == list(range(18))
    assert [first for first, _ in stretches] == list(range(0, 18, every))
