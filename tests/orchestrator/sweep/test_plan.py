"""What a plan says of the workers that a search keeps busy, and of all that makes a sweep depend on time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.home.records import Trial
from orchestrator.launch import Node
from orchestrator.search import num_busy, time_lints
from orchestrator.search.journal import open_journal
from orchestrator.search.study import Study, plan_studies
from orchestrator.spec import SweepSpec, Workload
from orchestrator.sweep.plan import Pace, Place, Plan, make_plan, measured_pace, pilot_pace
from tests.orchestrator.shared_specs import shared_spec
from tests.orchestrator.shared_sweeps import SharedSweep, by_number
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import complete, config

MANY = "search.trials=16"


def num_handed_out(*studies: Study) -> int:
    """Count the runs that studies hand out before any of them ends."""
    return sum(1 for study in studies for _ in iter(study.propose, None))


@pytest.mark.parametrize(
    ("overrides", "num"),
    [
        ((MANY,), 8),
        ((MANY, "search.seeds=[0, 1]"), 16),
        ((MANY, "search.concurrency=3"), 6),
        ((MANY, "search.seeds=[0, 1]", "search.scheduler=asha"), 8),
        (("search.trials=3",), 6),
        ((MANY, "arms.control={random_move: {of: teleport}}"), 8),
    ],
    ids=["concurrency", "seeds", "lower", "curves", "few", "control"],
)
def test_the_searches_hand_out_as_many_trials_at_once_as_counted(
    overrides: tuple[str, ...], num: int, tmp_path: Path
) -> None:
    spec = tiny_spec(*overrides)
    assert num_busy(spec) == num
    assert num_handed_out(*plan_studies(spec, open_journal(tmp_path / "study.journal"), {})) == num


def test_controls_take_the_place_of_the_arm_that_they_follow() -> None:
    controls = [f"arms.{name}={{random_move: {{of: teleport}}}}" for name in ("one", "two", "three")]
    assert num_busy(tiny_spec(MANY, *controls)) == 4 + 12


def test_a_shared_search_has_all_runs_of_a_candidate_and_comes_after_the_baselines(tmp_path: Path) -> None:
    spec = shared_spec(MANY, "search.concurrency=2")
    assert num_busy(spec) == 8 == num_handed_out(SharedSweep(spec, tmp_path / "study.journal", by_number({})).open())
    teleport = "{step: {rule: growth, factor: {uniform: [1.1, 2.0]}}, schedule: {epochs: 1, batches: 2, steps: 1}}"
    assert num_busy(shared_spec(MANY, "search.concurrency=2", f"arms.other={{teleport: {teleport}}}")) == 16


def plan_on(num_workers: int, *overrides: str) -> Plan:
    node = Node("big", {"CPU": float(num_workers), "memory": 1e12})
    return make_plan(tiny_spec(*overrides), lambda workload, arm: Pace(1.0), place=Place("big", [node]))


def test_workers_that_would_wait_are_told_with_the_concurrency_that_keeps_them_busy() -> None:
    found = plan_on(11, MANY)
    assert (found.num_concurrent, found.num_busy) == (11, 8)
    [told] = [lint for lint in found.lints if "concurrency" in lint]
    assert told == (
        "search.concurrency is 4, so the studies keep at most 8 of 11 workers busy in the search; 6 would keep 11 "
        "busy, and each proposal would be made with fewer results known"
    )
    assert not any("concurrency" in lint for lint in plan_on(11, MANY, "search.concurrency=6").lints)
    assert not any("concurrency" in lint for lint in plan_on(8, MANY).lints)
    assert not any("concurrency" in lint for lint in plan_on(11, MANY, "search.max_concurrent=8").lints)


def test_a_concurrency_above_the_number_of_trials_is_never_asked_for() -> None:
    [told] = [lint for lint in plan_on(100, "search.trials=6").lints if "concurrency" in lint]
    assert "at most 8 of 100 workers busy in the search; 6 would keep 12 busy" in told
    assert not any("concurrency" in lint for lint in plan_on(100, "search.trials=4").lints)


def test_workers_that_wait_do_not_shorten_the_search() -> None:
    few, many = (plan_on(num_workers, MANY, "confirm.seeds=1") for num_workers in (8, 80))
    assert few.num_steps == (2 * 16 + 2) * 9
    assert few.seconds == pytest.approx(9 * (2 * 16 / 8 + 2 / 8))
    assert many.seconds == pytest.approx(9 * (2 * 16 / 8 + 2 / 80))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ((), []),
        (("search.scheduler=asha",), ["search.scheduler: asha compares a trial with what has arrived by then"]),
        (("search.scheduler=median", "search.concurrency=1"), []),
        (("search.scheduler=hyperband", "search.concurrency=1", "search.seeds=[0, 1]"), ["hyperband compares"]),
        (("search.objective={metric: seconds}",), ["gradient_evaluations does not depend on time"]),
        (("search.also=[{metric: seconds_to_target}]",), ["gradient_evaluations_to_target does not depend on time"]),
        (("search.objective={metric: gradient_evaluations}", "budget.trials=4"), []),
        (("budget={wall_clock: 1h}",), ["budget.wall_clock is a limit of time"]),
        (("budget={gpu_hours: 1, per_trial: 1h}",), ["budget.gpu_hours is a limit", "budget.per_trial is a limit"]),
    ],
)
def test_what_makes_a_sweep_depend_on_time_is_told(overrides: tuple[str, ...], told: list[str]) -> None:
    spec: SweepSpec = tiny_spec(*overrides)
    found = list(time_lints(spec))
    assert len(found) == len(told)
    assert all(part in lint for part, lint in zip(told, found, strict=True))
    assert set(found) <= set(make_plan(spec).lints)


def earlier(lr: float, steps: dict[int, float | None], **more: Any) -> list[Trial]:
    """Trials of one configuration of the tiny spec, each on a seed of its own that took so many steps."""
    trials = []
    for seed, took in steps.items():
        of = config(lr=lr, seeds=(seed,), **more)
        result = complete(of)
        reached = result.seeds[0].model_copy(update={"steps_to_target": took})
        trials.append(Trial(config=of, result=result.model_copy(update={"seeds": (reached,)})))
    return trials


class TestCoarseEvaluations:
    def told(self, trials: list[Trial], *overrides: str) -> list[str]:
        found = make_plan(tiny_spec(*overrides), measured_pace(trials)).lints
        return [lint for lint in found if "is evaluated every" in lint]

    def test_evaluations_far_apart_for_the_fastest_earlier_configuration_are_told(self) -> None:
        """One lucky seed of a configuration does not make it the fastest: the median over its seeds counts."""
        lucky = earlier(0.1, {0: 4.0, 1: 80.0, 2: 90.0})
        assert self.told([*lucky, *earlier(0.2, {0: 20.0, 1: 25.0, 2: None})]) == [
            "digits: it is evaluated every 2 steps, which is 8% of the 25 steps to its target, so the steps to target "
            "are interpolated over wide gaps and small effects are hidden; evaluate.every: 1 is fine enough"
        ]

    def test_evaluations_at_five_percent_are_fine(self) -> None:
        assert self.told(earlier(0.1, {0: 40.0})) == []

    def test_a_target_that_is_reached_within_a_few_steps_has_no_cure_by_evaluation(self) -> None:
        [told] = self.told(earlier(0.1, {0: 4.0}), "workloads.digits.evaluate.every=1")
        assert told.endswith("small effects are hidden")

    @pytest.mark.parametrize(
        ("steps", "overrides"),
        [(None, ()), (4.0, ("workloads.digits.target.value=2.1",)), (4.0, ("workloads.digits.model.widths=[8]",))],
        ids=["a miss", "another target", "another model"],
    )
    def test_nothing_is_told_where_no_earlier_run_says_how_long_it_takes(
        self, steps: float | None, overrides: tuple[str, ...]
    ) -> None:
        assert self.told(earlier(0.1, {0: steps}), *overrides) == []

    def test_a_pilot_tells_where_its_epoch_reaches_the_target(self) -> None:
        overrides = ("workloads.digits.target.value=2.3", "workloads.digits.optimizer.lr=0.1")
        spec = tiny_spec(*overrides)
        template = spec.workloads["digits"]
        pace = pilot_pace(Workload.model_validate(template.concretise({})), spec.example_of("baseline"))
        assert pace.steps_to_target is not None
        assert pace.steps_to_target <= 9
        [told] = [lint for lint in make_plan(spec, lambda workload, arm: pace).lints if "is evaluated every" in lint]
        assert told.startswith("digits: it is evaluated every 2 steps")


@pytest.mark.parametrize(
    ("arms", "told"),
    [
        ("{}", "the spec has no teleport arm, so it makes no claim"),
        ("{scaled: {init_scaled: {factor: 2.0}}}", "the spec has no teleport arm, so it makes no claim"),
        ("{teleport: {teleport: {step: {rule: growth, factor: 1.5}}}}", "2 pairs cannot go below p = 0.5"),
    ],
    ids=["baseline", "control", "teleport"],
)
def test_claims_are_counted_where_there_is_a_teleport_arm(arms: str, told: str) -> None:
    assert told in make_plan(tiny_spec(f"arms={arms}")).power[0]
