"""What a search would have found with fewer trials, or in less time: the price of tuning.

A trial that ended without a value (pruned, diverged, over its time) is one that was spent and found nothing: its value
is infinite. With one among the trials the mean is infinite until every choice of trials holds a finite one, so medians
and quartiles stand beside it.
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
class Best:
    """The best of some trials, the lower the better.

    Args:
        mean: expected.
        low: lower quartile.
        median: ``inf`` where it is as likely as not that none of them has a value.
        high: upper quartile.
    """

    mean: float
    low: float
    median: float
    high: float


def expected_best(values: Sequence[float], num_trials: int, draw: Draw = "without replacement") -> Best:
    """Estimate the best value of ``k`` trials from ``n`` that were made in no order.

    ``with replacement`` is Dodge et al.'s (2019), ``P(min > v) = P(V > v)^k`` with the empirical distribution: too
    pessimistic, the more so the nearer ``k`` is to ``n``. ``without replacement`` averages over the ``k``-subsets of
    the trials, which is unbiased (Tang et al. 2020, a U-statistic).

    Args:
        values: ``[n]``, the lower the better; ``inf`` for none.
        num_trials: ``k``, from 1 to n.
        draw: which of the two.

    Returns:
        The mean and the quartiles.

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
    # P(min > v_(i)): (1 - i/n)^k, or C(n - i, k) / C(n, k), one factor after the other.
    with_all = ((left - 1) / size) ** num_trials
    worse: Any = np.cumprod(np.maximum(left - num_trials, 0) / left) if draw == "without replacement" else with_all
    return _best(np.sort(np.asarray(values, dtype=np.float64)), worse)


def best_by_time(values: Sequence[float], costs: Sequence[float], times: Sequence[float]) -> list[Best]:
    """Estimate the best value found in a time, the trials running one after the other in random order.

    Args:
        values: ``[n]``, the lower the better; ``inf`` for none.
        costs: ``[n]``, in the unit of the times.
        times: ascending.

    Returns:
        For each time, over 1,000 orders drawn with a fixed seed, the best of the trials that were over by then.
    """
    import numpy as np

    value, cost = np.asarray(values, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    rng = np.random.default_rng(0)
    found = np.empty((NUM_ORDERS, len(times)))
    for row in found:
        order = rng.permutation(len(value))
        best = np.concatenate([[math.inf], np.minimum.accumulate(value[order])])
        # All orders have the same sum but for rounding.
        row[:] = best[np.searchsorted(np.cumsum(cost[order]) * (1.0 - 1e-12), times, side="right")]
    worse = 1.0 - (np.arange(NUM_ORDERS) + 1.0) / NUM_ORDERS
    return [_best(column, worse) for column in np.sort(found, axis=0).T]


def _best(ascending: Floats, worse: Floats) -> Best:
    """From the values in order, and how likely the best is worse than each."""
    import numpy as np

    weights = -np.diff(worse, prepend=1.0)
    is_possible = weights > 0.0
    mean = float((ascending[is_possible] * weights[is_possible]).sum())
    low, median, high = (float(ascending[np.searchsorted(1.0 - worse, quantile - 1e-12)]) for quantile in QUARTILES)
    return Best(mean, low, median, high)
