"""An arm against the baseline or another arm: verdict, effect, interval, raw points."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

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


class Interval(Part):
    """An interval for an effect or a share.

    Args:
        low: lower end.
        high: upper end; ``inf`` where misses leave it open.
        confidence: at least this much, of this interval by itself.
        method: how it is made. ``signed-rank``: the effects that the exact test does not reject, not adjusted for
            several comparisons; ``bonferroni``: the same at the level of the family over its size, so that all such
            intervals of the primary comparisons hold at once with 95 %; ``holm``: at the level of the step at which
            Holm's rule rejected, where the Bonferroni interval would still reach no effect; ``clopper-pearson``;
            ``bca``: bootstrap.
        excludes_none: whether no effect (a ratio of 1, a difference of 0) lies outside: just where the comparison's p,
            adjusted if it is primary, is at most .05. An end at no effect is then open.
    """

    low: float
    high: float
    confidence: float
    method: Literal["signed-rank", "bonferroni", "holm", "clopper-pearson", "bca"] = "signed-rank"
    excludes_none: bool = False


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
        probability_interval: of that share; its lower end counts ties as losses, its upper one as wins.
        mean: geometric mean of the ratios, or mean of the differences; None with fewer than 20 pairs, or where a run
            missed.
        mean_interval: by BCa bootstrap; None likewise.
    """

    scale: Scale
    estimate: float
    smallest: float
    baseline_median: float
    arm_median: float
    probability_of_improvement: float
    probability_interval: Interval | None = None
    mean: float | None = None
    mean_interval: Interval | None = None


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
        p_log_rank: of the log-rank test, the arms swapped within pairs; of times to target alone, never primary; None
            while confirm runs.
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
    p_log_rank: float | None = None
    num_pairs: int = 0
    num_planned_pairs: int = 0
    num_ties: int = 0
    num_baseline_misses: int = 0
    num_arm_misses: int = 0
    missing_seeds: tuple[int, ...] = ()
    pairs: tuple[SeedPair, ...] = ()
    against: str = BASELINE
