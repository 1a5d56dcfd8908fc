"""What a run cost, alone and against the tuned baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from orchestrator.home import SeedResult, Trial, TrialResult
from orchestrator.spec import Aggregate, Objective, SweepSpec
from orchestrator.statistics import Cost, censored_median

Pair = tuple[str, int]
# A clock that shows nothing has passed all the same.
LEAST_SPENT = 1e-9
SUFFIX = "_to_target"


def run_cost(seed: SeedResult, metric: str) -> Cost:
    """Tell what a run that ended well cost, in steps, seconds or gradient evaluations.

    A run costs at least one step: what is there before the first step has cost nothing, and nothing has no ratio. A
    miss counts as twice its limit (:meth:`Cost.of_miss`).
    """
    limit, spent = run_limit(seed, metric), getattr(seed, metric)
    return Cost.of_miss(limit) if spent is None else Cost(max(float(spent), limit / seed.budget_steps), limit)


def run_limit(seed: SeedResult, metric: str) -> float:
    """Tell where a run is cut off, or would have been: its whole budget in the metric's unit."""
    if metric == f"steps{SUFFIX}":
        return float(seed.budget_steps)
    spent: float = getattr(seed, metric.removesuffix(SUFFIX))
    return max(spent, LEAST_SPENT) * (seed.budget_steps / max(seed.num_steps, 1))


def steps_to_target(trial: Trial) -> float:
    """Take the median steps to target over a trial's seeds: infinite as soon as half of them miss, or none ran."""
    seeds = trial.result.seeds if trial.result is not None else ()
    steps = [math.inf if seed.steps_to_target is None else float(seed.steps_to_target) for seed in seeds]
    return censored_median(steps) if steps else math.inf


def baseline_costs(spec: SweepSpec, baselines: Mapping[str, Trial]) -> dict[Pair, float]:
    """Read what the tuned baselines cost on each seed; a miss costs twice the budget."""
    return {
        (workload, seed.seed): run_cost(seed, spec.search.objective.metric).value
        for workload, trial in baselines.items()
        if trial.result is not None
        for seed in trial.result.seeds
    }


def log_ratio_of(objective: Objective, result: TrialResult, baseline: float) -> float:
    """Compare what a COMPLETE trial of one seed cost with the tuned baseline's cost on the same seed.

    The logarithm of the ratio is finite, since a miss counts as twice its budget on either side.
    """
    return math.log(run_cost(result.seeds[0], objective.metric).value / baseline)


def aggregate_of(aggregation: Aggregate, log_ratios: Mapping[str, Sequence[float]]) -> float:
    """Aggregate the ratios of a candidate's costs to the baselines'.

    ``geometric_mean`` is over all ratios; ``worst`` is the largest over the workloads of the geometric mean over the
    seeds.

    Args:
        aggregation: one of the two.
        log_ratios: workload -> the logarithms of its ratios, at least one.

    >>> round(aggregate_of("geometric_mean", {"a": [0.0, 0.0], "b": [math.log(4.0), 0.0]}), 6)
    1.414214
    >>> round(aggregate_of("worst", {"a": [0.0, 0.0], "b": [math.log(4.0), 0.0]}), 6)
    2.0
    """
    means = [sum(ratios) / len(ratios) for ratios in log_ratios.values()]
    if aggregation == "worst":
        return math.exp(max(means))
    num = sum(map(len, log_ratios.values()))
    return math.exp(sum(sum(ratios) for ratios in log_ratios.values()) / num)


def mean_values(results: Sequence[TrialResult]) -> tuple[float, ...]:
    """Average each objective over COMPLETE trials of one seed each."""
    known = [result.values or (result.value,) for result in results]
    return tuple(sum(value or 0.0 for value in values) / len(values) for values in zip(*known, strict=True))
