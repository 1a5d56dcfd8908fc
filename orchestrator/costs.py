"""What a run cost and where it was cut off: the one place that says what a miss and a run of no length count as."""

from __future__ import annotations

from orchestrator.home.records import SeedResult
from orchestrator.statistics import Cost

SUFFIX = "_to_target"
# A clock that shows nothing has passed all the same.
LEAST_SPENT = 1e-9


def run_cost(seed: SeedResult, metric: str) -> Cost:
    """Tell what a run that ended well cost.

    Args:
        seed: the run.
        metric: steps, seconds or gradient evaluations to the target; seconds or gradient evaluations of the whole run.

    Returns:
        Its cost, at least that of one step: what is there before the first has cost nothing, and nothing has no ratio.
        A miss counts as twice its limit (:meth:`Cost.of_miss`).
    """
    limit, spent = run_limit(seed, metric), getattr(seed, metric)
    return Cost.of_miss(limit) if spent is None else Cost(max(float(spent), limit / seed.budget_steps), limit)


def run_limit(seed: SeedResult, metric: str) -> float:
    """Tell where a run is cut off; one that ended before, where it would have been.

    Args:
        seed: the run.
        metric: of :func:`run_cost`.

    Returns:
        The whole budget, in the metric's unit.
    """
    if metric == f"steps{SUFFIX}":
        return float(seed.budget_steps)
    spent: float = getattr(seed, metric.removesuffix(SUFFIX))
    return max(spent, LEAST_SPENT) * (seed.budget_steps / max(seed.num_steps, 1))
