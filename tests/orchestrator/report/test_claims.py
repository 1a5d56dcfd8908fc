"""How often equal arms are called different, and that interval and verdict say the same: through the report's code."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.report.comparisons import comparisons_of
from orchestrator.report.schema import Comparison, ConfirmCandidate, ConfirmSeed, StudyReport, Verdict
from orchestrator.spec.options import ClassificationOptions

SEEDS = tuple(range(8))
TASKS = {
    label: ClassificationOptions(name="classification") for label in ("a", "b", "c", *(f"w{i}" for i in range(10)))
}
BUDGET = 400
CLAIMS = {Verdict.FASTER, Verdict.SLOWER}


def study(workload: str, arm: str, steps: np.ndarray) -> StudyReport:
    """A study whose candidate took so many steps on each seed: beyond the budget is a miss, infinite a divergence."""
    runs = tuple(
        ConfirmSeed(
            trial_id=f"{arm}{seed}",
            seed=seed,
            outcome="diverged" if math.isinf(took) else "missed" if took > BUDGET else "reached",
            budget_steps=BUDGET,
            steps_to_target=int(took) if took <= BUDGET else None,
        )
        for seed, took in zip(SEEDS, steps.tolist(), strict=True)
    )
    best = ConfirmCandidate(
        trial_id=arm,
        number=0,
        rank=1,
        value=0.0,
        values={},
        yaml="",
        median_steps_to_target=None,
        median_seconds_to_target=None,
        confirm=runs,
    )
    return StudyReport(
        workload=workload,
        arm=arm,
        kind="baseline" if arm == "baseline" else "teleport",
        num_trials=1,
        num_planned=1,
        num_complete=1,
        num_pruned=0,
        num_diverged=0,
        num_crashed=0,
        best=best,
        candidates=(best,),
        search=(),
    )


def claims(
    rng: np.random.Generator, num_workloads: int, factors: dict[str, float], *, centre: float, diverging: float = 0.0
) -> list[Comparison]:
    """The primary comparisons of a sweep whose arms take so many times the baseline's steps."""
    studies = []
    for workload in range(num_workloads):
        shared = rng.normal(0.0, 0.3, len(SEEDS))
        for arm, factor in {"baseline": 1.0, **factors}.items():
            steps = centre * factor * np.exp(shared + 0.15 * rng.standard_t(3, len(SEEDS)))
            steps = np.ceil(steps / 5) * 5
            studies.append(study(f"w{workload}", arm, np.where(rng.random(len(SEEDS)) < diverging, math.inf, steps)))
    return [c for c in comparisons_of(studies, SEEDS, 1, tasks=TASKS) if c.is_primary]


def assert_agrees(comparison: Comparison) -> None:
    """The interval excludes no effect just where the verdict is one, and lies on its side."""
    interval = comparison.interval
    if interval is None:
        assert comparison.verdict is Verdict.NO_DIFFERENCE
        return
    assert comparison.p_adjusted is not None
    assert comparison.effect is not None
    is_claim = comparison.verdict in CLAIMS
    assert is_claim == interval.excludes_none == (comparison.p_adjusted <= 0.05)
    assert interval.low <= comparison.effect.estimate <= interval.high
    if comparison.verdict is Verdict.FASTER:
        assert interval.high <= 1.0
    elif comparison.verdict is Verdict.SLOWER:
        assert interval.low >= 1.0
    else:
        assert interval.low <= 1.0 <= interval.high


@pytest.mark.parametrize("centre", [150.0, 380.0])
def test_interval_and_verdict_of_a_claim_always_agree(centre: float) -> None:
    rng = np.random.default_rng(0)
    found = [c for _ in range(60) for c in claims(rng, 3, {"t": 0.75}, centre=centre, diverging=0.05)]
    for comparison in found:
        assert_agrees(comparison)
    assert {c.verdict for c in found} >= {Verdict.FASTER, Verdict.NO_DIFFERENCE}
    assert {c.interval.method for c in found if c.interval} == {"bonferroni", "holm"}


def test_where_only_a_later_step_of_holms_rejects_the_interval_is_at_that_steps_level() -> None:
    baseline = np.array([200, 210, 190, 220, 205, 215, 195, 225])
    nearly = [0.8, 0.81, 0.82, 0.83, 0.84, 0.95, 1.03, 1.045]
    studies = [
        study(workload, arm, baseline * factors)
        for workload, factor in [("a", 0.8), ("b", nearly), ("c", 0.81)]
        for arm, factors in [("baseline", np.ones(8)), ("t", np.array(factor))]
    ]
    found = [c for c in comparisons_of(studies, SEEDS, 1, tasks=TASKS) if c.is_primary]
    assert [c.verdict for c in found] == [Verdict.FASTER] * 3
    assert [c.p_adjusted for c in found] == [3 * 2 / 256, 10 / 256, 3 * 2 / 256]
    levels = [(c.interval.method, c.interval.confidence) for c in found if c.interval]
    assert levels == [("bonferroni", 1 - 0.05 / 3), ("holm", 0.95), ("bonferroni", 1 - 0.05 / 3)]
    for comparison in found:
        assert_agrees(comparison)


def test_a_later_step_of_holms_is_open_to_a_workload_with_fewer_pairs() -> None:
    # Six pairs cannot go below .031, times two .063; but the other claim stands, so they are tested at .05.
    steps = np.array([200, 210, 190, 220, 205, 215, 195, 225])
    studies = [study(w, arm, steps * f) for w in "ab" for arm, f in [("baseline", 1.0), ("t", 0.8)]]
    assert studies[3].best is not None
    lost = tuple(run.model_copy(update={"outcome": "lost"}) if run.seed > 5 else run for run in studies[3].best.confirm)
    studies[3] = studies[3].model_copy(update={"best": studies[3].best.model_copy(update={"confirm": lost})})
    first, second = [c for c in comparisons_of(studies, SEEDS, 1, tasks=TASKS) if c.is_primary]
    assert (first.verdict, second.verdict) == (Verdict.FASTER, Verdict.FASTER)
    assert (second.num_pairs, second.p_adjusted) == (6, 2 / 64)
    assert_agrees(second)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_workloads", "arms", "centre", "diverging"),
    [(3, ("t",), 150.0, 0.0), (3, ("t",), 380.0, 0.1), (2, ("t", "u"), 330.0, 0.05)],
    ids=["three workloads", "half the runs miss, some diverge", "two arms on two workloads"],
)
def test_equal_arms_are_called_different_in_at_most_five_of_a_hundred_sweeps(
    num_workloads: int, arms: tuple[str, ...], centre: float, diverging: float
) -> None:
    rng = np.random.default_rng(1)
    num_sweeps = 1_000
    false = sum(
        any(
            c.verdict in CLAIMS
            for c in claims(rng, num_workloads, dict.fromkeys(arms, 1.0), centre=centre, diverging=diverging)
        )
        for _ in range(num_sweeps)
    )
    assert false / num_sweeps <= 0.05


@pytest.mark.slow
def test_an_equal_arm_beside_true_effects_is_called_different_in_at_most_five_of_a_hundred_sweeps() -> None:
    rng = np.random.default_rng(2)
    false, num_sweeps = 0, 1_000
    for _ in range(num_sweeps):
        found = claims(rng, 1, {"equal": 1.0, "faster": 0.4}, centre=150.0)
        false += any(c.verdict in CLAIMS for c in found if c.arm == "equal")
    assert false / num_sweeps <= 0.05


def test_where_no_claim_may_be_made_each_primary_comparison_says_why_and_the_others_are_measured() -> None:
    rng = np.random.default_rng(0)
    steps = 100.0 * np.exp(0.1 * rng.normal(size=len(SEEDS)))
    studies = [study("w0", "baseline", steps), study("w0", "teleport", 0.5 * steps)]
    found = comparisons_of(studies, SEEDS, 1, tasks=TASKS, no_claim="the sweep has run with two codes")
    [primary] = [each for each in found if each.is_primary]
    assert (primary.verdict, primary.reason) == (Verdict.REFUSED, "the sweep has run with two codes")
    others = [each for each in found if not each.is_primary]
    assert others
    assert Verdict.REFUSED not in {each.verdict for each in others}
