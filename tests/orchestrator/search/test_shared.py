"""A shared search: the order of runs, candidates that are given up, and the same again after any crash."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalStorage

from orchestrator.home.records import TrialConfig, TrialResult
from orchestrator.search.candidates import Candidates, run_order
from orchestrator.search.journal import StudyLog, open_journal
from orchestrator.search.study import Study
from orchestrator.spec import ALL, SweepSpec
from tests.orchestrator.kills import run_with_a_kill
from tests.orchestrator.shared_specs import shared_spec
from tests.orchestrator.shared_sweeps import SharedSweep, baselines, by_number, costing, crashing, lines_of
from tests.orchestrator.trials import complete, failed, row

NUM_PAIRS = 6
# What is done to the journal.
STEPS: list[tuple[type, tuple[str, ...]]] = [
    (StudyLog, ("draw", "keep", "tell")),
    (JournalStorage, ("set_trial_user_attr", "set_trial_intermediate_value", "set_trial_state_values")),
]


def stopping(*overrides: str) -> SweepSpec:
    return shared_spec(
        "search.scheduler={name: wilcoxon, p_threshold: 0.1}",
        "search.seeds=[0, 1, 2]",
        "search.trials=4",
        "search.concurrency=1",
        *overrides,
    )


def stored(journal: Path, arm: str = "teleport") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=f"*/{arm}", storage=open_journal(journal)).get_trials(deepcopy=False)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


def test_every_candidate_runs_on_every_workload_and_seed_and_its_value_is_the_aggregate(journal: Path) -> None:
    costs = {("narrow", 0): 2, ("narrow", 1): 8, ("wide", 0): 1, ("wide", 1): None}

    def answer(config: TrialConfig) -> TrialResult:
        return costing(config, costs[config.workload, config.seeds[0]])

    spec = shared_spec("search.trials=1")
    sweep = SharedSweep(spec, journal, answer)
    sweep.run()
    assert [(run.workload, *run.seeds) for run in sweep.runs] == list(run_order(spec))
    assert len({run.training.optimizer.name for run in sweep.runs}) == 2
    [trial] = stored(journal)
    expected = (2 / 4 * 8 / 4 * 1 / 4 * 20 / 4) ** 0.25
    assert trial.value == pytest.approx(expected)
    [candidate] = Candidates(spec, tuple(sweep.trials)).shared["teleport"]
    assert candidate.aggregate == pytest.approx(expected)
    logs = [math.log(cost / 4) for cost in (2, 8, 1, 20)]
    assert [run.log_ratio for run in candidate.runs] == pytest.approx(logs), "a miss costs twice the budget"
    assert candidate.over({"narrow"}) == pytest.approx(1.0)
    worst = SharedSweep(
        shared_spec("search.trials=1", "search.scope={name: shared, aggregate: worst, lr_factor: [0.5, 2.0]}"),
        journal.with_name("worst"),
        answer,
    )
    worst.run()
    assert stored(worst.journal)[0].value == pytest.approx(math.sqrt(1 / 4 * 20 / 4))


def test_a_run_takes_the_baselines_values_and_the_candidates_factor(journal: Path) -> None:
    spec = shared_spec("search.trials=1")
    sweep = SharedSweep(spec, journal, by_number({}))
    sweep.run()
    factor = sweep.runs[0].values["lr_factor"]
    assert isinstance(factor, float)
    tuned = {label: trials[0].config.values["optimizer.lr"] for (label, _), trials in baselines(spec).items()}
    for run in sweep.runs:
        assert run.training.optimizer.model_dump()["lr"] == pytest.approx(tuned[run.workload] * factor)  # type: ignore[operator]
        assert set(run.values) == {"lr_factor", "teleport.tau", "teleport.step.factor"}


def test_a_common_parameter_is_one_value_for_all_workloads(journal: Path) -> None:
    alike = [f"workloads.{label}.data.batch_size={{choice: [64, 128]}}" for label in ("narrow", "wide")]
    spec = shared_spec("search.scope={name: shared, common: [data.batch_size]}", "search.trials=4", *alike)
    sweep = SharedSweep(spec, journal, by_number({}))
    sweep.run()
    sizes = {(run.number, run.training.data.batch_size) for run in sweep.runs}
    assert len(sizes) == 4, "one size for each setting"
    assert {size for _, size in sizes} == {64, 128}


def test_wilcoxon_gives_a_bad_candidate_up_and_goes_on_with_good_ones(journal: Path) -> None:
    sweep = SharedSweep(stopping(), journal, by_number({0: 4, 1: 8, 2: None, 3: 2}))
    sweep.run()
    assert sweep.num_runs() == {0: NUM_PAIRS, 1: 4, 2: 4, 3: NUM_PAIRS}, "four pairs against it are p = 1/16"
    assert [trial.state.name for trial in stored(journal)] == ["COMPLETE", "PRUNED", "PRUNED", "COMPLETE"]
    assert len(sweep.dropped) == 4
    candidates = Candidates(sweep.spec, tuple(sweep.trials)).shared["teleport"]
    assert [candidate.state for candidate in candidates] == ["COMPLETE", "PRUNED", "PRUNED", "COMPLETE"]
    assert [candidate.aggregate for candidate in candidates] == [1.0, None, None, 0.5]


def test_a_better_candidate_is_never_given_up_for_a_miss_though_a_miss_has_no_number(journal: Path) -> None:
    """The best so far misses a pair; a candidate that beats it everywhere else, and misses it too, runs in full."""
    missed = {("narrow", 0)}

    def answer(config: TrialConfig) -> TrialResult:
        if (config.workload, config.seeds[0]) in missed:
            return costing(config, None)
        return costing(config, {0: 6, 1: 5, 2: 20, 3: 4}[config.number or 0])

    sweep = SharedSweep(stopping(), journal, answer)
    sweep.run()
    states = [trial.state.name for trial in stored(journal)]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"], "what misses all it can is given up for a finite"
    assert all(math.isfinite(value) for trial in stored(journal) for value in trial.intermediate_values.values())


def test_by_the_worst_workload_a_candidate_that_is_worse_on_most_pairs_may_be_the_better_one(journal: Path) -> None:
    """Most pairs speak for the first candidate, the worst workload for the second."""

    def answer(config: TrialConfig) -> TrialResult:
        narrow, other = ((16, 1), (6, 5))[(config.number or 0) % 2]
        return costing(config, narrow if config.workload == "narrow" else other)

    third = "workloads.third={model: {name: mlp, widths: [9]}, data: {name: digits, batch_size: 128}, "
    third += "optimizer: {name: sgd, lr: 0.1}, epochs: 1, target: {metric: train_loss, value: 2.2}}"
    fourth = third.replace("third", "fourth")
    scope = "search.scope={name: shared, aggregate: worst, lr_factor: [0.5, 2.0]}"
    sweep = SharedSweep(stopping(scope, third, fourth, "search.trials=2"), journal, answer)
    sweep.run()
    assert [trial.state.name for trial in stored(journal)] == ["COMPLETE", "COMPLETE"]
    assert [trial.value for trial in stored(journal)] == pytest.approx([4.0, 1.5])


@pytest.mark.parametrize(("kind", "num_candidates"), [("diverged", 4), ("timeout", 4), ("crashed", 5)])
def test_a_run_that_fails_ends_its_candidate_and_only_a_crash_is_replaced(
    kind: str, num_candidates: int, journal: Path
) -> None:
    sweep = SharedSweep(shared_spec("search.trials=4"), journal, crashing(by_number({}), 1, kind))
    sweep.run()
    assert sweep.num_runs() == {number: 2 if number == 1 else 4 for number in range(num_candidates)}
    assert stored(journal)[1].state.name == "FAIL"
    assert [candidate.state for candidate in Candidates(sweep.spec, tuple(sweep.trials)).shared["teleport"]].count(
        "FAIL"
    ) == 1


def test_a_divergence_may_be_the_violation_of_a_constraint(journal: Path) -> None:
    spec = shared_spec("search.trials=4", "search.divergence=constraint", "search.sampler=tpe")
    sweep = SharedSweep(spec, journal, crashing(by_number({}), 1, "diverged"))
    sweep.run()
    told = stored(journal)
    assert told[1].state.name == "COMPLETE"
    assert [trial.constraints["divergence"] > 0 for trial in told] == [False, True, False, False]


def test_a_follower_runs_the_settings_it_is_given_over_all_workloads(journal: Path) -> None:
    spec = shared_spec("arms.random={random_move: {}}", "search.trials=1")
    study = Study(spec, ALL, "random", open_journal(journal), {})
    assert study.waits_for == ("narrow/baseline", "wide/baseline", "*/teleport")
    assert (study.propose(), study.is_exhausted, study.is_over) == (None, False, False)
    source = SharedSweep(spec, journal.with_name("source"), by_number({}))
    source.run()
    chosen = [trial for trial in source.trials if trial.config.arm == "teleport"][:1]
    assert study.begin(baselines(spec) | {("narrow", "teleport"): chosen, ("wide", "teleport"): chosen}) == ""
    run = study.propose()
    assert run is not None
    assert run.method.random_move is not None
    assert run.method.random_move.teleport == chosen[0].config.method.teleport


def test_where_a_baseline_found_nothing_there_is_nothing_to_run(journal: Path) -> None:
    spec = shared_spec()
    study = Study(spec, ALL, "teleport", open_journal(journal), {})
    told = study.begin(baselines(spec) | {("wide", "baseline"): []})
    assert told == "*/teleport has nothing to compare with: no trial of wide/baseline ended well"
    assert (study.propose(), study.is_exhausted, study.is_over) == (None, True, True)


class TestAtOnce:
    """With several runs at once."""

    def test_what_the_race_may_save_waits_while_there_is_anything_else(self, journal: Path) -> None:
        sweep = SharedSweep(stopping("search.concurrency=2"), journal, by_number({}))
        study = sweep.open()
        first = [study.propose() for _ in range(2 * NUM_PAIRS)]
        assert study.propose() is None, "the third candidate waits for the first to end"
        assert [run.number for run in first if run] == [0] * NUM_PAIRS + [1] * NUM_PAIRS, "nobody leads yet"
        for run in first:
            assert run is not None
            study.tell(costing(run, 4))
        numbers = [run.number for run in [study.propose() for _ in range(14)] if run]
        late = [2] * 2 + [3] * 2
        assert numbers == [2] * 4 + [3] * 4 + late, "at last, rather than that a worker has nothing to do"

    def test_runs_under_way_when_their_candidate_ends_are_ended_and_count_nothing(self, journal: Path) -> None:
        spec = shared_spec("search.trials=1")
        study = SharedSweep(spec, journal, by_number({})).open()
        running = [run for run in [study.propose(), study.propose()] if run]
        study.tell(failed(running[0]))
        assert study.judge(running[1], [row(0)]) is None, "before its first step there is nothing to keep"
        assert study.judge(running[1], [row(0), row(2)]) == 2
        study.tell(complete(running[1]))
        assert study.is_over
        assert len(study.take_dropped()) == 2
        assert study.take_dropped() == []
        assert [trial.state.name for trial in stored(journal)] == ["FAIL"]

    def test_results_that_come_out_of_order_are_judged_in_order(self, journal: Path) -> None:
        spec = stopping("search.trials=2")
        study = SharedSweep(spec, journal, by_number({})).open()
        runs = [study.propose() for _ in range(NUM_PAIRS)]
        for run in reversed(runs):
            assert run is not None
            study.tell(costing(run, 4))
        late = [study.propose() for _ in range(5)]
        for run in (late[1], late[2], late[3]):
            assert run is not None
            study.tell(costing(run, 8))
        assert stored(journal)[1].intermediate_values == {}
        assert late[0] is not None
        study.tell(costing(late[0], 8))
        assert stored(journal)[1].state.name == "PRUNED"
        assert list(stored(journal)[1].intermediate_values) == [0, 1, 2, 3]


def check_kills(every: int, sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Kill and take up at every so many steps, until there are no more; each time nothing may be otherwise."""
    spec = stopping(f"search.sampler={sampler}", "search.trials=6")
    costs = by_number({0: 4, 1: 8, 2: 6, 3: 3, 5: None, 6: 2})
    answer = crashing(crashing(costs, 2, "diverged"), 4, "crashed")
    whole = SharedSweep(spec, tmp_path / "whole", lambda config: answer_of(answer, whole, config))
    whole.run()
    states = [trial.state.name for trial in stored(whole.journal)]
    assert states == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE", "FAIL", "PRUNED", "COMPLETE"]
    for number in itertools.count():
        at = number * every + every - 1
        cut = SharedSweep(spec, tmp_path / f"cut{at}", lambda config: whole.results[config.trial_id])
        if not run_with_a_kill(cut.run, STEPS, monkeypatch, at):
            return number
        assert cut.runs == whole.runs, f"killed at step {at}"
        assert cut.results == whole.results, f"killed at step {at}"
        assert lines_of(cut.journal) == lines_of(whole.journal), f"killed at step {at}"
    raise AssertionError


def answer_of(answer: Callable[[TrialConfig], TrialResult], sweep: SharedSweep, config: TrialConfig) -> TrialResult:
    """Answer a run once: what is on file is never computed again."""
    return sweep.results.get(config.trial_id) or answer(config)


def test_a_kill_at_some_steps_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_kills(7, "tpe", tmp_path, monkeypatch) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "{name: cmaes, popsize: 4}"])
def test_a_kill_at_any_step_changes_nothing(sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each of the 7 candidates is drawn, kept and told, with a kill before and after each step and at writes in between.
    assert check_kills(1, sampler, tmp_path, monkeypatch) > 7 * 3 * 2


def test_what_was_cut_off_of_a_candidate_that_has_ended_is_dropped_after_the_crash(journal: Path) -> None:
    sweep = SharedSweep(shared_spec("search.trials=1"), journal, by_number({}))
    study = sweep.open()
    running = [run for run in [study.propose(), study.propose()] if run]
    sweep.results[running[0].trial_id] = failed(running[0])
    study.tell(sweep.results[running[0].trial_id])
    assert running[1] not in study.take_dropped(), "it runs"
    again = sweep.open()
    assert again.is_over
    assert running[1] in again.take_dropped(), "it was cut off, and is not to run again"


@pytest.mark.parametrize("lost", [0, 5])
def test_a_result_of_a_whole_candidate_that_is_no_longer_on_file_runs_again(lost: int, journal: Path) -> None:
    sweep = SharedSweep(stopping(), journal, crashing(by_number({1: 8}), 2, "diverged"))
    sweep.run()
    for number in range(4):
        runs = [run for run in sweep.runs if run.number == number]
        before = dict(sweep.results)
        del sweep.results[runs[min(lost, len(runs) - 1)].trial_id]
        sweep.answer = lambda config: before.get(config.trial_id) or costing(config, 4)  # noqa: B023
        sweep.run()
        if number in (0, 3):
            assert sweep.results == before, "it has its value from all of them"
    assert [trial.state.name for trial in stored(journal)] == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE"]
