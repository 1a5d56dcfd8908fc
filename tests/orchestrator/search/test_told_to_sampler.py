"""What a sampler hears of results, and that it learns to avoid what diverges."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from orchestrator.home.records import TrialConfig, TrialResult, TrialState
from orchestrator.search.journal import DIVERGENCE, CandidateOutcome, Ending, open_journal, told_to_sampler
from orchestrator.search.study import Study
from orchestrator.spec import SweepSpec
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import complete, config, failed

STATES = optuna.trial.TrialState


def ending(outcome: CandidateOutcome, *overrides: str, worst: tuple[float, ...] | None = None) -> Ending:
    return told_to_sampler(outcome, tiny_spec(*overrides).search, worst)


CONSTRAINT = "search.divergence=constraint"


def fail(result: TrialResult) -> CandidateOutcome:
    return CandidateOutcome(TrialState.FAIL, failed=result)


def diverged(of: TrialConfig, num_steps: int) -> TrialResult:
    seed = complete(of).seeds[0].model_copy(update={"outcome": "diverged", "num_steps": num_steps})
    return failed(of).model_copy(update={"seeds": (seed,)})


def test_a_failure_is_told_without_a_value() -> None:
    for kind in ("diverged", "crashed", "lost"):
        assert ending(fail(failed(config(), kind))).state is STATES.FAIL
    assert ending(CandidateOutcome(TrialState.COMPLETE, (0.5,))).violation is None


def test_as_a_constraint_divergence_is_complete_at_the_worst_values_so_far() -> None:
    two = (CONSTRAINT, "search.also=[{metric: validation_accuracy}]")
    assert ending(fail(failed(config())), *two).values == (0.0, 0.0)
    told = ending(CandidateOutcome(TrialState.COMPLETE, (0.5, 0.9)), *two)
    assert (told.values, told.violation) == ((0.5, 0.9), -1.0)
    told = ending(fail(diverged(config(), 1)), *two, worst=(0.7, 0.8))
    assert (told.state, told.values) == (STATES.COMPLETE, (0.7, 0.8))


def test_the_worst_so_far_is_kept_for_each_objective(tmp_path: Path) -> None:
    spec = tiny_spec(
        CONSTRAINT, "search.also=[{metric: validation_accuracy}]", "search.trials=4", "search.sampler=nsga2"
    )
    study = Study(spec, "digits", "baseline", open_journal(tmp_path / "study.journal"), {})
    for values in ((0.5, 0.9), (0.7, 0.95), (0.1, 0.8)):
        proposed = study.propose()
        assert proposed is not None
        study.tell(complete(proposed, values[0]).model_copy(update={"values": values}))
    last = study.propose()
    assert last is not None
    study.tell(diverged(last, 1))
    trials = optuna.load_study(study_name="digits/baseline", storage=open_journal(tmp_path / "study.journal")).trials
    assert trials[3].values == [0.7, 0.8]


def test_the_earlier_it_diverges_the_worse() -> None:
    early, late = (ending(fail(diverged(config(), steps)), CONSTRAINT).violation for steps in (1, 10))
    assert early is not None
    assert late is not None
    assert early > late > 0


def test_a_crash_and_a_pruned_trial_break_no_constraint() -> None:
    assert ending(fail(failed(config(), "crashed")), CONSTRAINT).state is STATES.FAIL
    assert ending(CandidateOutcome(TrialState.PRUNED), CONSTRAINT).state is STATES.PRUNED


def share_that_diverged(spec: SweepSpec, journal: Path) -> float:
    """Search where every learning rate above 0.1 diverges, and the best is just below."""
    study = Study(spec, "digits", "baseline", open_journal(journal), {})
    late = []
    while (proposed := study.propose()) is not None:
        lr: float = proposed.training.optimizer.model_dump()["lr"]
        study.tell(failed(proposed) if lr > 0.1 else complete(proposed, 1.0 - lr))
        assert proposed.number is not None
        if proposed.number >= 20:
            late.append(lr > 0.1)
    return sum(late) / len(late)


@pytest.mark.parametrize(
    "sampler",
    ["{name: tpe, n_startup_trials: 5}", "{name: nsga2, population_size: 6}", "{name: nsga3}"],
    ids=["tpe", "nsga2", "nsga3"],
)
def test_every_sampler_that_takes_constraints_goes_on_with_divergent_trials(sampler: str, tmp_path: Path) -> None:
    spec = tiny_spec("search.trials=30", f"search.sampler={sampler}", "search.divergence=constraint")
    share_that_diverged(spec, tmp_path / "study.journal")
    trials = optuna.load_study(study_name="digits/baseline", storage=open_journal(tmp_path / "study.journal")).trials
    assert {trial.state for trial in trials} == {STATES.COMPLETE}
    assert {trial.constraints[DIVERGENCE] > 0 for trial in trials} == {True, False}


def test_tpe_learns_to_avoid_divergence(tmp_path: Path) -> None:
    settings = ("search.trials=60", "search.sampler={name: tpe, n_startup_trials: 8}")
    shares = [
        share_that_diverged(tiny_spec(*settings, f"search.divergence={told}"), tmp_path / told)
        for told in ("constraint", "fail")
    ]
    assert shares[0] < 0.75 * shares[1], shares
