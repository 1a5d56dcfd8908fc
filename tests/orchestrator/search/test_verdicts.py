"""What a sampler hears of results, and that it learns to avoid what diverges."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from orchestrator.home.records import TrialConfig, TrialResult, TrialState
from orchestrator.search.journal import DIVERGENCE, Verdicts, open_journal
from orchestrator.search.study import Study
from orchestrator.spec import SweepSpec
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import complete, config, failed

STATES = optuna.trial.TrialState


def verdicts(*overrides: str) -> Verdicts:
    return Verdicts(tiny_spec("search.divergence=constraint", *overrides).search)


def diverged(of: TrialConfig, num_steps: int) -> TrialResult:
    seed = complete(of).seeds[0].model_copy(update={"outcome": "diverged", "num_steps": num_steps})
    return failed(of).model_copy(update={"seeds": (seed,)})


def test_a_failure_is_told_without_a_value() -> None:
    plain = Verdicts(tiny_spec().search)
    for kind in ("diverged", "crashed", "lost"):
        assert plain.ending(failed(config(), kind)).state is STATES.FAIL
    assert plain.ending(complete(config(), 0.5)).violation is None


def test_as_a_constraint_divergence_is_complete_at_the_worst_values_so_far() -> None:
    heard = verdicts("search.also=[{metric: validation_accuracy}]")
    assert heard.ending(failed(config())).values == (0.0, 0.0)
    for values in ((0.5, 0.9), (0.7, 0.95), (0.1, 0.8)):
        ending = heard.ending(complete(config(), values[0]).model_copy(update={"values": values}))
        assert (ending.values, ending.violation) == (values, -1.0)
    ending = heard.ending(diverged(config(), 1))
    assert (ending.state, ending.values) == (STATES.COMPLETE, (0.7, 0.8))


def test_the_earlier_it_diverges_the_worse() -> None:
    heard = verdicts()
    early, late = (heard.ending(diverged(config(), steps)).violation for steps in (1, 10))
    assert early is not None
    assert late is not None
    assert early > late > 0


def test_a_crash_and_a_pruned_trial_break_no_constraint() -> None:
    assert verdicts().ending(failed(config(), "crashed")).state is STATES.FAIL
    pruned = complete(config()).model_copy(update={"state": TrialState.PRUNED, "value": None})
    assert verdicts().ending(pruned).state is STATES.PRUNED


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
