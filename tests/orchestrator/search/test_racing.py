"""Racing: what is dropped is worse, the best is hardly ever dropped, and the order of results says nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from orchestrator.home.records import TrialConfig, TrialResult
from orchestrator.search.confirm import MIN_PAIRS, Defeat, Race
from orchestrator.spec import Mode
from tests.orchestrator.trials import complete, config, failed

SEEDS = tuple(range(1_000, 1_008))


def candidates(num: int, workload: str = "digits") -> list[TrialConfig]:
    return [config(workload=workload, lr=0.1 + index / 100, number=index) for index in range(num)]


def confirm(of: TrialConfig, seed: int) -> TrialConfig:
    return of.model_copy(update={"phase": "confirm", "seeds": (seed,), "number": None})


Run = tuple[TrialConfig, TrialResult]


def runs(of: TrialConfig, values: Sequence[float], seeds: Sequence[int] = SEEDS) -> list[Run]:
    found = [(confirm(of, seed), value) for seed, value in zip(seeds, values, strict=False)]
    return [(trial, complete(trial, value)) for trial, value in found]


def race(field: list[TrialConfig], results: Sequence[Run], mode: Mode = "min") -> dict[str, Defeat]:
    started = Race(SEEDS, [field], mode)
    for of, result in results:
        started.take(of, result)
    return started.out


def test_the_worse_is_out_after_five_seeds_and_told_why() -> None:
    first, second = candidates(2)
    better = [0.10, 0.12, 0.11, 0.13, 0.09]
    worse = [0.20, 0.23, 0.22, 0.27, 0.19]
    assert race([first, second], runs(first, better[:4]) + runs(second, worse[:4])) == {}
    out = race([first, second], runs(first, better) + runs(second, worse))
    assert out == {second.configuration_id: Defeat(first.configuration_id, MIN_PAIRS, 1 / 32)}


def test_the_first_choice_is_never_out() -> None:
    first, second = candidates(2)
    assert race([first, second], runs(first, [0.9] * 8) + runs(second, [0.1] * 8)) == {}


def test_a_second_may_be_beaten_by_a_third() -> None:
    first, second, third = candidates(3)
    results = runs(first, [0.5] * 5) + runs(second, [0.4, 0.6, 0.5, 0.4, 0.6])
    results += runs(third, [0.1, 0.11, 0.12, 0.13, 0.14])
    assert {key: defeat.against for key, defeat in race([first, second, third], results).items()} == {
        second.configuration_id: third.configuration_id
    }


def test_what_is_to_rise_is_compared_that_way() -> None:
    first, second = candidates(2)
    results = runs(first, [0.9, 0.91, 0.92, 0.93, 0.94]) + runs(second, [0.5, 0.52, 0.53, 0.54, 0.55])
    assert set(race([first, second], results, "max")) == {second.configuration_id}
    assert race([first, second], results, "min") == {}


def test_a_timeout_is_as_bad_as_a_divergence() -> None:
    first, second = candidates(2)
    late: list[Run] = [(trial, failed(trial, "timeout")) for trial in (confirm(second, seed) for seed in SEEDS[:5])]
    assert set(race([first, second], runs(first, [0.1] * 5) + late)) == {second.configuration_id}


def test_a_divergence_is_the_worst_and_a_crash_says_nothing() -> None:
    first, second = candidates(2)
    trials = [confirm(second, seed) for seed in SEEDS]
    diverged: list[Run] = [(trial, failed(trial)) for trial in trials[:5]]
    assert set(race([first, second], runs(first, [0.1] * 5) + diverged)) == {second.configuration_id}
    crashed: list[Run] = [(trial, failed(trial, "crashed")) for trial in trials[:5]]
    assert race([first, second], runs(first, [0.1] * 5) + crashed) == {}
    both: list[Run] = [(confirm(first, seed), failed(confirm(first, seed))) for seed in SEEDS[:5]]
    assert race([first, second], both + diverged) == {}


def test_crashed_seeds_are_passed_over() -> None:
    first, second = candidates(2)
    worse = runs(second, [0.2, 0.23, 0.22, 0.27, 0.19, 0.3])
    worse[2] = (worse[2][0], failed(worse[2][0], "lost"))
    out = race([first, second], runs(first, [0.1, 0.12, 0.11, 0.13, 0.09, 0.1]) + worse)
    assert out[second.configuration_id].num_pairs == MIN_PAIRS


def test_workloads_and_arms_do_not_race_each_other() -> None:
    [one], [other] = candidates(1), candidates(1, "another")
    started = Race(SEEDS, [[one], [other]], "min")
    for of, result in runs(one, [0.1] * 8) + runs(other, [0.9] * 8):
        started.take(of, result)
    assert started.out == {}


def test_what_has_all_its_seeds_is_not_dropped() -> None:
    first, second = candidates(2)
    # p is 0.055 with 7 seeds and 0.027 with all 8.
    better, worse = [0.1] * 8, [-0.3, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 9.0]
    assert race([first, second], runs(first, better) + runs(second, worse)) == {}


@pytest.mark.parametrize("seed", range(10))
def test_order_says_nothing_and_what_is_out_stays_out(seed: int) -> None:
    draw = random.Random(seed)
    field = candidates(3)
    results = [run for index, of in enumerate(field) for run in runs(of, [draw.gauss(index / 2, 0.3) for _ in SEEDS])]
    draw.shuffle(results)
    started, before = Race(SEEDS, [field], "min"), set[str]()
    for of, result in results:
        started.take(of, result)
        assert before <= set(started.out)
        before = set(started.out)
    assert started.out == race(field, sorted(results, key=lambda run: run[0].trial_id))


def dropped(num_races: int, advantage: float) -> float:
    """How often the best of three, here the second choice, is dropped; all seeds are paired with shared noise."""
    draw = random.Random(0)
    field = candidates(3)
    count = 0
    for _ in range(num_races):
        shared = [draw.gauss(0.0, 1.0) for _ in SEEDS]
        means = (0.0, -advantage, 0.0)
        results = [
            run
            for of, mean in zip(field, means, strict=True)
            for run in runs(of, [noise + mean + draw.gauss(0.0, 0.5**0.5) for noise in shared])
        ]
        count += field[1].configuration_id in race(field, results)
    return count / num_races


@pytest.mark.slow
def test_the_truly_best_is_hardly_ever_dropped() -> None:
    # In standard deviations of the paired difference; where all are equal, nothing is lost by dropping one.
    assert dropped(1_000, 0.5) <= 0.02
    assert dropped(1_000, 0.25) <= 0.05
    assert dropped(1_000, 0.0) <= 0.15
