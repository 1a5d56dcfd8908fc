"""Early stopping: one contract for every scheduler, and what Optuna is told."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.pruners import WilcoxonPruner

from orchestrator.home.records import HistoryRow, TrialConfig, TrialResult, TrialState
from orchestrator.search.early_stopping import judged_metric, loses, pruned_result, rung_values
from orchestrator.search.journal import open_journal
from orchestrator.search.study import Study
from orchestrator.spec import SweepSpec
from orchestrator.spec.options import SCHEDULERS, WHOLE_BUDGET, StoppingOptions, WilcoxonOptions
from orchestrator.trial.run import run_trial
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import complete, config, failed, row

STOPPING = sorted(name for name, entry in SCHEDULERS.items() if issubclass(entry.options, StoppingOptions))
NUM_ROWS = 50

Curve = Callable[[float], float]


def spec_with(scheduler: str, *overrides: str) -> SweepSpec:
    return tiny_spec(
        "search.trials=64", "search.concurrency=1", "search.sampler=random", f"search.scheduler={scheduler}", *overrides
    )


def study(spec: SweepSpec, journal: Path, arm: str = "baseline", results: tuple[TrialResult, ...] = ()) -> Study:
    return Study(spec, "digits", arm, open_journal(journal), {result.trial_id: result for result in results})


def curve(final: float, seeds: tuple[int, ...] = (0,), num_rows: int = NUM_ROWS) -> list[HistoryRow]:
    """Rows of a loss that falls on a straight line from 3 to ``final``, in every seed."""
    shares = [index / num_rows for index in range(num_rows + 1)]
    return [
        row(round(10 * share * 100), seed, 3.0 + (final - 3.0) * share).model_copy(update={"epoch": share})
        for seed in seeds
        for share in shares
    ]


def proposed(searched: Study) -> TrialConfig:
    found = searched.propose()
    assert found is not None
    return found


def run(searched: Study, final: float, bunch: int = 1) -> tuple[TrialConfig, int | None]:
    """Run a trial to its end; gives the number of rows that it kept where it was stopped."""
    of = proposed(searched)
    rows = curve(final, of.seeds)
    for start in range(0, len(rows), bunch):
        kept = searched.judge(of, rows[start : start + bunch])
        if kept is not None:
            searched.tell(pruned_result(of, rows[: start + kept], started_at=1.0, ended_at=2.0))
            return of, start + kept
    searched.tell(complete(of, final))
    return of, None


def stored(journal: Path, name: str = "digits/baseline") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=open_journal(journal)).get_trials(deepcopy=False)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


@pytest.mark.parametrize("scheduler", STOPPING)
class TestScheduler:
    """What every scheduler that stops trials promises."""

    def test_a_clearly_bad_trial_is_stopped_and_a_clearly_good_one_is_not(self, scheduler: str, journal: Path) -> None:
        searched = study(spec_with(scheduler), journal)
        for index in range(6):
            run(searched, 1.0 - index / 100)  # each better than all before: none is stopped
        assert {trial.state.name for trial in stored(journal)} == {"COMPLETE"}
        # Hyperband's late brackets judge late, so one of several.
        assert any(kept is not None for _, kept in (run(searched, 2.9) for _ in range(6)))
        _, kept = run(searched, 0.1)
        assert kept is None

    def test_none_is_stopped_before_grace(self, scheduler: str, journal: Path) -> None:
        searched = study(spec_with(f"{{name: {scheduler}, grace: 0.5}}"), journal)
        for index in range(6):
            run(searched, 1.0 - index / 100)
        ends = [kept for _, kept in (run(searched, 2.9) for _ in range(6)) if kept is not None]
        assert ends
        assert min(ends) == NUM_ROWS // 2 + 1  # that row is kept

    def test_the_first_trial_runs_to_its_end(self, scheduler: str, journal: Path) -> None:
        assert run(study(spec_with(scheduler), journal), 2.9)[1] is None

    def test_studies_are_never_compared(self, scheduler: str, journal: Path) -> None:
        spec = spec_with(scheduler)
        storage = open_journal(journal)
        easy, hard = (Study(spec, "digits", arm, storage, {}) for arm in spec.arms)
        for index in range(12):
            assert run(easy, 0.5 - index / 100)[1] is None
            assert run(hard, 2.5 - index / 100)[1] is None

    def test_bunches_of_rows_change_nothing(self, scheduler: str, tmp_path: Path) -> None:
        finals = [1.0, 0.9, 0.8, 1.1, 0.7, 2.0, 0.95, 2.9, 0.5]
        outcomes = []
        for bunch in (1, 7, NUM_ROWS + 1):
            searched = study(spec_with(scheduler), tmp_path / str(bunch))
            outcomes.append([run(searched, final, bunch)[1] for final in finals])
        assert outcomes[0] == outcomes[1] == outcomes[2]
        assert any(outcomes[0])

    @pytest.mark.parametrize("cut", [3, 17, 31, 46])
    def test_decisions_are_the_same_after_the_journal_was_opened_again(
        self, scheduler: str, cut: int, tmp_path: Path
    ) -> None:
        finals = [1.0, 0.9, 1.2, 0.8, 2.0, 0.7, 2.9, 0.95, 0.6, 2.5, 2.4, 2.3, 0.4]

        def search(journal: Path, cut: int | None) -> list[tuple[str, int | None]]:
            searched = study(spec_with(scheduler), journal)
            results: list[TrialResult] = []
            found: list[tuple[str, int | None]] = []
            for final in finals:
                of = proposed(searched)
                rows, kept, index = curve(final), None, 0
                was_cut = False
                while kept is None and index < len(rows):
                    if index == cut and not was_cut:
                        searched = study(spec_with(scheduler), journal, results=tuple(results))
                        assert proposed(searched) == of
                        # It goes on from a checkpoint some rows back, which come again.
                        was_cut, index = True, max(0, index - 10)
                        kept = searched.judge(of, rows[:index])
                    if kept is None:
                        kept = searched.judge(of, [rows[index]])
                        kept = None if kept is None else index + kept
                        index += 1
                results.append(complete(of, final) if kept is None else pruned(of, rows[:kept]))
                searched.tell(results[-1])
                found.append((of.trial_id, kept))
            return found

        whole = search(tmp_path / "whole", None)
        assert any(kept is not None for _, kept in whole)
        assert search(tmp_path / "cut", cut) == whole

    def test_a_trial_that_was_to_end_when_the_driver_died_ends_where_it_would_have(
        self, scheduler: str, journal: Path
    ) -> None:
        spec = spec_with(scheduler)
        searched = study(spec, journal)
        results: list[TrialResult] = []
        for index in range(6):
            of, _ = run(searched, 1.0 - index / 100)
            results.append(complete(of, 1.0 - index / 100))
        kept, of = None, proposed(searched)
        while kept is None:  # until Hyperband's brackets give one that is stopped
            rows = curve(2.9)
            kept = searched.judge(of, rows)
            if kept is None:
                results.append(complete(of, 2.9))
                searched.tell(results[-1])
                of = proposed(searched)
        again = study(spec, journal, results=tuple(results))
        assert proposed(again) == of
        assert again.judge(of, rows[:kept]) == kept
        assert again.judge(of, rows[kept:]) == 0
        assert again.judge(of, rows) == kept  # from the very beginning

    def test_what_was_kept_is_kept_when_better_trials_have_come_meanwhile(self, scheduler: str, journal: Path) -> None:
        spec = spec_with(scheduler, "search.concurrency=9")
        searched = study(spec, journal)
        slow = proposed(searched)
        rows = curve(1.5)
        assert searched.judge(slow, rows[:15]) is None
        results = []
        for index in range(8):
            of, _ = run(searched, 1.0 - index / 100)
            results.append(complete(of, 1.0 - index / 100))
        again = study(spec, journal, results=tuple(results))
        assert proposed(again) == slow
        assert again.judge(slow, rows[:15]) is None

    def test_optuna_hears_of_each_value_once_and_only_at_rungs(self, scheduler: str, journal: Path) -> None:
        spec = spec_with(scheduler)
        searched = study(spec, journal)
        of = proposed(searched)
        rows = curve(1.0)
        searched.judge(of, rows[:30])
        searched.judge(of, [each.model_copy(update={"metrics": {"train_loss": 9.0}}) for each in rows[:30]])
        searched.judge(of, rows[30:])
        values = stored(journal)[0].intermediate_values
        assert tuple(values) == spec.search.scheduler.rungs
        assert values == rung_values(rows, 1, of.seeds, "train_loss", spec.search.scheduler.rungs)

    def test_a_stopped_trial_is_pruned_in_optuna_with_its_values(self, scheduler: str, journal: Path) -> None:
        searched = study(spec_with(scheduler), journal)
        for index in range(6):
            run(searched, 1.0 - index / 100)
        ends = [run(searched, 2.9) for _ in range(6)]
        for of, kept in ends:
            assert of.number is not None
            trial = stored(journal)[of.number]
            assert trial.state.name == ("COMPLETE" if kept is None else "PRUNED")
            assert trial.intermediate_values
        assert {trial.state.name for trial in stored(journal)} == {"COMPLETE", "PRUNED"}

    def test_a_divergence_is_a_fail_in_optuna_with_what_it_had_reported(self, scheduler: str, journal: Path) -> None:
        searched = study(spec_with(scheduler), journal)
        of = proposed(searched)
        assert searched.judge(of, curve(1.0)[:30]) is None
        searched.tell(failed(of))
        [trial] = stored(journal)
        assert trial.state.name == "FAIL"
        assert trial.intermediate_values
        assert run(searched, 2.9)[1] is None or scheduler != "median"

    def test_a_metric_that_is_to_rise_is_judged_that_way(self, scheduler: str, journal: Path) -> None:
        spec = spec_with(f"{{name: {scheduler}, metric: validation_accuracy}}")

        def rising(of: TrialConfig, end: float) -> list[HistoryRow]:
            return [each.model_copy(update={"metrics": {"validation_accuracy": end * each.epoch}}) for each in curve(0)]

        searched = study(spec, journal)
        for index in range(6):
            of = proposed(searched)
            assert searched.judge(of, rising(of, 0.8 + index / 100)) is None
            searched.tell(complete(of))
        ends = []
        for end in (0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.99):
            of = proposed(searched)
            ends.append(searched.judge(of, rising(of, end)))
            result = complete(of) if ends[-1] is None else pruned(of, curve(0)[: ends[-1]])
            searched.tell(result)
        assert any(end is not None for end in ends[:-1])
        assert ends[-1] is None


def pruned(of: TrialConfig, rows: list[HistoryRow]) -> TrialResult:
    return pruned_result(of, rows, started_at=1.0, ended_at=2.0)


def test_a_driver_that_died_between_decision_and_value_ends_the_trial_all_the_same(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, storage = spec_with("asha"), open_journal(journal)
    searched = Study(spec, "digits", "baseline", storage, {})
    first, _ = run(searched, 0.5)
    of = proposed(searched)

    def die(trial_id: int, step: int, value: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "set_trial_intermediate_value", die)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        searched.judge(of, curve(2.9))
    again = study(spec, journal, results=(complete(first, 0.5),))
    assert proposed(again) == of
    assert again.judge(of, curve(2.9)) == 6
    assert stored(journal)[1].intermediate_values == {100: pytest.approx(2.99)}


def test_without_a_scheduler_nothing_is_reported_and_nobody_is_stopped(journal: Path) -> None:
    searched = study(tiny_spec(), journal)
    assert [run(searched, final)[1] for final in (0.1, 2.9, 2.9)] == [None] * 3
    assert not any(trial.intermediate_values for trial in stored(journal))


def test_proposals_are_those_of_a_search_that_was_cut_under_hyperband(tmp_path: Path) -> None:
    """Optuna's sampler would see one bracket alone, and which one would depend on what was asked in this process."""
    spec = spec_with("hyperband", "search.sampler=tpe")
    whole, cut = study(spec, tmp_path / "whole"), study(spec, tmp_path / "cut")
    results: list[TrialResult] = []
    for number in range(24):
        final = 1.0 + 0.05 * (number * 7 % 13)
        one, kept = run(whole, final)
        if number in {12, 18}:
            cut = study(spec, tmp_path / "cut", results=tuple(results))
        two, kept_too = run(cut, final)
        assert one == two
        assert kept == kept_too
        results.append(complete(two, final) if kept is None else pruned(two, curve(final)[:kept]))


def test_the_median_rule_waits_for_trials_that_ran_in_full(journal: Path) -> None:
    searched = study(spec_with("{name: median, startup_trials: 3}"), journal)
    assert [run(searched, final)[1] for final in (0.5, 2.9, 2.9)] == [None] * 3
    assert run(searched, 2.95)[1] == 6


def test_a_trial_whose_loss_is_not_finite_fails_at_once_whatever_the_scheduler(journal: Path) -> None:
    """Ray's schedulers let it run its whole budget, and Optuna kept it RUNNING."""
    spec = spec_with("asha", "workloads.digits.optimizer.lr=1e30", "workloads.digits.epochs=4")
    searched = study(spec, journal)
    of = proposed(searched)
    result = run_trial(of, lambda rows: None if searched.judge(of, rows) is None else pytest.fail("it was judged"))
    searched.tell(result)
    assert result.state is TrialState.FAIL
    assert result.failure is not None
    assert result.failure.kind == "diverged"
    assert result.seeds[0].num_steps < result.seeds[0].budget_steps / 4
    assert [trial.state.name for trial in stored(journal)] == ["FAIL"]


@pytest.mark.parametrize(
    ("objective", "scheduler", "metric"),
    [
        ("{metric: validation_loss, mode: min}", "asha", "validation_loss"),
        ("{metric: steps_to_target, mode: min}", "asha", "train_loss"),
        ("{metric: seconds_to_target, mode: min}", "median", "train_loss"),
        ("{metric: validation_loss, mode: min}", "{name: asha, metric: train_loss}", "train_loss"),
    ],
)
def test_trials_are_judged_by_a_curve(objective: str, scheduler: str, metric: str) -> None:
    spec = spec_with(scheduler, f"search.objective={objective}")
    assert judged_metric(spec, "digits") == metric


class TestRungValues:
    def test_a_new_seed_does_not_make_the_value_jump(self) -> None:
        rows = [row for seed in (0, 1) for row in curve(1.0, (seed,))]
        values = rung_values(rows, 1, (0, 1), "train_loss", (480, 500, 510, 750, 1000))
        assert values[500] == pytest.approx(1.0)
        assert values[510] == pytest.approx((1.0 + 0.02 * 2.96) / 1.02)
        assert values[1000] == pytest.approx(1.0)
        assert values[480] > values[500]

    def test_configurations_with_other_epochs_compare(self) -> None:
        stretched = [each.model_copy(update={"epoch": 7 * each.epoch}) for each in curve(1.0)]
        rungs = (100, 300, 900)
        one, other = (rung_values(*run, (0,), "train_loss", rungs) for run in ((stretched, 7), (curve(1.0), 1)))
        assert one == other

    def test_a_row_that_passes_several_rungs_counts_for_each(self) -> None:
        values = rung_values(curve(1.0, num_rows=2), 1, (0,), "train_loss", (100, 300, 900))
        assert values == {100: 2.0, 300: 2.0, 900: 1.0}


class TestPrunedResult:
    def test_its_seed_is_stopped_with_what_it_had(self) -> None:
        result = pruned(config(seeds=(1,)), curve(2.0, (1,))[:-20])
        assert result.state is TrialState.PRUNED
        assert result.value is None
        assert result.failure is None
        [seed] = result.seeds
        assert (seed.seed, seed.outcome, seed.num_steps, seed.budget_steps) == (1, "stopped", 600, 1000)

    def test_what_a_seed_had_reached_by_then_is_told(self) -> None:
        of = config()  # its target is a training loss of 2.2
        reached, early = pruned(of, curve(1.0)[:30]), pruned(of, curve(1.0)[:10])
        assert reached.seeds[0].steps_to_target == 400
        assert reached.seeds[0].seconds_to_target == pytest.approx(4.0)
        assert early.seeds[0].steps_to_target is None

    def test_it_is_json_both_ways(self) -> None:
        result = pruned(config(), curve(1.0)[:30])
        assert TrialResult.model_validate_json(result.model_dump_json()) == result


def test_rungs_lie_within_the_budget() -> None:
    for name in STOPPING:
        rungs = spec_with(name).search.scheduler.rungs
        assert rungs[0] == 100
        assert list(rungs) == sorted(set(rungs))
        assert rungs[-1] < WHOLE_BUDGET


@pytest.mark.parametrize("num", [1, 2, 3, 4, 6, 9])
def test_a_candidate_loses_where_optunas_pruner_would_prune_it(num: int) -> None:
    """Without ties and zeros the two are one test; with them Optuna permutes and splits zeros."""
    drawn, options = random.Random(num), WilcoxonOptions(name="wilcoxon")
    found = []
    for _ in range(40):
        leader = [drawn.gauss(0.0, 0.2) for _ in range(9)]
        mine = [value + drawn.gauss(0.2, 0.3) for value in leader[:num]]
        with pytest.warns(optuna.exceptions.ExperimentalWarning, match="WilcoxonPruner is experimental"):
            pruner = WilcoxonPruner(p_threshold=0.13, n_startup_steps=2)
        study = optuna.create_study(pruner=pruner)
        study.add_trial(optuna.trial.create_trial(value=0.0, intermediate_values=dict(enumerate(leader))))
        trial = study.ask()
        for step, value in enumerate(mine):
            trial.report(value, step)
        found.append(loses(options, mine, leader))
        assert found[-1] == trial.should_prune()
    assert any(found) == (num > 2)
    assert not all(found)
