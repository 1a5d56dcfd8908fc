"""The range of a parameter within which a search found costs close to the best.

The other parameters differ from point to point, so one point shows what its value can reach, not what it always
reaches. The lower quartile of the costs near a value stands for a reasonable choice of the other parameters. Unlike the
minimum, it does not fall merely because a sampler has put more points there.
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
# A quartile of fewer points is too uncertain.
MIN_POINTS = 5
# With half as many, the band misses the true best in one search of three (docs/transfer.md).
POINTS_PER_BIN = 10
MIN_BINS = 3
MAX_BINS = 8


@final
@dataclass(frozen=True)
class Bin:
    """A stretch of the parameter's range.

    Args:
        low: where it begins; of whole numbers, the first one inside.
        high: where it ends; of whole numbers, the last one inside.
        count: the number of points inside.
        cost: the lower quartile of their costs; None with fewer than 5 points.
    """

    low: float
    high: float
    count: int
    cost: float | None


@final
@dataclass(frozen=True)
class ParameterSensitivity:
    """How costs depend on one parameter.

    Args:
        bins: the bins along the parameter's range.
        low: where the band of good values begins; None where there are too few points for a band.
        high: where it ends.
        is_low_open: whether the band may go on below, because the range ends there or the next bin has too few points.
        is_high_open: whether the band may go on above.
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
) -> ParameterSensitivity:
    """Find the values of a parameter whose cost is within a tolerance of the best.

    The band is the best bin and the bins next to it, without a gap, whose costs are close to its cost. It needs three
    bins with enough points. The best of several noisy bins is a little too good, so a band is rather too narrow.

    Args:
        values: ``[n]``, in ``[low, high]``.
        costs: ``[n]``, positive; lower is better.
        low: the smallest value that the search could take.
        high: the largest.
        is_log: whether the search draws the logarithm uniformly.
        is_integer: whether the parameter is a whole number.
        tolerance: the share by which a close cost may exceed the best bin's cost.
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
    """Return the edges of the bins, and whether the bins are described by the whole numbers inside them."""
    import numpy as np

    num_values = int(high - low) + 1
    if is_integer and num_values <= MAX_BINS:
        return np.arange(low, high + 2.0) - 0.5, True
    num = max(MIN_BINS, min(MAX_BINS, num_points // POINTS_PER_BIN))
    left, right = (low - 0.5, high + 0.5) if is_integer else (low, high)
    edges = np.geomspace(left, right, num + 1) if is_log else np.linspace(left, right, num + 1)
    # geomspace rounds its ends.
    edges[0], edges[-1] = left, right
    return edges, is_integer


def _banded(bins: tuple[Bin, ...], tolerance: float) -> ParameterSensitivity:
    known = [place for place, each in enumerate(bins) if each.cost is not None]
    if len(known) < min(MIN_BINS, len(bins)) or len(bins) < 2:
        return ParameterSensitivity(bins)
    costs = [math.inf if each.cost is None else each.cost for each in bins]
    best = min(known, key=costs.__getitem__)
    bound = costs[best] * (1.0 + tolerance)
    first = last = best
    while first > 0 and costs[first - 1] <= bound:
        first -= 1
    while last < len(bins) - 1 and costs[last + 1] <= bound:
        last += 1
    return ParameterSensitivity(
        bins=bins,
        low=bins[first].low,
        high=bins[last].high,
        is_low_open=first == 0 or bins[first - 1].cost is None,
        is_high_open=last == len(bins) - 1 or bins[last + 1].cost is None,
    )
