"""What is said of several runs or studies together: arrivals, tuning curves, performance profiles."""

from __future__ import annotations

from typing import Literal, get_args

from orchestrator.report.schema.part import Part

TimeMetric = Literal["steps_to_target", "seconds_to_target", "gradient_evaluations_to_target"]
TIME_METRICS: tuple[TimeMetric, ...] = get_args(TimeMetric)


class Arrival(Part):
    """Which share of an arm's confirm runs has reached the target by when: one minus Kaplan and Meier's estimate.

    Args:
        metric: what the axis counts.
        x: where runs arrive, ascending; the share is 0 before the first, and stays until the next.
        share: the share of the runs that have arrived.
        low: lower ends of the pointwise exact 95 % interval.
        high: upper ends.
        num_waiting: how many runs had not arrived, nor been cut off, just before.
        num_runs: runs that gave an answer; one that diverged or timed out never arrives.
    """

    metric: TimeMetric
    x: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    num_waiting: tuple[int, ...]
    num_runs: int


class Best(Part):
    """The best objective of some search trials.

    Args:
        x: how many trials, or seconds of training.
        mean: the expected best; infinitely bad where it is possible that none of them has a value.
        low: the better quartile.
        median: infinitely bad where none has a value with a probability of one half or more.
        high: the worse quartile.
    """

    x: float
    mean: float
    low: float
    median: float
    high: float


class Tuning(Part):
    """What a study's search would have found with fewer trials or in less time.

    The trials count as if they had been made in random order, also where the sampler learns: this tells what these
    trials hold, not how fast the sampler found it. The search chose its winner by these values, so they flatter it;
    claims come from confirm. A trial that was pruned, diverged or timed out was spent and found nothing; one that
    crashed does not count.

    Args:
        num_answers: how many trials it rests on.
        by_trials: the best of k of them, drawn without replacement (Tang et al. 2020, unbiased); all arms of a workload
            have the same k.
        with_replacement: the mean as Dodge et al. (2019) estimate it, which is biased.
        by_seconds: the best of those that are over after so much training, one after the other; all arms of a workload
            have the same times.
    """

    num_answers: int
    by_trials: tuple[Best, ...]
    with_replacement: tuple[float, ...]
    by_seconds: tuple[Best, ...]


class Profile(Part):
    """An arm's performance profile over the sweep's workloads (Dolan and Moré 2002).

    Args:
        metric: its median over the paired confirm seeds is the cost of a workload.
        workloads: those on which every arm was confirmed.
        ratios: by workload, the arm's cost over that of the best arm; ``inf`` where it misses.
        factors: from 1 to 4.
        share: the share of the workloads on which the arm is within each factor of the best arm.
        low: lower ends of the share's 95 % interval, by bootstrap over the seeds; empty below 20 seeds.
        high: upper ends; likewise.
        score: the mean of the share over the factors (Dahl et al. 2023).
    """

    metric: TimeMetric
    arm: str
    workloads: tuple[str, ...]
    ratios: tuple[float, ...]
    factors: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    score: float
