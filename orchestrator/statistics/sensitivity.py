"""Over which range of a parameter a search's points are close to the best of them.

The other parameters differ from point to point, so a point says what its value can come to and not what it must:
along one parameter the lower quartile of the costs stands for what is reached with a reasonable choice of the rest.
Unlike the minimum it does not fall merely because a sampler has put more points there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from orchestrator.statistics.signed_rank import Floats

TOLERANCE = 0.05
QUANTILE = 0.25
# Fewer points in a bin have no quartile that one could lean on.
MIN_POINTS = 5
# As many on average: with half of that a band lacks the true best in one search of three (docs/transfer.md).
POINTS_PER_BIN = 10
MIN_BINS = 3
MAX_BINS = 8


@final
@dataclass(frozen=True)
class Bin:
    """A stretch of the parameter.

    Args:
        low: where it begins; for whole numbers, the first of them.
        high: where it ends, or the last of them.
        count: points in it.
        cost: their lower quartile; None: too few to say.
    """

    low: float
    high: float
    count: int
    cost: float | None


@final
@dataclass(frozen=True)
class Sensitivity:
    """One parameter's.

    Args:
        bins: along it.
        low: where the band about the best bin begins; None: there are too few points for one.
        high: where it ends.
        is_low_open: whether it may well go on below: the search's range ends there, or too few points lie next to it.
        is_high_open: likewise above.
    """

    bins: tuple[Bin, ...]
    low: float | None = None
    high: float | None = None
    is_low_open: bool = False
    is_high_open: bool = False


def sensitivity(
    values: Sequence[float],
    costs: Sequence[float],
    low: float,
    high: float,
    *,
    is_log: bool = False,
    is_integer: bool = False,
    tolerance: float = TOLERANCE,
) -> Sensitivity:
    """Find the values of a parameter whose cost is within a tolerance of the best.

    Args:
        values: ``[n]``, in ``[low, high]``.
        costs: ``[n]``, positive; lower is better.
        low: smallest value that was searched.
        high: largest.
        is_log: whether the range is searched in the logarithm.
        is_integer: whether it holds whole numbers only.
        tolerance: share above the best bin's cost that still counts as close.

    Returns:
        The bins, and the contiguous bins about the best one that are close to it, where at least three bins have points
        enough. The best of several noisy bins is a little too good, so a band is rather too narrow than too wide.
    """
    import numpy as np

    given, paid = np.asarray(values, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    edges, is_each = _edges(len(given), low, high, is_log=is_log, is_integer=is_integer)
    places = np.clip(np.searchsorted(edges, given, side="right") - 1, 0, len(edges) - 2)
    bins = []
    for place, (left, right) in enumerate(itertools.pairwise(edges)):
        inside = paid[places == place]
        cost = float(np.quantile(inside, QUANTILE)) if len(inside) >= MIN_POINTS else None
        first, last = (math.ceil(left), math.ceil(right) - 1) if is_each else (float(left), float(right))
        bins.append(Bin(first, last, len(inside), cost))
    return _banded(tuple(bins), tolerance)


def _edges(num_points: int, low: float, high: float, *, is_log: bool, is_integer: bool) -> tuple[Floats, bool]:
    """Edges of the bins; whether each is told by the whole numbers in it."""
    import numpy as np

    num_values = int(high - low) + 1
    if is_integer and num_values <= MAX_BINS:
        return np.arange(low, high + 2.0) - 0.5, True
    num = max(MIN_BINS, min(MAX_BINS, num_points // POINTS_PER_BIN))
    left, right = (low - 0.5, high + 0.5) if is_integer else (low, high)
    edges = np.geomspace(left, right, num + 1) if is_log else np.linspace(left, right, num + 1)
    # Geometric spacing rounds its ends.
    edges[0], edges[-1] = left, right
    return edges, is_integer


def _banded(bins: tuple[Bin, ...], tolerance: float) -> Sensitivity:
    known = [place for place, each in enumerate(bins) if each.cost is not None]
    if len(known) < min(MIN_BINS, len(bins)) or len(bins) < 2:
        return Sensitivity(bins)
    costs = [math.inf if each.cost is None else each.cost for each in bins]
    best = min(known, key=costs.__getitem__)
    bound = costs[best] * (1.0 + tolerance)
    first = last = best
    while first > 0 and costs[first - 1] <= bound:
        first -= 1
    while last < len(bins) - 1 and costs[last + 1] <= bound:
        last += 1
    return Sensitivity(
        bins=bins,
        low=bins[first].low,
        high=bins[last].high,
        is_low_open=first == 0 or bins[first - 1].cost is None,
        is_high_open=last == len(bins) - 1 or bins[last + 1].cost is None,
    )
