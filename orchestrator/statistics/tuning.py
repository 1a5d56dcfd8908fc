"""What a search would have found with fewer trials, or in less time.

A trial that ended without a value (it was pruned, diverged, or ran out of time) was spent and found nothing, so its
value is infinite. As long as some choice of trials holds only such trials the mean is infinite; therefore the median
and the quartiles are given too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

if TYPE_CHECKING:
    from orchestrator.statistics.signed_rank import Floats

NUM_ORDERS = 1_000
QUARTILES = (0.25, 0.5, 0.75)

Draw = Literal["without replacement", "with replacement"]


@final
@dataclass(frozen=True)
class ExpectedBest:
    """The distribution of the best value of some trials; lower is better.

    Args:
        mean: the expected value.
        low: the lower quartile.
        median: ``inf`` where at least half of the choices of trials hold no value.
        high: the upper quartile.
    """

    mean: float
    low: float
    median: float
    high: float


def expected_best(values: Sequence[float], num_trials: int, draw: Draw = "without replacement") -> ExpectedBest:
    """Estimate the best value of ``k`` trials from ``n`` trials whose order does not matter.

    ``without replacement`` averages over the ``k``-subsets of the trials, which is unbiased (Tang et al. 2020, a
    U-statistic). ``with replacement`` is the estimate of Dodge et al. (2019), ``P(min > v) = P(V > v)^k`` with the
    empirical distribution. It is too pessimistic, the more the closer ``k`` is to ``n``.

    Args:
        values: ``[n]``; lower is better, and ``inf`` is a trial without a value.
        num_trials: ``k``, from 1 to ``n``.
        draw: which estimate.

    Raises:
        ValueError: the number is out of its range.

    >>> round(expected_best([3.0, 1.0, 2.0], 2).mean, 3)
    1.333
    >>> round(expected_best([3.0, 1.0, 2.0], 2, "with replacement").mean, 3)
    1.556
    """
    import numpy as np

    size = len(values)
    if not 1 <= num_trials <= size:
        raise ValueError(f"num_trials must be from 1 to {size}, is {num_trials}")
    left = size - np.arange(size)
    # P(min > v_(i)) is (1 - i/n)^k, or C(n - i, k) / C(n, k) as a running product.
    with_all = ((left - 1) / size) ** num_trials
    worse: Any = np.cumprod(np.maximum(left - num_trials, 0) / left) if draw == "without replacement" else with_all
    return _best(np.sort(np.asarray(values, dtype=np.float64)), worse)


def best_by_time(values: Sequence[float], costs: Sequence[float], times: Sequence[float]) -> list[ExpectedBest]:
    """Estimate the best value found within each of some times by trials that run one after the other.

    The trials run in random order; 1,000 orders are drawn from a fixed seed.

    Args:
        values: ``[n]``; lower is better, and ``inf`` is a trial without a value.
        costs: ``[n]``, how long each trial runs, in the unit of the times.
        times: ascending.
    """
    import numpy as np

    value, cost = np.asarray(values, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    rng = np.random.default_rng(0)
    found = np.empty((NUM_ORDERS, len(times)))
    for row in found:
        order = rng.permutation(len(value))
        best = np.concatenate([[math.inf], np.minimum.accumulate(value[order])])
        # The sum of all costs is the same in every order except for rounding, which this factor absorbs.
        row[:] = best[np.searchsorted(np.cumsum(cost[order]) * (1.0 - 1e-12), times, side="right")]
    worse = 1.0 - (np.arange(NUM_ORDERS) + 1.0) / NUM_ORDERS
    return [_best(column, worse) for column in np.sort(found, axis=0).T]


def _best(ascending: Floats, worse: Floats) -> ExpectedBest:
    """Summarise ascending values, given for each the probability that the best is worse than it."""
    import numpy as np

    weights = -np.diff(worse, prepend=1.0)
    is_possible = weights > 0.0
    mean = float((ascending[is_possible] * weights[is_possible]).sum())
    low, median, high = (float(ascending[np.searchsorted(1.0 - worse, quantile - 1e-12)]) for quantile in QUARTILES)
    return ExpectedBest(mean, low, median, high)
