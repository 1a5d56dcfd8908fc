"""Verdicts on sweeps whose effects are known by construction."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

import pytest

from orchestrator.home.records import Code, SweepRecord, Trial
from orchestrator.home.target import times_to_target
from orchestrator.report import Report, Verdict, render_html, render_json, render_markdown, summarise, verdict_section
from orchestrator.report.equal_time import equal_time_of
from orchestrator.report.schema import Comparison, SweepStage
from orchestrator.report.sections.cost import price_section
from orchestrator.report.sections.search import trial_section
from orchestrator.search.candidates import Candidates
from orchestrator.search.lints import lints
from orchestrator.search.selection import champions
from orchestrator.spec import Target, spec_from_text
from orchestrator.statistics import smallest_p
from tests.orchestrator.report.build import EVERY, SPEC, Effects, failing, missing, running, stopped, sweep, sweep_spec

FASTER = Effects(factor={"teleport": 0.7})
SLOWER = Effects(factor={"teleport": 1.4})
BASELINE_ONLY = SPEC[: SPEC.index("  teleport:\n")] + SPEC[SPEC.index("search:") :]
TWO_ARMS = SPEC.replace("arms:", "arms:\n  gentle:\n    teleport: {step: {rule: growth, factor: 1.1}}", 1)


def primary(report: Report) -> Comparison:
    (comparison,) = [c for c in report.comparisons if c.is_primary]
    return comparison


def confirm_only(change: Callable[[Trial], Trial | None]) -> Callable[[Trial], Trial | None]:
    return lambda trial: change(trial) if trial.config.phase == "confirm" else trial


def in_arm(arm: str, *seeds: int) -> Callable[[Trial], bool]:
    return lambda trial: trial.config.arm == arm and (not seeds or trial.config.seeds[0] in seeds)


@pytest.mark.parametrize(
    ("effects", "verdict", "low", "high"),
    [
        (FASTER, Verdict.FASTER, 0.6, 0.8),
        (SLOWER, Verdict.SLOWER, 1.2, 1.6),
        (Effects(own_noise=0.1), Verdict.NO_DIFFERENCE, 0.85, 1.15),
    ],
)
def test_the_verdict_is_what_is_true(effects: Effects, verdict: Verdict, low: float, high: float) -> None:
    comparison = primary(summarise(sweep(effects=effects)))
    assert comparison.verdict is verdict
    assert comparison.effect is not None
    assert comparison.interval is not None
    assert low < comparison.effect.estimate < high
    assert comparison.interval.low <= comparison.effect.estimate <= comparison.interval.high
    assert comparison.num_pairs == 8


def test_no_difference_says_what_would_have_been_seen() -> None:
    report = summarise(sweep(effects=Effects(own_noise=0.1)))
    assert "these seeds would have shown a difference of" in report.answers[0].sentence
    effect = primary(report).effect
    assert effect is not None
    assert 1.0 < effect.smallest < 2.0


def test_the_answer_names_steps_and_seconds() -> None:
    sentence = summarise(sweep(effects=FASTER)).answers[0].sentence
    assert re.match(
        r"teleport is faster in steps: it takes (29|30|31) % fewer steps to a training loss of 0.1", sentence
    )
    assert "Seconds on the optimizer clock:" in sentence


def test_five_seeds_are_not_enough_and_the_verdict_says_so() -> None:
    comparison = primary(summarise(sweep(sweep_spec("confirm.seeds=5"), FASTER)))
    assert comparison.verdict is Verdict.NOT_ENOUGH_SEEDS
    assert comparison.reason == (
        "5 pairs cannot go below p = 0.0625; `teleport extend SWEEP --confirm-seeds 7` adds enough"
    )
    assert comparison.p == smallest_p(5)


def test_the_verdict_follows_holms_p_over_every_primary_comparison_of_the_spec() -> None:
    report = summarise(sweep(spec_from_text(TWO_ARMS), Effects(factor={"teleport": 0.7, "gentle": 0.7})))
    found = [c for c in report.comparisons if c.is_primary]
    assert [(c.p, c.p_adjusted) for c in found] == [(smallest_p(8), 2 * smallest_p(8))] * 2
    six = summarise(sweep(spec_from_text(TWO_ARMS.replace("seeds: 8", "seeds: 6")), FASTER))
    assert {c.verdict for c in six.comparisons if c.is_primary} == {Verdict.NOT_ENOUGH_SEEDS}


def test_a_refused_claim_is_no_test_and_does_not_count_in_the_family() -> None:
    spec = spec_from_text(TWO_ARMS, "two.yaml", ["search.max_replaced=0"])
    record = sweep(spec, FASTER, change=lambda t: failing(t, "crashed") if in_arm("gentle")(t) else t)
    gentle, teleport = [c for c in summarise(record).comparisons if c.is_primary]
    assert (gentle.verdict, gentle.p) == (Verdict.REFUSED, None)
    assert teleport.p_adjusted == smallest_p(8)


def test_a_search_of_one_candidate_that_diverged_has_its_answer_in_confirm() -> None:
    """One diverged search seed of an arm at fixed settings cancelled all its confirm runs."""

    def change(trial: Trial) -> Trial:
        hit = trial.config.phase == "search" or trial.config.seeds[0] in {1001, 1003, 1004}
        return failing(trial, "diverged") if in_arm("teleport")(trial) and hit else trial

    report = summarise(sweep(sweep_spec("search.trials=1"), FASTER, change=change))
    comparison = primary(report)
    assert (comparison.verdict, comparison.num_pairs, comparison.num_arm_misses) == (Verdict.NO_DIFFERENCE, 8, 3)
    assert "target missed on 0 of 8 seeds by the baseline and on 3 by teleport" in report.answers[0].sentence
    assert comparison.health == (
        "teleport reached its target on 5 of 8 seeds, and 3 ended with a loss that was not finite"
    )
    assert "in search" in render_html(report)


def test_a_search_of_one_candidate_that_crashed_has_nothing_to_confirm() -> None:
    spec = sweep_spec("search.trials=1", "search.max_replaced=0")
    record = sweep(spec, change=lambda t: failing(t, "crashed") if in_arm("teleport")(t) else t)
    assert primary(summarise(record)).verdict is Verdict.REFUSED


def test_a_raw_p_below_and_an_adjusted_one_above_five_percent_is_no_difference() -> None:
    # The smallest of eight differences points the other way: p = 4/256 = .016, times four primary arms .063.
    others = "".join(f"\n  g{i}: {{teleport: {{step: {{rule: growth, factor: 1.{i}}}}}}}" for i in (1, 2, 3))
    spec = spec_from_text(SPEC.replace("arms:", f"arms:{others}", 1))
    truth = Effects(factor={"teleport": 0.7}, own_noise=0.0)

    def spoil(trial: Trial) -> Trial:
        if not in_arm("teleport", 1000)(trial):
            return trial
        assert trial.result is not None
        steps = EVERY * math.ceil(Effects(own_noise=0.0).time(trial.config, 1000) / EVERY) + 1
        seed = trial.result.seeds[0].model_copy(update={"steps_to_target": steps})
        return trial.model_copy(update={"result": trial.result.model_copy(update={"seeds": (seed,)})})

    report = summarise(sweep(spec, truth, change=confirm_only(spoil)))
    (comparison,) = [c for c in report.comparisons if c.is_primary and c.arm == "teleport"]
    assert (comparison.p, comparison.p_adjusted) == (4 / 256, 16 / 256)
    assert comparison.verdict is Verdict.NO_DIFFERENCE


@pytest.mark.parametrize(("every", "is_told"), [(5, False), (20, True)])
def test_evaluations_far_apart_for_the_confirm_runs_are_told(every: int, is_told: bool) -> None:
    report = summarise(sweep(sweep_spec(f"workloads.mlp_digits.evaluate.every={every}"), FASTER))
    told = {lint.partition(":")[0] for lint in report.lints if f"is evaluated every {every} steps" in lint}
    assert told == ({"mlp_digits/baseline", "mlp_digits/teleport"} if is_told else set())


def ending(**last: float) -> Callable[[Trial], Trial]:
    """Make every run of an arm end with these metrics, and know the loss of guessing among ten classes."""

    def change(trial: Trial) -> Trial:
        assert trial.result is not None
        seed = trial.result.seeds[0]
        seed = seed.model_copy(update={"metrics": seed.metrics | last, "chance_loss": math.log(10)})
        return trial.model_copy(update={"result": trial.result.model_copy(update={"seeds": (seed,)})})

    return change


class TestHealth:
    """Quickstart's published accident: two of eight seeds ended far above the target that they had reached."""

    def report(self, change: Callable[[Trial], Trial], arm: str = "teleport", *seeds: int) -> Report:
        hit = in_arm(arm, *seeds)
        return summarise(sweep(effects=FASTER, change=confirm_only(lambda t: change(t) if hit(t) else t)))

    @pytest.mark.parametrize(
        ("last", "told"),
        [
            ({"train_loss": 1.2}, "2 had lost it at the end"),
            ({"train_loss": 2.31}, "2 ended at chance level"),
            ({"train_loss": 0.1}, ""),
        ],
        ids=["lost", "at chance", "kept"],
    )
    def test_runs_that_reached_their_target_and_lost_it_are_named_beside_the_verdict(
        self, last: dict[str, float], told: str
    ) -> None:
        report = self.report(ending(**last), "teleport", 1001, 1003)
        comparison = primary(report)
        assert comparison.verdict is Verdict.FASTER
        sentence = f"teleport reached its target on 8 of 8 seeds, and {told}"
        assert comparison.health == (sentence if told else "")
        assert (f"T{sentence[1:]}." in report.answers[0].sentence) == bool(told)
        (row,) = verdict_section(report).rows
        assert row[2] == "faster"
        short = {"2 had lost it at the end": "lost the target again", "2 ended at chance level": "end at chance"}
        assert row[5].startswith(f"teleport: 2 of 8 {short[told]}; " if told else "settings of one search")

    def test_the_baselines_are_named_too(self) -> None:
        report = self.report(ending(train_loss=1.2), "baseline", 1001)
        assert primary(report).health == "the baseline reached its target on 8 of 8 seeds, and 1 had lost it at the end"

    def test_a_miss_at_chance_level_and_a_divergence_are_told_apart(self) -> None:
        def change(trial: Trial) -> Trial:
            if trial.config.seeds[0] == 1001:
                return failing(trial, "diverged", after=395)
            return ending(train_loss=2.3)(missing(trial))

        assert primary(self.report(change, "teleport", 1001, 1002)).health == (
            "teleport reached its target on 6 of 8 seeds, and 1 ended at chance level, 1 ended with a loss that was "
            "not finite"
        )

    def test_a_plain_miss_is_no_lapse(self) -> None:
        assert primary(self.report(missing, "teleport", 1001)).health == ""


def test_a_divergence_is_a_miss_even_after_the_target_was_reached() -> None:
    hit = in_arm("teleport", 1001)
    record = sweep(effects=FASTER, change=confirm_only(lambda t: failing(t, "diverged", after=395) if hit(t) else t))
    report = summarise(record)
    comparison = primary(report)
    assert (comparison.num_pairs, comparison.num_arm_misses, comparison.missing_seeds) == (8, 1, ())
    assert next(pair.arm for pair in comparison.pairs if pair.seed == 1001) == math.inf
    best = report.study("mlp_digits", "teleport").best
    assert best is not None
    run = next(run for run in best.confirm if run.seed == 1001)
    assert (run.outcome, run.steps_to_target, run.seconds_to_target) == ("diverged", None, None)
    worst = {c.metric: next(p.arm for p in c.pairs if p.seed == 1001) for c in report.comparisons}
    assert (worst["train_loss"], worst["test_accuracy"]) == (math.inf, -math.inf)
    assert "mlp_digits/teleport: 1 confirm runs diverged; each counts as a miss" in report.lints


@pytest.mark.parametrize("kind", ["crashed", "lost"])
def test_a_crash_is_a_missing_pair_and_is_named(kind: str) -> None:
    hit = in_arm("baseline", 1002)
    record = sweep(effects=FASTER, change=confirm_only(lambda t: failing(t, kind) if hit(t) else t))
    report = summarise(record)
    comparison = primary(report)
    assert (comparison.num_pairs, comparison.missing_seeds, comparison.num_baseline_misses) == (7, (1002,), 0)
    assert comparison.verdict is Verdict.FASTER
    assert "crashed or lost" in comparison.reason
    assert [failure.kind for failure in report.failures] == [kind]


def test_an_arm_that_always_misses_is_slower_with_an_open_interval() -> None:
    record = sweep(change=confirm_only(lambda t: missing(t) if in_arm("teleport")(t) else t))
    comparison = primary(summarise(record))
    assert comparison.verdict is Verdict.SLOWER
    assert comparison.interval is not None
    assert comparison.effect is not None
    assert (comparison.interval.high, comparison.effect.arm_median) == (math.inf, math.inf)
    assert comparison.interval.low > 1.0


def test_where_both_always_miss_nothing_is_claimed() -> None:
    comparison = primary(summarise(sweep(change=confirm_only(missing))))
    assert (comparison.verdict, comparison.num_ties) == (Verdict.NO_DIFFERENCE, 8)
    assert (comparison.effect, comparison.interval, comparison.p) == (None, None, None)
    assert comparison.reason == "neither arm reached the target on any of 8 seeds"


def test_unequal_tuning_is_refused() -> None:
    record = sweep(
        change=lambda t: failing(t, "lost") if t.config.arm == "teleport" and t.config.number in {0, 1} else t
    )
    comparison = primary(summarise(record))
    assert comparison.verdict is Verdict.REFUSED
    assert comparison.reason == "unequal tuning budgets: search trials that gave an answer: baseline 6, teleport 4"
    assert (comparison.p, comparison.effect) == (None, None)


def test_a_configuration_that_diverged_was_tuned_all_the_same() -> None:
    record = sweep(change=lambda t: failing(t, "diverged") if t.config.number == 0 and in_arm("teleport")(t) else t)
    assert primary(summarise(record)).verdict is not Verdict.REFUSED


def test_unequal_training_budgets_are_refused() -> None:
    def longer(trial: Trial) -> Trial:
        assert trial.result is not None
        seeds = tuple(seed.model_copy(update={"budget_steps": 800}) for seed in trial.result.seeds)
        return trial.model_copy(update={"result": trial.result.model_copy(update={"seeds": seeds})})

    comparison = primary(summarise(sweep(change=confirm_only(lambda t: longer(t) if in_arm("teleport")(t) else t))))
    assert comparison.verdict is Verdict.REFUSED
    assert comparison.reason == "unequal training budgets: steps of a confirm run: baseline 400, teleport 800"


def test_among_several_candidates_confirm_does_not_choose() -> None:
    spec = sweep_spec("confirm.top_k=2")
    first = {trials[0].trial_id for trials in champions(Candidates.of(sweep(spec))).values()}
    record = sweep(spec, FASTER, change=confirm_only(lambda t: missing(t) if t.config.origin in first else t))
    report = summarise(record)
    study = report.study("mlp_digits", "teleport")
    assert [candidate.rank for candidate in study.candidates] == [1, 2]
    assert study.best == study.candidates[0]
    assert len(study.candidates[1].confirm) == 8
    assert primary(report).num_arm_misses == 8


def test_a_stopped_trial_is_counted_shown_and_never_chosen() -> None:
    def change(trial: Trial) -> Trial:
        is_even = trial.config.phase == "search" and (trial.config.number or 0) % 2 == 0
        return stopped(trial) if is_even else trial

    record = sweep(effects=FASTER, change=change)
    report = summarise(record)
    study = report.study("mlp_digits", "teleport")
    assert (study.num_trials, study.num_pruned, study.num_complete) == (6, 3, 3)
    assert study.best is not None
    assert (study.best.number or 0) % 2 == 1
    assert not any("feasible" in lint for lint in report.lints)
    assert primary(report).verdict is Verdict.FASTER
    cut = [trial for trial in study.search if trial.state == "PRUNED"]
    assert [(trial.value, trial.steps_to_target, trial.share) for trial in cut] == [(None, None, 0.625)] * 3
    rows = trial_section(report, study).rows
    assert [row[1] for row in rows][3:] == ["PRUNED at 62 %"] * 3


def test_a_candidate_that_still_runs_keeps_confirm_open() -> None:
    spec = sweep_spec("confirm={top_k: 2, seeds: 8}")
    second = {trials[1].trial_id for trials in champions(Candidates.of(sweep(spec))).values()}

    def change(trial: Trial) -> Trial | None:
        return None if trial.config.origin in second and trial.config.seeds[0] >= spec.confirm_seeds[5] else trial

    assert summarise(sweep(spec, FASTER, change=change)).sweep.standing is SweepStage.CONFIRM
    assert summarise(sweep(spec, FASTER)).sweep.standing is SweepStage.FINISHED


def test_while_confirm_runs_there_is_an_effect_but_no_p() -> None:
    record = sweep(effects=FASTER, change=confirm_only(lambda t: running(t) if t.config.seeds[0] > 1005 else t))
    report = summarise(record)
    comparison = primary(report)
    assert report.sweep.standing is SweepStage.CONFIRM
    assert (comparison.verdict, comparison.p) == (Verdict.PENDING, None)
    assert comparison.reason == "confirm is running: 6 of 8 pairs are there"
    assert comparison.effect is not None


EARLY = "the wall-clock budget of 2h is used up: 24 of 28 trials ended"


def test_a_confirm_phase_that_a_budget_ended_is_judged_by_the_pairs_it_has() -> None:
    record = sweep(effects=FASTER, change=confirm_only(lambda t: running(t) if t.config.seeds[0] > 1005 else t))
    report = summarise(dataclasses.replace(record, ended_early=EARLY))
    comparison = primary(report)
    assert (report.sweep.standing, report.sweep.ended_early) == (SweepStage.ENDED_EARLY, EARLY)
    assert (comparison.verdict, comparison.num_pairs, comparison.missing_seeds) == (Verdict.FASTER, 6, ())
    assert comparison.reason == "the sweep ended early: 6 of 8 pairs are there"
    assert any(EARLY in lint and "is a second look" in lint for lint in report.lints)
    for page in (render_html(report), render_markdown(report)):
        assert EARLY in page


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        (confirm_only(lambda trial: None), "confirm has not run yet"),
        (confirm_only(running), "confirm has not run yet"),
        (
            lambda t: running(t) if t.config.arm == "baseline" and (t.config.number or 0) > 3 else t,
            "the search of baseline is at 4 of 6 trials",
        ),
        (confirm_only(lambda t: t if in_arm("baseline")(t) else None), "confirm has not run yet"),
        (confirm_only(lambda t: t if in_arm("baseline", 1000)(t) or in_arm("teleport", 1001)(t) else None), "0 of 8"),
    ],
    ids=["no confirm", "cut off", "search", "one arm", "no pair"],
)
def test_what_a_budget_left_no_time_for_is_not_enough_seeds_and_no_crash(
    change: Callable[[Trial], Trial | None], lacking: str
) -> None:
    phases = ("search",) if "search" in lacking else ("search", "confirm")
    report = summarise(dataclasses.replace(sweep(change=change, phases=phases), ended_early=EARLY))
    comparison = primary(report)
    assert comparison.verdict is Verdict.NOT_ENOUGH_SEEDS
    assert comparison.reason.startswith(f"the sweep ended early: {lacking}")
    assert report.answers[0].sentence.startswith("Not enough seeds to say whether teleport reaches")
    assert report.failures == ()
    assert not any("crashed" in lint for lint in report.lints)


def test_a_trial_over_its_budget_is_an_answer_in_search_and_a_miss_in_confirm() -> None:
    def slow(trial: Trial) -> Trial:
        is_slow = trial.config.number in {0, 1} or in_arm("teleport", 1001)(trial)
        return failing(trial, "timeout") if trial.config.arm == "teleport" and is_slow else trial

    report = summarise(sweep(effects=FASTER, change=slow))
    study, comparison = report.study("mlp_digits", "teleport"), primary(report)
    assert (study.num_timeout, study.num_crashed, study.num_diverged) == (2, 0, 0)
    assert (comparison.num_pairs, comparison.num_arm_misses, comparison.missing_seeds) == (8, 1, ())
    assert next(pair.arm for pair in comparison.pairs if pair.seed == 1001) == math.inf
    assert "mlp_digits/teleport: 1 confirm runs were over budget.per_trial; each counts as a miss" in report.lints
    assert any("2 of 6 search trials were over budget.per_trial" in lint for lint in report.lints)
    assert "2 timed out" in render_html(report)


def test_hooks_are_no_part_of_a_report_since_an_address_may_be_a_secret() -> None:
    report = summarise(sweep(sweep_spec("hooks.sweep_finished.webhook=https://host/hunter2")))
    assert "hunter2" not in render_json(report)
    assert "hunter2" not in render_html(report)


def test_a_sweep_whose_ids_were_made_by_an_older_catalogue_keeps_what_belongs_together() -> None:
    def older(trial: Trial) -> Trial:
        assert trial.result is not None
        origin = trial.config.origin
        config = trial.config.model_copy(update={"origin": origin and f"old-{origin}"})
        result = trial.result.model_copy(update={"trial_id": f"old-{trial.result.trial_id}"})
        return trial.model_copy(update={"config": config, "result": result})

    now = sweep(effects=FASTER)
    then = SweepRecord(now.spec, now.provenance, tuple(map(older, now.trials)))
    report = summarise(then)
    assert primary(report).verdict is Verdict.FASTER
    best = report.study("mlp_digits", "teleport").best
    assert best is not None
    assert best.trial_id.startswith("old-")
    assert f"search trial {best.trial_id}" in best.yaml


NO_REPLACEMENT = sweep_spec("search.max_replaced=0")
TWO_WORKLOADS = SPEC.replace("  mlp_digits:", "  first: &digits").replace("arms:", "  other: *digits\narms:", 1)
SEARCHED_TWICE = sweep_spec(
    "arms.teleport.teleport={tau: {choice: [1.0, 0.99]}, step: {rule: growth, factor: 2.0}}",
    "search={trials: 1, replicates: 2}",
    "confirm={seeds: 3}",
    text=TWO_WORKLOADS,
)


@pytest.mark.parametrize("order", [("first", "other"), ("other", "first")])
def test_a_sweep_has_ended_also_where_two_searches_agree_on_one_workload_alone(order: tuple[str, str]) -> None:
    record = sweep(SEARCHED_TWICE)
    workloads = {label: record.spec.workloads[label] for label in order}
    report = summarise(dataclasses.replace(record, spec=record.spec.model_copy(update={"workloads": workloads})))
    assert {len(report.study(label, "teleport").candidates) for label in order} == {1, 2}
    assert report.sweep.standing is SweepStage.FINISHED


def test_an_answer_says_whether_it_is_about_one_searchs_settings_or_about_the_method() -> None:
    about_settings = "This is about the settings that one search found, not about the method"
    assert about_settings in summarise(sweep(effects=FASTER)).answers[0].sentence
    sentence = summarise(sweep(SEARCHED_TWICE, FASTER)).answers[0].sentence
    assert about_settings not in sentence
    assert "and 2 independent searches" in sentence


UNFINISHED = [
    (sweep(phases=()), SweepStage.SEARCH, "no verdict yet, the search of baseline is at 0 of 6 trials"),
    (sweep(phases=("search",)), SweepStage.NOT_CONFIRMED, "no verdict yet, confirm has not run yet"),
    (
        sweep(NO_REPLACEMENT, change=lambda t: failing(t, "crashed")),
        SweepStage.FINISHED,
        "no search trial of baseline ended well",
    ),
    (sweep(spec_from_text(BASELINE_ONLY)), SweepStage.FINISHED, "Only the baseline is in this sweep"),
]


@pytest.mark.parametrize(("record", "standing", "words"), UNFINISHED)
def test_it_says_what_is_lacking(record: SweepRecord, standing: SweepStage, words: str) -> None:
    report = summarise(record)
    assert report.sweep.standing is standing
    assert words in report.answers[0].sentence
    section = verdict_section(report)
    assert all(len(row) == len(section.header) for row in section.rows)


@pytest.mark.parametrize("record", [record for record, *_ in UNFINISHED] + [sweep(change=confirm_only(missing))])
def test_the_json_reads_back_to_the_same_report(record: SweepRecord) -> None:
    report = summarise(record)
    assert Report.model_validate_json(render_json(report)) == report


def test_exploratory_comparisons_are_marked_and_carry_no_adjusted_p() -> None:
    others = [c for c in summarise(sweep(effects=FASTER)).comparisons if not c.is_primary]
    assert {c.metric for c in others} == {
        "seconds_to_target",
        "gradient_evaluations_to_target",
        "train_loss",
        "validation_accuracy",
        "test_accuracy",
    }
    assert all(c.p_adjusted is None and c.p is not None for c in others)


def test_losses_are_better_when_lower_and_accuracies_when_higher() -> None:
    found = {c.metric: c.verdict for c in summarise(sweep(effects=FASTER)).comparisons}
    assert (found["train_loss"], found["validation_accuracy"]) == (Verdict.BETTER, Verdict.BETTER)
    found = {c.metric: c.verdict for c in summarise(sweep(effects=SLOWER)).comparisons}
    assert (found["train_loss"], found["validation_accuracy"]) == (Verdict.WORSE, Verdict.WORSE)


def test_a_band_does_not_improve_by_losing_its_worst_runs() -> None:
    gone = in_arm("teleport", *range(1000, 1005))
    record = sweep(change=confirm_only(lambda t: failing(t, "diverged", after=100) if gone(t) else t))
    study = summarise(record).study("mlp_digits", "teleport")
    band = next(b for b in study.bands if (b.metric, b.axis) == ("train_loss", "step"))
    after = [median for x, median in zip(band.x, band.median, strict=True) if x > 100]
    assert after
    assert set(after) == {None}


def test_curves_are_thinned_and_keep_both_ends() -> None:
    def long(trial: Trial) -> Trial:
        rows = tuple(trial.history[0].model_copy(update={"step": i, "seconds": float(i)}) for i in range(1_001))
        return trial.model_copy(update={"history": rows})

    study = summarise(sweep(change=confirm_only(long))).study("mlp_digits", "baseline")
    assert all(len(curve.step) <= 200 and (curve.step[0], curve.step[-1]) == (0, 1_000) for curve in study.curves)


def objections(record: SweepRecord) -> tuple[str, ...]:
    """What the report objects to beside the lints of the search, which come first."""
    of_search, told = lints(Candidates.of(record)), summarise(record).lints
    assert told[: len(of_search)] == tuple(of_search)
    return told[len(of_search) :]


def test_different_devices_and_uncommitted_changes_are_objected_to() -> None:
    def elsewhere(trial: Trial) -> Trial:
        assert trial.result is not None
        assert trial.result.machine is not None
        machine = trial.result.machine.model_copy(update={"device": "NVIDIA H100"})
        return trial.model_copy(update={"result": trial.result.model_copy(update={"machine": machine})})

    record = sweep(change=confirm_only(lambda t: elsewhere(t) if in_arm("teleport")(t) else t))
    dirty = SweepRecord(
        record.spec,
        record.provenance.model_copy(update={"codes": (Code(commit="0123", changes="4567", source="89ab"),)}),
        record.trials,
    )
    found = " ".join(objections(dirty))
    assert "different devices" in found
    assert "uncommitted changes" in found
    assert not objections(sweep())


def test_the_price_sums_up_what_teleports_did() -> None:
    study = summarise(sweep()).study("mlp_digits", "teleport")
    assert study.price is not None
    assert study.price.outcomes == {"moved": 304, "no null space": 16}
    assert study.price.gain == pytest.approx(1.9)
    assert 0.0 < study.price.teleport_share < 1.0
    assert [layer.moved for layer in study.price.layers] == [0, 304, 320]


WITH_CONTROLS = SPEC.replace(
    "arms:", "arms:\n  init: {init_scaled: {factor: {uniform: [1, 2]}}}\n  random: {random_move: {of: teleport}}", 1
)


def test_a_gain_without_any_control_is_objected_to() -> None:
    (told,) = objections(sweep(effects=FASTER))
    assert told.startswith("mlp_digits/teleport: faster than the baseline, and no control is in this sweep")
    assert not objections(sweep(effects=SLOWER))
    assert not objections(sweep(spec_from_text(WITH_CONTROLS), FASTER))


def test_a_teleport_arm_is_compared_with_its_controls_and_the_verdict_is_no_claim() -> None:
    report = summarise(sweep(spec_from_text(WITH_CONTROLS), Effects(factor={"teleport": 0.7, "init": 0.7})))
    found = {c.against: c for c in report.comparisons if c.metric == "steps_to_target" and c.arm == "teleport"}
    assert found.keys() == {"baseline", "init", "random"}
    assert {against: c.verdict for against, c in found.items()} == {
        "baseline": Verdict.FASTER,
        "init": Verdict.NO_DIFFERENCE,
        "random": Verdict.FASTER,
    }
    assert [c.is_primary for c in found.values()] == [True, False, False]
    assert found["random"].p_adjusted is None
    assert found["baseline"].p_adjusted == found["baseline"].p
    assert {c.against for c in report.comparisons if c.arm == "init"} == {"baseline"}
    rows = verdict_section(report).rows
    assert [row[1] for row in rows] == ["teleport", "init", "random"]
    assert [row[8].endswith(" raw") for row in rows] == [False, True, True], "only a claim's p is adjusted"


def test_the_baselines_curve_is_read_at_the_second_at_which_an_arm_arrived() -> None:
    record = sweep(effects=Effects(factor={"teleport": 0.1}))
    report = summarise(record)
    assert report.study("mlp_digits", "baseline").equal_time is None
    teleport = report.study("mlp_digits", "teleport")
    found, best = teleport.equal_time, teleport.best
    assert found is not None
    assert best is not None
    assert (found.metric, found.target, found.num_seeds) == ("train_loss", 0.1, 8)
    seconds = {run.seed: run.seconds_to_target for run in best.confirm}
    values = []
    for trial in record.trials:
        if trial.config.phase == "confirm" and trial.config.arm == "baseline":
            until = seconds[trial.config.seeds[0]]
            assert until is not None
            values.append([row.metrics["train_loss"] for row in trial.history if row.seconds <= until][-1])
    assert found.baseline == pytest.approx(sorted(values)[3], rel=0.2)
    assert min(values) <= found.baseline <= max(values)
    assert found.baseline > found.target


def test_an_arm_with_the_baselines_own_curve_finds_the_baseline_at_the_target() -> None:
    """Arm and baseline are read alike between evaluations: else every arm would seem to come first."""
    record = sweep(sweep_spec("workloads.mlp_digits.evaluate.every=5"))
    baseline = summarise(record).study("mlp_digits", "baseline")
    assert baseline.best is not None
    runs = {trial.trial_id: trial for trial in record.trials}
    confirm = tuple(
        run.model_copy(update=times_to_target(trial.config.training.target, trial.history))
        for run in baseline.best.confirm
        for trial in [runs[run.trial_id]]
    )
    twin = baseline.model_copy(update={"arm": "twin", "best": baseline.best.model_copy(update={"confirm": confirm})})
    equal = equal_time_of(twin, baseline, Target(metric="train_loss", value=0.1))
    assert equal is not None
    assert equal.baseline == pytest.approx(0.1, rel=1e-6)


def test_a_baseline_that_diverged_by_then_is_worse_than_any() -> None:
    gone = in_arm("baseline")
    record = sweep(effects=FASTER, change=confirm_only(lambda t: failing(t, "diverged", after=20) if gone(t) else t))
    equal = summarise(record).study("mlp_digits", "teleport").equal_time
    assert equal is not None
    assert equal.baseline == math.inf


def test_the_drift_on_probes_stands_beside_that_on_the_batches() -> None:
    def probed(trial: Trial) -> Trial:
        assert trial.result is not None
        seeds = tuple(
            seed.model_copy(update={"teleports": seed.teleports.model_copy(update={"max_probe_drift": 0.25})})
            for seed in trial.result.seeds
            if seed.teleports is not None
        )
        return trial.model_copy(update={"result": trial.result.model_copy(update={"seeds": seeds})}) if seeds else trial

    assert [row[9] for row in price_section(summarise(sweep(change=probed))).rows] == ["–", "3.00e-07 (probe 0.250)"]
    assert [row[9] for row in price_section(summarise(sweep())).rows] == ["–", "3.00e-07"]


def still(outcome: str) -> Callable[[Trial], Trial]:
    """No teleport moves a weight; all end in one way."""

    def change(trial: Trial) -> Trial:
        assert trial.result is not None
        seeds = []
        for seed in trial.result.seeds:
            if seed.teleports is not None:
                layers = tuple(layer.model_copy(update={"moved": 0}) for layer in seed.teleports.layers)
                update = {"layers": layers, "outcomes": {outcome: seed.teleports.count}, "mean_gain": None}
                seed = seed.model_copy(update={"teleports": seed.teleports.model_copy(update=update)})
            seeds.append(seed)
        return trial.model_copy(update={"result": trial.result.model_copy(update={"seeds": tuple(seeds)})})

    return change


def test_an_arm_that_never_moved_is_told_to_be_the_baseline() -> None:
    record = sweep(change=still("no null space"))
    price = summarise(record).study("mlp_digits", "teleport").price
    assert price is not None
    assert objections(record) == (
        f"mlp_digits/teleport: none of its {price.num_teleports:,} teleports moved a weight (no null space "
        f"{price.num_teleports:,}): it is the baseline with the teleports' cost",
    )


def test_an_arm_that_measures_and_puts_back_is_meant_not_to_move() -> None:
    assert not objections(sweep(change=still("put back")))
