"""Sweeps that leave out a phase: confirm alone, and a plain search."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.show import print_headline, print_plan
from orchestrator.errors import Interrupted, SpecError
from orchestrator.home.reading import read_record
from orchestrator.report import Verdict, best_spec, render_html, render_markdown
from orchestrator.report.sections import page_sections, sections
from orchestrator.spec import SweepSpec, spec_from_text
from orchestrator.sweep.plan import Pace, make_plan
from orchestrator.sweep.standing import standing
from tests.orchestrator.specs import TINY
from tests.orchestrator.sweep.test_run import Cut, Simulated, go

CONFIRM = next(line for line in TINY.splitlines() if line.startswith("confirm:"))
FIXED = """
version: 1
name: fixed
workloads:
  digits:
    model: {name: mlp, widths: [16]}
    data: {name: digits, batch_size: 128}
    optimizer: {name: sgd, lr: 0.1}
    epochs: 1
    evaluate: {every: 2}
    target: {metric: train_loss, value: 2.2}
arms:
  random: {random_move: {}}
  teleport: {teleport: {step: {rule: growth, factor: 1.5}, schedule: {epochs: 1, batches: 2, steps: 1}}}
confirm: {seeds: 6}
"""


@pytest.fixture
def plain() -> SweepSpec:
    """The tiny spec without its confirm phase."""
    return spec_from_text(TINY.replace(CONFIRM, ""))


def printed(show: Callable[..., None], *arguments: object) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as file:
        show(*arguments)
    return file.getvalue()


class TestWithoutSearch:
    def test_a_spec_without_search_whose_values_are_fixed_has_no_search_trials(self) -> None:
        spec = spec_from_text(FIXED)
        assert spec.search.trials == 0
        assert spec_from_text(spec.to_yaml()) == spec
        plan = make_plan(spec, lambda workload, arm: Pace(1.0))
        assert [(study.num_search, study.num_confirm) for study in plan.studies] == [(0, 6)] * 3
        assert plan.seconds == pytest.approx(3 * 6 * 9 / plan.num_concurrent_confirm)
        assert not [lint for lint in plan.lints if "at random" in lint or "the search improves" in lint]
        assert "nothing is searched" in printed(print_plan, plan)

    @pytest.mark.parametrize(
        ("text", "trials"),
        [
            (FIXED.replace("lr: 0.1", "lr: {loguniform: [0.01, 0.5]}"), 16),
            (FIXED.replace("confirm: {seeds: 6}", ""), 16),
            (FIXED.replace("confirm:", "search: {seed: 1}\nconfirm:"), 16),
        ],
        ids=["a value is drawn", "no confirm either", "search is written"],
    )
    def test_any_other_spec_searches(self, text: str, trials: int) -> None:
        assert spec_from_text(text).search.trials == trials

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                TINY.replace("trials: 3", "trials: 0"),
                r"every value must be fixed, but some are drawn \(digits: optimizer.lr, teleport: teleport.tau, .*\); "
                "fix them, or give the search at least 1 trial",
            ),
            (
                FIXED.replace("confirm: {seeds: 6}", "search: {trials: 0}"),
                "search.trials is 0 and no seeds are confirmed, so nothing would run; write confirm: {}",
            ),
            (TINY.replace("trials: 3", "trials: -1"), "search.trials: must be greater than or equal to 0, is -1"),
        ],
        ids=["drawn", "nothing", "negative"],
    )
    def test_a_search_without_trials_that_cannot_be_is_told(self, text: str, message: str) -> None:
        with pytest.raises(SpecError, match=message):
            spec_from_text(text)

    def test_it_runs_confirm_alone_and_makes_its_claim(self, tmp_path: Path) -> None:
        """A control takes the settings that the spec gives its teleport arm."""
        outcome = go(spec_from_text(FIXED), tmp_path)
        assert outcome.failures == ()
        record = read_record(outcome.paths)
        assert {trial.config.phase for trial in record.trials} == {"confirm"}
        assert len(record.trials) == 3 * 6
        control = next(trial.config.method for trial in record.trials if trial.config.arm == "random")
        assert control.random_move is not None
        assert control.random_move.teleport == record.spec.example_of("teleport").teleport
        [claim] = [comparison for comparison in outcome.report.comparisons if comparison.is_primary]
        assert (claim.num_pairs, claim.verdict in {Verdict.REFUSED, Verdict.PENDING}) == (6, False)
        progress = standing(outcome.paths).progress
        assert [(study.phase, study.num_done) for study in progress.studies] == [("confirm", 6)] * 3
        page = render_html(outcome.report)
        assert 'id="search"' not in page
        assert "as the spec has it; nothing was searched" in page
        again = spec_from_text(best_spec(record, "digits", "teleport"))
        assert (again.search.trials, len(again.confirm_seeds)) == (0, 6)

    def test_one_that_was_cut_off_goes_on_and_repeats_nothing(self, tmp_path: Path) -> None:
        spec = spec_from_text(FIXED)
        with pytest.raises(Interrupted, match="was interrupted"):
            go(spec, tmp_path, Cut(after=5))
        outcome = go(spec, tmp_path)
        assert len(read_record(outcome.paths).trials) == 3 * 6

    def test_settings_that_diverge_on_every_seed_have_that_as_their_answer(self, tmp_path: Path) -> None:
        outcome = go(spec_from_text(FIXED), tmp_path, Simulated(crash_every=1, kind="diverged"))
        [claim] = [comparison for comparison in outcome.report.comparisons if comparison.is_primary]
        assert (claim.num_pairs, claim.num_arm_misses, claim.num_baseline_misses) == (6, 6, 6)


class TestWithoutConfirm:
    def test_nothing_is_confirmed_and_the_plan_says_that_no_claim_is_made(self, plain: SweepSpec) -> None:
        assert plain.confirm_seeds == ()
        assert spec_from_text(plain.to_yaml()) == plain
        plan = make_plan(plain)
        assert [(study.num_search, study.num_confirm) for study in plan.studies] == [(3, 0)] * 2
        assert plan.power[0] == "the spec has no confirm phase, so it is a plain search and makes no claim"

    def test_an_empty_confirm_is_the_phase_at_its_defaults(self, plain: SweepSpec) -> None:
        written = spec_from_text(TINY.replace(CONFIRM, "confirm: {}"))
        assert len(written.confirm_seeds) == 8
        assert written.identity != plain.identity

    def test_a_budget_below_the_search_leaves_the_search_incomplete(self) -> None:
        plan = make_plan(spec_from_text(TINY.replace(CONFIRM, "budget: {trials: 4}")))
        assert (
            "budget.trials is 4 and the spec plans 6 search and 0 confirm trials, so the search will not be complete"
            in plan.warnings
        )

    def test_it_is_a_plain_search_that_says_so_without_empty_tables(self, plain: SweepSpec, tmp_path: Path) -> None:
        outcome = go(plain, tmp_path, Simulated())
        assert outcome.failures == ()
        report = outcome.report
        assert report.comparisons == ()
        assert {trial.config.phase for trial in read_record(outcome.paths).trials} == {"search"}
        [answer] = report.answers
        assert answer.sentence.startswith("This sweep is a plain search without a confirm phase, so it makes no claim")
        assert str(report.sweep.standing) == "finished"
        assert all(section.rows for section in [*page_sections(report), *sections(report)])
        assert printed(print_headline, report).startswith("No claim: this sweep only searches, and what it found was")
        page = render_html(report)
        assert not [part for part in ("curves", "cost", "verdicts") if f'id="{part}"' in page]
        assert 'id="search"' in page
        assert "confirm seeds" not in page
        assert "No curves yet" not in page
        assert "Best configuration" in render_markdown(report)
        assert all(study.phase == "search" for study in standing(outcome.paths).progress.studies)


def test_a_baseline_alone_is_a_plain_hyperparameter_search(tmp_path: Path) -> None:
    start, end = TINY.index("  teleport:\n"), TINY.index("search:")
    spec = spec_from_text((TINY[:start] + TINY[end:]).replace("arms:\n", ""))
    outcome = go(spec, tmp_path, Simulated())
    assert outcome.report.comparisons == ()
    [answer] = outcome.report.answers
    assert answer.sentence == (
        "Only the baseline is in this sweep: nothing is compared. Its best configuration reached a training loss of "
        "2.2 on 2 of 2 confirm seeds, after a median of 4 steps."
    )
    assert all(section.rows for section in [*page_sections(outcome.report), *sections(outcome.report)])
    assert printed(print_headline, outcome.report).startswith("Only the baseline is in this sweep, so nothing is")
