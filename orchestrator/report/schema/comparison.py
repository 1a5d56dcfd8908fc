"""An arm against the baseline or another arm: verdict, effect, interval, raw points."""

from __future__ import annotations

from enum import StrEnum

from orchestrator.report.schema.part import Part
from orchestrator.spec import BASELINE
from orchestrator.statistics import Scale


class Verdict(StrEnum):
    """What a comparison comes to, in words.

    ``faster`` and ``slower`` speak of steps, seconds and gradients to the target; ``better`` and ``worse`` of
    losses and accuracies. The primary ones follow the p that Holm adjusted; the exploratory ones the raw p.
    """

    FASTER = "faster"
    SLOWER = "slower"
    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no detectable difference"
    NOT_ENOUGH_SEEDS = "not enough seeds"
    REFUSED = "refused"
    PENDING = "not yet"


class SeedPair(Part):
    """One seed under both arms.

    Args:
        seed: which.
        baseline: the baseline's value; ``inf`` where it missed or diverged (``-inf`` for an accuracy).
        arm: the arm's.
        effect: ``arm / baseline`` or ``arm - baseline``, as the scale says; 1 or 0 where both missed.
    """

    seed: int
    baseline: float
    arm: float
    effect: float


class Effect(Part):
    """How far apart two arms are.

    Args:
        scale: ``ratio``: arm / baseline, 1 is none; ``difference``: arm - baseline, 0 is none.
        estimate: Hodges-Lehmann over the pairs; infinite, or a ratio of 0, where misses on one side prevail.
        smallest: the smallest ratio above 1, or difference above 0, that these seeds would have shown in 4 of 5
            sweeps; ``inf``: none.
        baseline_median: over the paired seeds, ``inf`` as soon as half of them miss.
        arm_median: likewise.
        probability_of_improvement: share of seeds on which the arm is better, ties counting half.
    """

    scale: Scale
    estimate: float
    smallest: float
    baseline_median: float
    arm_median: float
    probability_of_improvement: float


class Interval(Part):
    """An exact interval for the effect, not adjusted for several comparisons.

    Args:
        low: lower end.
        high: upper end; ``inf`` where misses leave it open.
        confidence: at least .95; more, since ranks come in steps.
    """

    low: float
    high: float
    confidence: float


class Comparison(Part):
    """An arm against another, the baseline as a rule, on one metric, paired by seed.

    Args:
        workload: label.
        arm: label.
        against: label of the other arm. Where it is not the baseline, a teleport arm is compared with a control or
            rival, and what is said of the baseline below is said of that arm.
        metric: ``steps_to_target``, ``seconds_to_target``, ``gradient_evaluations_to_target``, ``train_loss``,
            ``validation_accuracy`` or ``test_accuracy``.
        is_primary: the one comparison whose verdict is a claim: a teleport arm on steps to target. All others
            are exploratory, and their p is not adjusted.
        verdict: in words.
        reason: why there is no verdict, or what stands beside it; may be empty.
        effect: None where there is no pair or the comparison is refused.
        interval: None likewise.
        p: exact two-sided signed-rank; None likewise and while confirm runs.
        p_adjusted: by Holm over the primary comparisons; None for the others.
        num_pairs: seeds with both arms.
        num_planned_pairs: seeds of confirm.
        num_ties: pairs that are equal, or that both miss.
        num_baseline_misses: paired seeds on which the baseline missed or diverged.
        num_arm_misses: likewise the arm.
        missing_seeds: where one side crashed or was lost: excluded, not counted as misses.
        pairs: the raw points.
    """

    workload: str
    arm: str
    metric: str
    is_primary: bool
    verdict: Verdict
    reason: str = ""
    effect: Effect | None = None
    interval: Interval | None = None
    p: float | None = None
    p_adjusted: float | None = None
    num_pairs: int = 0
    num_planned_pairs: int = 0
    num_ties: int = 0
    num_baseline_misses: int = 0
    num_arm_misses: int = 0
    missing_seeds: tuple[int, ...] = ()
    pairs: tuple[SeedPair, ...] = ()
    against: str = BASELINE
