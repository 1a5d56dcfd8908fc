"""Arrivals, the price of tuning and performance profiles, from sweeps whose trials are known."""

from __future__ import annotations

import math

import pytest

from orchestrator.home.records import Trial
from orchestrator.report import Report, render_json, summarise
from orchestrator.report.schema import StudyReport, SweepStage
from orchestrator.report.wording import interval, interval_kind
from orchestrator.spec import spec_from_text
from tests.orchestrator.report.build import SPEC, Effects, failing, missing, running, stopped, sweep, sweep_spec

FASTER = Effects(factor={"teleport": 0.7})
WORKLOAD = SPEC[SPEC.index("  mlp_digits:\n") : SPEC.index("arms:")]
TWO_WORKLOADS = SPEC.replace("arms:", WORKLOAD.replace("mlp_digits", "mlp_again") + "arms:", 1)


def study_of(report: Report, arm: str = "teleport") -> StudyReport:
    return report.study("mlp_digits", arm)


class TestArrivals:
    def test_each_axis_has_its_curve_and_a_miss_never_arrives(self) -> None:
        def change(trial: Trial) -> Trial:
            is_gone = trial.config.phase == "confirm" and trial.config.seeds[0] in {1000, 1001}
            return missing(trial) if is_gone else trial

        found = study_of(summarise(sweep(effects=FASTER, change=change))).arrivals
        assert [curve.metric for curve in found] == [
            "steps_to_target",
            "seconds_to_target",
            "gradient_evaluations_to_target",
        ]
        assert [(curve.num_runs, round(curve.share[-1], 9)) for curve in found] == [(8, 0.75)] * 3

    def test_a_crash_is_no_run_and_a_timeout_one_that_never_arrives(self) -> None:
        def change(trial: Trial) -> Trial:
            kinds = {1000: "crashed", 1001: "timeout"} if trial.config.phase == "confirm" else {}
            kind = kinds.get(trial.config.seeds[0])
            return failing(trial, kind) if kind else trial

        curve = study_of(summarise(sweep(effects=FASTER, change=change))).arrivals[0]
        assert (curve.num_runs, len(curve.x)) == (7, 6)
        assert curve.share[-1] == pytest.approx(6 / 7)


class TestTuning:
    def test_all_of_the_trials_find_the_best_and_one_finds_the_mean(self) -> None:
        study = study_of(summarise(sweep(effects=FASTER)))
        assert study.tuning is not None
        assert [best.x for best in study.tuning.by_trials] == [1, 2, 3, 4, 5, 6]
        values = [trial.value for trial in study.search if trial.value is not None]
        assert study.tuning.by_trials[-1].mean == min(values)
        assert study.tuning.by_trials[0].mean == pytest.approx(sum(values) / 6)
        # Nothing is over before its time; after the time of them all the best is known.
        assert study.tuning.by_seconds[0].median == math.inf

    def test_every_arm_is_asked_for_as_many_trials_and_as_much_time(self) -> None:
        report = summarise(
            sweep(change=lambda t: failing(t, "lost") if t.config.arm == "teleport" and t.config.number == 0 else t)
        )
        baseline, teleport = study_of(report, "baseline").tuning, study_of(report).tuning
        assert baseline is not None
        assert teleport is not None
        assert (baseline.num_answers, teleport.num_answers) == (6, 5)
        for one, other in (
            (baseline.by_trials, teleport.by_trials),
            (baseline.by_seconds, teleport.by_seconds),
        ):
            assert [best.x for best in one] == [best.x for best in other]
        assert baseline.by_trials[-1].x == 5

    @pytest.mark.parametrize("kind", ["pruned", "diverged", "timeout"])
    def test_a_trial_that_was_spent_for_nothing_costs_a_trial(self, kind: str) -> None:
        def change(trial: Trial) -> Trial:
            if trial.config.phase != "search" or trial.config.number != 0:
                return trial
            return stopped(trial) if kind == "pruned" else failing(trial, kind)

        study = study_of(summarise(sweep(change=change)))
        assert study.tuning is not None
        assert study.tuning.num_answers == 6
        assert study.tuning.by_trials[0].mean == math.inf
        assert math.isfinite(study.tuning.by_trials[1].mean)
        assert study.search[0].seconds > 0.0

    def test_more_is_better_where_the_objective_says_so(self) -> None:
        spec = sweep_spec("search.objective={metric: validation_accuracy, mode: max}")
        tuning = study_of(summarise(sweep(spec, FASTER))).tuning
        assert tuning is not None
        means = [best.mean for best in tuning.by_trials]
        assert means == sorted(means)
        assert tuning.by_seconds[0].median == -math.inf


class TestReplacedTrials:
    def extra(self, num_crashed: int) -> Report:
        """Six answers and as many crashes more, as ``search.max_replaced`` makes them."""
        spec = sweep_spec("search.trials=8", "search.max_replaced=2")
        asked = sweep_spec("search.max_replaced=2")

        def change(trial: Trial) -> Trial | None:
            number = trial.config.number
            if number is not None and trial.config.arm == "teleport" and number < num_crashed:
                return failing(trial, "memory")
            most = 6 + (num_crashed if trial.config.arm == "teleport" else 0)
            return trial if number is None or number < most else None

        record = sweep(spec, FASTER, change=change)
        return summarise(type(record)(asked, record.provenance, record.trials))

    def test_what_is_compared_is_how_many_gave_an_answer(self) -> None:
        study = study_of(self.extra(2))
        assert (study.num_trials, study.num_crashed, study.num_answers) == (8, 2, 6)
        assert (study.num_planned, study.num_replaced, study.num_wanted) == (6, 2, 8)
        assert "unequal" not in self.extra(2).comparisons[0].reason

    def test_a_search_is_not_over_before_its_replacements(self) -> None:
        record = sweep(phases=("search",), change=lambda t: failing(t, "lost") if t.config.number == 0 else t)
        report = summarise(record)
        assert report.sweep.standing is SweepStage.SEARCH
        assert report.comparisons[0].reason == "the search of baseline is at 6 of 7 trials"


class TestProfiles:
    def test_an_arm_that_is_faster_on_every_workload_is_the_best_of_all(self) -> None:
        report = summarise(sweep(spec_from_text(TWO_WORKLOADS), FASTER))
        baseline, teleport = [p for p in report.profiles if p.metric == "steps_to_target"]
        assert (baseline.arm, teleport.arm) == ("baseline", "teleport")
        assert baseline.workloads == ("mlp_digits", "mlp_again")
        assert teleport.ratios == (1.0, 1.0)
        assert teleport.score == 1.0
        assert all(1.3 < ratio < 1.6 for ratio in baseline.ratios)
        assert (baseline.share[0], baseline.share[-1], baseline.low) == (0.0, 1.0, ())
        assert Report.model_validate_json(render_json(report)) == report

    def test_one_workload_has_no_profile_and_an_unfinished_sweep_none_yet(self) -> None:
        assert summarise(sweep(effects=FASTER)).profiles == ()
        spec = spec_from_text(TWO_WORKLOADS)
        unfinished = sweep(spec, change=lambda t: running(t) if t.config.seeds == (1007,) else t)
        assert summarise(unfinished).profiles == ()


def test_twenty_seeds_have_a_mean_with_an_interval_and_fewer_have_none() -> None:
    effect = summarise(sweep(sweep_spec("confirm.seeds=20"), FASTER)).comparisons[0].effect
    assert effect is not None
    assert effect.mean_interval is not None
    assert effect.mean is not None
    assert effect.mean == pytest.approx(0.7, abs=0.05)
    assert effect.mean_interval.low < effect.mean < effect.mean_interval.high
    fewer = summarise(sweep(sweep_spec("confirm.seeds=19"), FASTER)).comparisons[0].effect
    assert fewer is not None
    assert (fewer.mean, fewer.mean_interval) == (None, None)


def test_an_end_at_no_effect_that_is_excluded_is_open_in_words() -> None:
    comparison = summarise(sweep(effects=FASTER)).comparisons[0]
    assert comparison.interval is not None
    at_none = {"low": 0.8, "high": 1.0, "excludes_none": True}
    assert interval(comparison.model_copy(update={"interval": comparison.interval.model_copy(update=at_none)})) == (
        "[−20 %, 0 %)"
    )
    infinite = {"low": 0.8, "high": math.inf}
    assert interval(comparison.model_copy(update={"interval": comparison.interval.model_copy(update=infinite)})) == (
        "[−20 %, +∞)"
    )
    assert interval_kind(comparison) == "95 % interval"
