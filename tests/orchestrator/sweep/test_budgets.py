"""What is left of a budget: the same from one run or several, from the files alone, and told in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.home.records import Trial, TrialConfig, TrialState
from orchestrator.spec import SweepSpec
from orchestrator.sweep.budgets import Budgets, Spent, planned, shortfalls, spent, union_seconds, usages
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import complete, config

HOUR = 3600.0


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def of(number: int, gpu: float = 0.0) -> TrialConfig:
    return config(lr=0.001 * (number + 1), number=number, share={"cpu": 1.0, "gpu": gpu})


def ended(number: int, began: float, end: float, gpu: float = 0.0) -> Trial:
    which = of(number, gpu)
    return Trial(config=which, result=complete(which).model_copy(update={"started_at": began, "ended_at": end}))


def budgets(*overrides: str, trials: tuple[Trial, ...] = ()) -> tuple[Budgets, Clock]:
    clock = Clock()
    return Budgets(tiny_spec(*overrides), trials, clock=clock), clock


def test_without_budgets_everything_may_run_for_ever() -> None:
    found, clock = budgets()
    clock.now += 1e9
    assert found.reached() is None
    assert found.may_start()
    assert not found.overdue(of(0).trial_id)


def test_the_wall_clock_counts_the_time_in_which_earlier_runs_had_trials_and_this_run_whole() -> None:
    night = (ended(0, 0.0, 600.0), ended(1, 100.0, 700.0), ended(2, 90_000.0, 90_500.0))
    found, clock = budgets("budget.wall_clock=30m", trials=night)
    clock.now += 599.0
    assert found.may_start()
    clock.now += 1.0
    assert found.reached() == "the wall-clock budget of 30m is used up: 3 of 10 trials ended"
    assert not found.may_start()


def test_the_trials_that_run_count_before_one_more_is_started_and_not_before_the_sweep_ends() -> None:
    found, _ = budgets("budget.trials=3", trials=(ended(0, 0.0, 1.0),))
    found.on_started(of(1))
    assert found.may_start()
    found.on_started(of(2))
    assert not found.may_start()
    assert found.reached() is None
    found.on_ended(of(1), complete(of(1)))
    found.on_ended(of(2), complete(of(2)))
    assert found.reached() == "the trials budget of 3 is used up: 3 of 10 trials ended"


def test_a_trial_that_was_lost_makes_room_for_itself() -> None:
    found, _ = budgets("budget.trials=1")
    found.on_started(of(0))
    found.on_stopped(of(0))
    assert found.may_start()


def test_gpu_hours_count_the_share_of_each_trial_also_while_it_runs() -> None:
    found, clock = budgets("budget.gpu_hours=1", trials=(ended(0, 0.0, HOUR, gpu=0.25),))
    found.on_started(of(1, gpu=0.5))
    clock.now += HOUR
    assert found.spent.gpu_seconds == pytest.approx(0.75 * HOUR)
    found.on_ended(of(1, gpu=0.5), ended(1, 5.0, 5.0 + HOUR).result or pytest.fail("it ended"))
    assert found.spent.gpu_seconds == pytest.approx(0.75 * HOUR)
    found.on_started(of(2, gpu=0.5), seconds_before=0.25 * HOUR)
    clock.now += 0.25 * HOUR
    assert found.reached() == "the GPU-hours budget of 1 is used up: 2 of 10 trials ended"


def test_a_trial_is_overdue_with_what_its_earlier_attempts_took() -> None:
    found, clock = budgets("budget.per_trial=10m")
    first, second = of(0), of(1)
    found.on_started(first)
    found.on_started(second, seconds_before=300.0)
    clock.now += 300.0
    assert not found.overdue(first.trial_id)
    assert found.overdue(second.trial_id)
    result = found.timed_out(second.trial_id, ended_at=5_000.0)
    assert (result.state, result.started_at, result.ended_at) == (TrialState.FAIL, 4_400.0, 5_000.0)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.is_answer) == ("timeout", True)
    assert result.failure.message == "ended after 10 min: budget.per_trial is 10m"
    found.on_ended(second, result)
    clock.now += 1e6
    assert not found.overdue(second.trial_id)


STORY = st.lists(
    st.tuples(st.floats(1.0, 100.0), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans()), min_size=1, max_size=30
)


@given(STORY)
def test_what_is_counted_on_the_way_is_what_the_files_say_afterwards(story: list[tuple[float, float, bool]]) -> None:
    found, clock = budgets()
    trials: list[Trial] = []
    running: list[tuple[TrialConfig, float]] = []
    for number, (seconds, gpu, ends) in enumerate(story):
        which = of(number, gpu)
        found.on_started(which)
        running.append((which, clock.now))
        clock.now += seconds
        if ends:
            first, began = running.pop(0)
            result = complete(first).model_copy(update={"started_at": began, "ended_at": clock.now})
            found.on_ended(first, result)
            trials.append(Trial(config=first, result=result))
    files = [*trials, *(Trial(config=which) for which, _ in running)]
    read = spent(files, {which.trial_id: began for which, began in running}, clock.now)
    assert found.spent.gpu_seconds == pytest.approx(read.gpu_seconds, abs=1e-3)
    assert found.spent.num_trials == read.num_trials == len(trials)
    assert found.spent.seconds == pytest.approx(read.seconds)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))))
def test_the_union_of_intervals_counts_each_second_once(intervals: list[tuple[int, int]]) -> None:
    seconds = {second for begin, end in intervals for second in range(begin, end)}
    assert union_seconds(intervals) == len(seconds)


def test_cut_off_trials_that_do_not_run_count_nothing() -> None:
    assert spent([Trial(config=of(0, gpu=1.0)), ended(1, 0.0, 2.0, gpu=1.0)]) == Spent(2.0, 1, 2.0)


def test_usages_say_how_much_of_each_budget_is_used() -> None:
    budget = tiny_spec("budget={wall_clock: 2h, trials: 8, gpu_hours: 4}").budget
    assert [usage.sentence for usage in usages(budget, Spent(5_400.0, 2, 3_600.0))] == [
        "1.5 h of the wall-clock budget of 2h used (75%)",
        "1 of the GPU-hours budget of 4 used (25%)",
        "2 of the trials budget of 8 used (25%)",
    ]
    assert usages(tiny_spec().budget, Spent(1.0, 1, 1.0)) == ()


def told(
    spec: SweepSpec, seconds: float | None = None, gpu: float | None = None, trial: float | None = None
) -> list[str]:
    return list(shortfalls(spec, seconds, gpu, trial))


def test_what_a_sweep_will_exceed_is_told_before_it_runs() -> None:
    spec = tiny_spec("budget={wall_clock: 2h, trials: 6, gpu_hours: 4, per_trial: 10m}")
    assert planned(spec) == 10
    assert told(spec, 3 * HOUR, 5.0, 1_200.0) == [
        "budget.wall_clock is 2h and the estimate is 3.0 h, so the sweep will end early",
        "budget.gpu_hours is 4 and the estimate is 5, so the sweep will end early",
        "budget.trials is 6 and the spec plans 6 search and 4 confirm trials, so confirm will not run",
        "budget.per_trial is 10m and the longest trial may take 20 min, so it would end as FAIL",
    ]
    assert told(tiny_spec("budget.trials=9")) == [
        "budget.trials is 9 and the spec plans 6 search and 4 confirm trials, so confirm will not be complete"
    ]
    assert told(tiny_spec("budget={wall_clock: 2h, trials: 10, gpu_hours: 4, per_trial: 10m}"), HOUR, 1.0, 60.0) == []
    assert told(tiny_spec("budget={wall_clock: 2h, gpu_hours: 4, per_trial: 10m}")) == []
