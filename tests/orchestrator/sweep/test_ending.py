"""What makes a sweep count as failed, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.home.records import SweepOutcome, Trial
from orchestrator.sweep.standing import end_of, in_words
from tests.orchestrator.report.build import failing, running, sweep

EARLY = "the trials budget of 9 is used up: 9 of 28 trials ended"


def test_a_sweep_that_went_well_finished() -> None:
    assert in_words(end_of(sweep())) == "finished"


@pytest.mark.parametrize("kind", ["diverged", "timeout"])
def test_what_diverged_or_took_too_long_is_an_answer(kind: str) -> None:
    record = sweep(change=lambda trial: failing(trial, kind) if trial.config.number in {0, 1} else trial)
    assert end_of(record).failures == ()


@pytest.mark.parametrize("kind", ["crashed", "lost"])
def test_what_crashed_or_was_lost_is_a_failure(kind: str) -> None:
    record = sweep(change=lambda trial: failing(trial, kind) if trial.config.number in {0, 1} else trial)
    assert end_of(record).failures == ("4 of 12 search trials crashed",)


def test_a_study_that_a_budget_left_without_a_trial_is_no_failure() -> None:
    record = replace(sweep(change=lambda t: t if t.config.arm == "baseline" else None, phases=("search",)))
    assert end_of(record).failures == ("mlp_digits/teleport has no trial that ended well",)
    end = end_of(replace(record, ended_early=EARLY))
    assert end == SweepOutcome(status="FINISHED", ended_early=EARLY)
    assert in_words(end) == "ended early"


def test_a_search_that_ended_without_any_good_trial_is_one_also_where_a_budget_ended_the_sweep() -> None:
    def spoiled(trial: Trial) -> Trial:
        return failing(trial, "diverged") if trial.config.arm == "teleport" else trial

    end = end_of(replace(sweep(change=spoiled, phases=("search",)), ended_early=EARLY))
    assert end.failures == ("mlp_digits/teleport has no trial that ended well",)
    assert in_words(end) == "failed"


def test_trials_that_were_cut_off_have_not_crashed() -> None:
    record = sweep(change=lambda trial: running(trial) if trial.config.phase == "confirm" else trial)
    assert end_of(replace(record, ended_early=EARLY)).failures == ()
