"""Wilcoxon's signed-rank test and Hodges-Lehmann's estimate, exact, with ties and infinite differences.

The test is a sign-flip test: under the null hypothesis swapping the two arms of a pair changes nothing, so each
of the ``2^n`` sign patterns is equally likely. It flips *ranks*, since a pair in which one side missed its target
has no finite difference but does have a rank: the largest. The estimate and its interval invert the same test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

# Differences that are equal but for rounding are ties: log(3/2) and -log(2/3) differ in the last bit.
TIE_DECIMALS = 12


def doubled_midranks(magnitudes: Floats) -> Integers:
    """Rank from 1, ties sharing the mean of their ranks; doubled, so that all are whole numbers.

    Args:
        magnitudes: ``[n]``, not NaN; infinite ones tie with each other.

    Returns:
        ``[n]``, twice the midranks.
    """
    import numpy as np

    _, place, counts = np.unique(np.round(magnitudes, TIE_DECIMALS), return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    doubled: Integers = (2 * below + counts + 1)[place]
    return doubled


def null_distribution(ranks: Integers) -> Floats:
    """Distribute the sum of the ranks of the positive differences over all sign patterns.

    Args:
        ranks: ``[n]``, positive whole numbers (doubled midranks, for example).

    Returns:
        ``[S + 1]``, the probability of each sum ``0 .. S``, ``S`` the sum of the ranks; exact in binary up to 52
        ranks.
    """
    import numpy as np

    distribution = np.ones(1)
    for rank in ranks:
        wider = np.zeros(len(distribution) + int(rank))
        wider[: len(distribution)] = distribution
        wider[int(rank) :] += distribution
        distribution = wider / 2.0
    return distribution


def signed_rank_p(differences: Sequence[float], alternative: Literal["two-sided", "greater"] = "two-sided") -> float:
    """Test whether paired differences are symmetric about 0: exact.

    Zeros take part in the ranking and have no sign (Pratt 1959).

    Args:
        differences: ``[n]``, one per pair; infinite where one side missed; never NaN.
        alternative: what is to be shown: that their centre is not 0, or that it is greater.

    Returns:
        The share of sign patterns whose rank sum is at least as far from its mean as this one, or for ``greater`` at
        least as large; 1 where all are 0.
    """
    import numpy as np

    given = np.asarray(differences, dtype=np.float64)
    signs = np.sign(np.round(given, TIE_DECIMALS))
    ranks = doubled_midranks(np.abs(given))[signs != 0] if len(given) else np.zeros(0, dtype=np.int64)
    if not len(ranks):
        return 1.0
    total = int(ranks.sum())
    observed = int((ranks * signs[signs != 0]).sum())
    distribution = null_distribution(ranks)
    sums = 2 * np.arange(total + 1) - total
    is_as_extreme = sums >= observed if alternative == "greater" else np.abs(sums) >= abs(observed)
    return min(1.0, float(distribution[is_as_extreme].sum()))


def walsh_averages(differences: Sequence[float], clash: float = 0.0) -> Floats:
    """Average every pair of differences, each with itself too.

    Args:
        differences: ``[n]``.
        clash: the average of ``-inf`` and ``inf``: 0 by the signed ranks, which tie.

    Returns:
        ``[n (n + 1) / 2]``, ascending.
    """
    import numpy as np

    given = np.asarray(differences, dtype=np.float64)
    first, second = np.triu_indices(len(given))
    with np.errstate(invalid="ignore"):
        averages = (given[first] + given[second]) / 2.0
    return np.sort(np.where(np.isnan(averages), clash, averages))


def hodges_lehmann(differences: Sequence[float]) -> float:
    """Estimate the centre of paired differences: the median of the Walsh averages (Hodges and Lehmann 1963).

    Args:
        differences: ``[n]``, n at least 1; may be infinite.

    Returns:
        The estimate; infinite where misses on one side prevail.
    """
    averages = walsh_averages(differences)
    low, high = averages[(len(averages) - 1) // 2], averages[len(averages) // 2]
    return 0.0 if math.isinf(low) and math.isinf(high) and low != high else float((low + high) / 2.0)


def order_of_bound(num_pairs: int, confidence: float) -> tuple[int, float]:
    """Tell which Walsh averages bound the exact interval.

    Args:
        num_pairs: ``n``.
        confidence: at least this much, in (0, 1).

    Returns:
        ``k``: the interval runs from the k-th smallest to the k-th largest average (0: there is none, too few
        pairs), and its confidence ``1 - 2 P(T <= k - 1)``.
    """
    import numpy as np

    tail = np.cumsum(null_distribution(np.arange(1, num_pairs + 1, dtype=np.int64)))
    k = int(np.searchsorted(tail, (1.0 - confidence) / 2.0, side="right"))
    return (k, float(1.0 - 2.0 * tail[k - 1])) if k else (0, 1.0)


def shift_interval(
    lows: Sequence[float], highs: Sequence[float], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Bound the centre of paired differences of which some are known only to lie between two limits.

    The interval is that of the signed-rank test (Lehmann 1975; closed, so that it holds for tied data too:
    Noether 1967). Both its ends grow with every difference, so the lower one taken from the lower limits and the
    upper one from the upper limits cover at least as often as if nothing were censored.

    Args:
        lows: ``[n]``, each difference is at least this.
        highs: ``[n]``, each difference is at most this; equal to ``lows`` where it is known.
        confidence: at least this much.

    Returns:
        Lower end, upper end (either may be infinite) and the confidence reached.
    """
    k, reached = order_of_bound(len(lows), confidence)
    if k == 0:
        return -math.inf, math.inf, 1.0
    return float(walsh_averages(lows, -math.inf)[k - 1]), float(walsh_averages(highs, math.inf)[-k]), reached
