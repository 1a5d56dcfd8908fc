"""The table of candidates, gathered from the files of a shared search alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.home.records import (
    Provenance,
    SweepRecord,
    Trial,
    TrialConfig,
    TrialResult,
    TrialState,
    objective_value,
)
from orchestrator.search.candidates import Candidates, run_order
from orchestrator.search.costs import aggregate_of, log_ratio_of, run_cost
from orchestrator.search.counts import num_planned
from orchestrator.search.lints import spec_lints
from orchestrator.search.selection import champions, roles
from orchestrator.spec import Objective, SweepSpec
from orchestrator.spec.sharing import RATIO_METRICS
from orchestrator.sweep.plan import Pace, make_plan
from orchestrator.sweep.standing import count
from tests.orchestrator.shared_specs import shared_spec
from tests.orchestrator.shared_sweeps import SharedSweep, by_number, costing, crashing
from tests.orchestrator.trials import failed

FROM = Provenance(command="", versions={}, host="", started_at=0.0)
EVERY_ROLE = "confirm.candidates=[chosen, own, leave_one_out]"
# Steps of four candidates on narrow and on wide: the second is the best on narrow, the third on wide.
STEPS = {0: (3, 3), 1: (1, 12), 2: (12, 1), 3: (8, 8)}


def by_workload(config: TrialConfig) -> TrialResult:
    assert config.number is not None
    return costing(config, STEPS[config.number][config.workload == "wide"])


def searched(
    spec: SweepSpec, folder: Path, answer: Callable[[TrialConfig], TrialResult] = by_workload
) -> tuple[SweepRecord, SharedSweep]:
    folder.mkdir(exist_ok=True)
    sweep = SharedSweep(spec, folder / "study.journal", answer)
    sweep.run()
    return SweepRecord(spec, FROM, tuple(sweep.trials)), sweep


def test_aggregates_are_what_their_names_say() -> None:
    ratios = {"a": [0.5, 2.0], "b": [3.0], "c": [1.0, 1.0, 1.0]}
    logs = {label: [math.log(ratio) for ratio in of] for label, of in ratios.items()}
    assert aggregate_of("geometric_mean", logs) == pytest.approx((0.5 * 2.0 * 3.0) ** (1 / 6))
    assert aggregate_of("worst", logs) == pytest.approx(3.0)


@pytest.mark.parametrize("metric", ["steps_to_target", "seconds_to_target", "gradient_evaluations_to_target"])
def test_a_target_that_is_there_before_the_first_step_has_a_finite_ratio(metric: str, tmp_path: Path) -> None:
    _, sweep = searched(shared_spec("search.trials=1"), tmp_path)
    result = costing(sweep.runs[0], 0)
    nothing = {"seconds_to_target": 0.0, "gradient_evaluations_to_target": 0.0}
    result = result.model_copy(update={"seeds": (result.seeds[0].model_copy(update=nothing),)})
    assert math.isfinite(log_ratio_of(Objective.model_validate({"metric": metric}), result, 1.0))


@pytest.mark.parametrize("metric", RATIO_METRICS)
@pytest.mark.parametrize("steps", [3, None])
def test_a_run_costs_what_the_search_was_told(metric: str, steps: int | None, tmp_path: Path) -> None:
    _, sweep = searched(shared_spec("search.trials=1"), tmp_path)
    [seed] = costing(sweep.runs[0], steps).seeds
    to_target = {"seconds_to_target": None, "gradient_evaluations_to_target": None} if steps is None else {}
    seed = seed.model_copy(update=to_target)
    found = run_cost(seed, metric)
    assert found.value == objective_value(Objective.model_validate({"metric": metric}), [seed])
    assert found.is_miss == (steps is None and metric.endswith("_to_target"))


def test_the_order_of_the_race_is_the_seeds_and_begins_with_every_workload() -> None:
    spec = shared_spec("search.seeds=[0, 1, 2, 3]")
    order = run_order(spec)
    assert sorted(order) == sorted((label, seed) for label in spec.workloads for seed in spec.search.seeds)
    assert all({order[at][0], order[at + 1][0]} == {"narrow", "wide"} for at in range(0, 8, 2))
    assert order == run_order(spec)
    assert any(run_order(shared_spec("search.seeds=[0, 1, 2, 3]", f"search.seed={n}")) != order for n in (1, 2, 3))


def test_runs_become_one_trial_for_each_candidate_and_workload(tmp_path: Path) -> None:
    spec = shared_spec("search.trials=4")
    record, sweep = searched(spec, tmp_path, crashing(by_workload, 3, "diverged"))
    found = [trial for trial in Candidates.of(record).merged if trial.config.arm == "teleport"]
    assert [(trial.config.workload, trial.config.number) for trial in found] == [
        (label, number) for label in spec.workloads for number in range(4)
    ]
    runs = {run.trial_id for run in sweep.runs}
    for trial in found:
        assert trial.result is not None
        assert trial.config.seeds == spec.search.seeds
        number, is_wide = trial.config.number, trial.config.workload == "wide"
        assert number is not None
        assert trial.result.trial_id in runs, "it is known by a trial that is on file"
        if number == 3:
            assert trial.result.failure_kind == "diverged"
        else:
            assert [seed.seed for seed in trial.result.seeds] == list(spec.search.seeds)
            assert trial.result.value == STEPS[number][is_wide]


def test_a_candidate_that_ended_before_a_workloads_turn_counts_there_too(tmp_path: Path) -> None:
    def diverging(config: TrialConfig) -> TrialResult:
        return failed(config) if config.number == 0 else costing(config, 4)

    record, sweep = searched(shared_spec("search.trials=2"), tmp_path, diverging)
    assert sweep.num_runs()[0] == 1
    first = [
        trial for trial in Candidates.of(record).merged if trial.config.number == 0 and trial.config.arm == "teleport"
    ]
    assert [trial.result and trial.result.state for trial in first] == [TrialState.FAIL] * 2
    assert len({trial.config.workload for trial in first}) == 2


def test_the_chosen_candidate_is_that_of_the_best_aggregate_on_every_workload(tmp_path: Path) -> None:
    record, _ = searched(shared_spec("search.trials=4", "confirm.top_k=2"), tmp_path)
    chosen = {
        study: [trial.config.number for trial in trials] for study, trials in champions(Candidates.of(record)).items()
    }
    assert chosen == {
        ("narrow", "baseline"): [0],
        ("narrow", "teleport"): [0, 1],
        ("wide", "baseline"): [0],
        ("wide", "teleport"): [0, 1],
    }


def test_candidates_by_their_roles_come_after_the_chosen_and_each_once(tmp_path: Path) -> None:
    record, _ = searched(shared_spec("search.trials=4", EVERY_ROLE), tmp_path)
    chosen = {
        study: [trial.config.number for trial in trials] for study, trials in champions(Candidates.of(record)).items()
    }
    assert chosen["narrow", "teleport"] == [0, 1, 2]
    assert chosen["wide", "teleport"] == [0, 1, 2]
    found = roles(Candidates.of(record))
    assert found["narrow", "teleport"] == {0: ("chosen",), 1: ("own",), 2: ("leave_one_out",)}
    assert found["wide", "teleport"] == {0: ("chosen",), 1: ("leave_one_out",), 2: ("own",)}
    assert set(found) == {("narrow", "teleport"), ("wide", "teleport")}
    same, _ = searched(shared_spec("search.trials=1", EVERY_ROLE), tmp_path / "same")
    assert [trial.config.number for trial in champions(Candidates.of(same))["wide", "teleport"]] == [0]
    assert roles(Candidates.of(same))["wide", "teleport"] == {0: ("chosen", "own", "leave_one_out")}


def test_a_workload_of_the_same_architecture_has_no_say_where_that_is_left_out(tmp_path: Path) -> None:
    """Two MLPs and a CNN: by leaving one out, the MLPs choose for each other; by architecture only the CNN does."""
    cnn = "{model: {name: cnn, channels: [2]}, data: {name: digits, batch_size: 128}, optimizer: {name: sgd, lr: 0.1}, "
    cnn += "epochs: 1, evaluate: {every: 2}, target: {metric: train_loss, value: 2.2}}"
    both = "confirm.candidates=[chosen, leave_one_out, leave_architecture_out]"
    spec = shared_spec("search.trials=4", f"workloads.cnn={cnn}", both)

    def answer(config: TrialConfig) -> TrialResult:
        on_cnn = config.workload == "cnn" and config.number is not None
        return costing(config, 3 if config.number == 3 else 4) if on_cnn else by_workload(config)

    record, _ = searched(spec, tmp_path, answer)
    (candidates,) = Candidates(spec, record.trials).shared.values()

    def best(*workloads: str) -> int:
        return min(candidates, key=lambda one: one.over(workloads) or math.inf).number

    expected = {
        "narrow": {"leave_one_out": best("wide", "cnn"), "leave_architecture_out": best("cnn")},
        "wide": {"leave_one_out": best("narrow", "cnn"), "leave_architecture_out": best("cnn")},
        "cnn": {"leave_one_out": best("narrow", "wide"), "leave_architecture_out": best("narrow", "wide")},
    }
    for workload, wanted in expected.items():
        found = {
            str(role): number
            for number, of in roles(Candidates.of(record))[workload, "teleport"].items()
            for role in of
        }
        assert {role: found[role] for role in wanted} == wanted
    assert best("cnn") not in (best("narrow", "cnn"), best("wide", "cnn")), "else nothing is tried"


def test_while_it_runs_a_candidate_is_running_and_what_was_given_up_is_pruned(tmp_path: Path) -> None:
    spec = shared_spec(
        "search.scheduler={name: wilcoxon, p_threshold: 0.1}",
        "search.seeds=[0, 1, 2]",
        "search.trials=3",
        "search.concurrency=1",
    )
    record, sweep = searched(spec, tmp_path, by_number({0: 4, 1: 9, 2: 4}))

    def states(num_runs: int, *, is_running: bool = False) -> list[str]:
        runs = [
            Trial(config=run, result=None if is_running and at == num_runs - 1 else sweep.results[run.trial_id])
            for at, run in enumerate(sweep.runs[:num_runs])
        ]
        tuned = [trial for trial in record.trials if trial.config.arm == "baseline"]
        return [candidate.state for candidate in Candidates(spec, (*tuned, *runs)).shared["teleport"]]

    assert states(3) == ["RUNNING"]
    assert states(7, is_running=True) == ["COMPLETE", "RUNNING"]
    assert states(9) == ["COMPLETE", "RUNNING"]
    assert states(10) == ["COMPLETE", "PRUNED"], "it has lost with its fourth pair"
    assert states(11, is_running=True) == ["COMPLETE", "PRUNED", "RUNNING"]
    assert states(16) == ["COMPLETE", "PRUNED", "COMPLETE"]


def test_runs_that_will_not_begin_are_no_longer_planned(tmp_path: Path) -> None:
    spec = shared_spec(
        "search.scheduler={name: wilcoxon, p_threshold: 0.1}",
        "search.seeds=[0, 1, 2]",
        "search.trials=3",
        "search.concurrency=1",
    )
    record, _ = searched(spec, tmp_path, by_number({0: 4, 1: 9}))
    of = {study.study: study for study in count(spec, record.trials).studies if study.phase == "search"}
    assert num_planned(spec, "narrow", "teleport", "search") == 9
    assert (of["narrow/teleport"].num_done, of["wide/teleport"].num_done) == (8, 8)
    assert of["narrow/teleport"].num_planned == 8
    assert of["narrow/teleport"].best == 4.0
    crashed, _ = searched(spec, tmp_path / "crashed", crashing(by_number({}), 1, "crashed"))
    of = {study.study: study for study in count(spec, crashed.trials).studies if study.phase == "search"}
    assert (of["narrow/teleport"].num_planned, of["narrow/teleport"].num_done) == (10, 10), "one candidate is replaced"


def test_the_plan_counts_runs_and_names_the_shared_space() -> None:
    plan = make_plan(shared_spec(EVERY_ROLE), lambda workload, arm: Pace(0.5))
    of = {(study.workload, study.arm): study for study in plan.studies}
    assert of["wide", "teleport"].num_search == 3 * 2
    assert of["wide", "baseline"].num_search == 3 * 2
    assert of["wide", "teleport"].parameters == ("lr_factor", "teleport.tau", "teleport.step.factor")
    assert of["wide", "teleport"].num_confirm == 3 * 2
    assert of["wide", "baseline"].num_confirm == 2
    steps = of["wide", "teleport"].steps_per_seed
    assert of["wide", "teleport"].num_steps == steps * (6 + 6)
    assert of["wide", "teleport"].trial_seconds == 0.5 * steps
    assert of["wide", "baseline"].trial_seconds == 0.5 * steps


def test_a_scheduler_that_can_give_nothing_up_is_objected_to() -> None:
    [told] = [
        lint
        for lint in spec_lints(shared_spec("search.scheduler={name: wilcoxon, p_threshold: 0.1}"))
        if "wilcoxon" in lint
    ]
    assert told.startswith("search.scheduler: wilcoxon gives no candidate up before it has had 4 pairs")
    enough = shared_spec("search.scheduler={name: wilcoxon, p_threshold: 0.1}", "search.seeds=[0, 1, 2]")
    assert not any("wilcoxon" in lint for lint in spec_lints(enough))
