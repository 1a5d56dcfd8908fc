"""An arm against the baseline or another arm: verdict, effect, interval, raw points."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from orchestrator.report.schema.part import Part
from orchestrator.spec import BASELINE
from orchestrator.statistics import Scale


class Verdict(StrEnum):
    """What a comparison comes to, in words.

    ``faster`` and ``slower`` speak of steps, seconds and gradients to the target; ``better`` and ``worse`` of losses
    and accuracies. A primary verdict follows the p that Holm's rule adjusts, an exploratory one the raw p. Where
    the test rejects, and the arms' learning rates may be the reason, it is ``no difference beyond the learning rate``.
    """

    FASTER = "faster"
    SLOWER = "slower"
    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no detectable difference"
    LEARNING_RATE = "no difference beyond the learning rate"
    NOT_ENOUGH_SEEDS = "not enough seeds"
    REFUSED = "refused"
    PENDING = "not yet"


class SeedPair(Part):
    """One seed under both arms.

    Args:
        replicate: which of the independent searches found the settings, from 0.
        baseline: the baseline's value; ``inf`` where it missed or diverged (``-inf`` for an accuracy).
        arm: the arm's value, likewise.
        effect: ``arm / baseline`` or ``arm - baseline``, as the scale says; 1 or 0 where both missed.
    """

    seed: int
    baseline: float
    arm: float
    effect: float
    replicate: int = 0


IntervalMethod = Literal["signed-rank", "bonferroni", "holm", "clopper-pearson", "bca", "crossed"]


class Interval(Part):
    """An interval for an effect or a share.

    Args:
        high: the upper end; ``inf`` where misses leave it open.
        confidence: the least coverage of this interval by itself.
        method: how the interval is made. ``signed-rank``: the effects that the exact test does not reject, not adjusted
            for several comparisons. ``bonferroni``: the same at a level divided by the size of the family, so that all
            such intervals of the primary comparisons hold at once with 95 %. ``holm``: the same at the level of the
            step at which Holm's rule rejected, where the Bonferroni interval would still include no effect.
            ``clopper-pearson``: exact, for a share. ``bca``: by bootstrap. ``crossed``: Student's, over independent
            searches and seeds, at the level of the family.
        excludes_none: whether no effect (a ratio of 1, a difference of 0) lies outside, which is so where the
            comparison's p (the adjusted one if it is primary) is at most .05. An end at no effect is then open.
    """

    low: float
    high: float
    confidence: float
    method: IntervalMethod = "signed-rank"
    excludes_none: bool = False


class Effect(Part):
    """How far apart two arms are.

    Args:
        scale: ``ratio``: arm / baseline, where 1 is no effect; ``difference``: arm - baseline, where 0 is none.
        estimate: Hodges-Lehmann estimate over the pairs; infinite, or a ratio of 0, where misses on one side prevail.
        smallest: the smallest ratio above 1, or difference above 0, that these seeds would have shown in 4 of 5 sweeps;
            ``inf`` where they would have shown none.
        baseline_median: median over the paired seeds; ``inf`` as soon as half of them miss.
        arm_median: likewise.
        probability_of_improvement: share of seeds on which the arm is better; a tie counts half.
        probability_interval: the interval of that share; its lower end counts ties as losses, its upper end as wins.
        mean: geometric mean of the ratios, or mean of the differences; None with fewer than 20 pairs, or where a run
            missed.
        mean_interval: the interval of the mean, by BCa bootstrap; None likewise.
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


class PointEffect(Part):
    """How far apart two arms are at one point of the confirm grid, both at the same learning rate.

    Args:
        rate: the learning rate, or whatever the grid is along; None where the points are whole configurations.
        num_pairs: seeds on which both arms gave an answer.
        num_baseline_misses: paired seeds on which the baseline missed or diverged.
        num_arm_misses: likewise for the arm.
        estimate: the effect; None where there is nothing to estimate it from.
        interval: the interval of this effect by itself, not adjusted for the other points.
    """

    rate: float | None
    num_pairs: int
    num_baseline_misses: int
    num_arm_misses: int
    estimate: float | None = None
    interval: Interval | None = None


class Comparison(Part):
    """An arm against another, the baseline as a rule, on one metric, paired by seed.

    Args:
        metric: ``steps_to_target``, ``seconds_to_target``, ``gradient_evaluations_to_target``, ``train_loss``,
            ``validation_accuracy`` or ``test_accuracy``.
        is_primary: whether its verdict is a claim: that of a teleport arm against the baseline on steps to target. All
            others are exploratory, and their p is not adjusted.
        reason: why there is no verdict, or what a reader should know beside it; may be empty.
        effect: None where there is no pair or the comparison is refused.
        interval: the interval of the effect; None likewise.
        p: exact two-sided signed-rank; None likewise and while confirm runs.
        p_adjusted: adjusted by Holm's rule over the primary comparisons; None for the others.
        p_log_rank: that of the log-rank test, which swaps the arms within pairs. It is given for times to target, is
            never primary, and is None while confirm runs.
        num_pairs: seeds on which both arms gave an answer.
        num_planned_pairs: seeds of confirm.
        num_replicates: how many independent searches the compared settings come from. With one, the verdict is about
            the settings that it found; with more, about the method, since the interval holds the luck of the search
            too. Final metrics compare the settings of the first search alone.
        num_ties: pairs that are equal, or that both miss.
        num_baseline_misses: paired seeds on which the baseline missed or diverged.
        num_arm_misses: likewise for the arm.
        missing_seeds: seeds on which one side crashed or was lost; they are excluded, and not counted as misses.
        pairs: the raw points.
        health: which runs of the two arms had lost their target by their end, ended at chance level or diverged, in a
            sentence; empty where none did, and for all metrics but steps to target.
        against: label of the other arm. Where it is a control or rival, ``baseline`` in the other fields means that
            arm.
        rate: the learning rate of the arm's best point; None where there is none.
        baseline_rate: that of the baseline's.
        at_points: the effect at every point of the grid, on steps to target alone.
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
    num_replicates: int = 1
    num_ties: int = 0
    num_baseline_misses: int = 0
    num_arm_misses: int = 0
    missing_seeds: tuple[int, ...] = ()
    pairs: tuple[SeedPair, ...] = ()
    health: str = ""
    against: str = BASELINE
    rate: float | None = None
    baseline_rate: float | None = None
    at_points: tuple[PointEffect, ...] = ()
