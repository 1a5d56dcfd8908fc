"""The exact signed-rank test (Wilcoxon) and estimate (Hodges and Lehmann), with ties and infinite differences.

Under the null hypothesis nothing changes when the two arms of a pair are swapped, so each of the ``2^n`` sign patterns
is equally likely. The test flips the signs of ranks, because a pair in which one side missed its target has no finite
difference but does have a rank: the largest.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

# Differences that are equal except for rounding are ties: log(3/2) and -log(2/3) differ in the last bit.
TIE_DECIMALS = 12
# With more pairs the normal approximation is right to the third digit, and the exact distribution takes seconds.
MAX_EXACT = 200


def doubled_midranks(magnitudes: Floats) -> Integers:
    """Rank ``[n]`` magnitudes from 1, where ties share the mean of their ranks; return twice the ranks.

    Doubled ranks are whole numbers. Infinite magnitudes tie with each other; none may be NaN.
    """
    import numpy as np

    _, place, counts = np.unique(np.round(magnitudes, TIE_DECIMALS), return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    doubled: Integers = (2 * below + counts + 1)[place]
    return doubled


def null_distribution(ranks: Integers) -> Floats:
    """Return the distribution of the sum of the ranks of the positive differences over all sign patterns.

    Args:
        ranks: ``[n]``, positive whole numbers, for example doubled midranks.

    Returns:
        ``[S + 1]``: the probability of each sum from 0 to ``S``, the sum of all ranks. Up to 52 ranks these floats are
        exact.
    """
    import numpy as np

    distribution = np.ones(1)
    for rank in ranks:
        wider = np.zeros(len(distribution) + int(rank))
        wider[: len(distribution)] = distribution
        wider[int(rank) :] += distribution
        distribution = wider / 2.0
    return distribution


def signed_rank_test(differences: Floats) -> tuple[int, float]:
    """Test on both sides whether paired differences are symmetric about 0; exact up to 200 that are not 0.

    Zeros take part in the ranking but have no sign (Pratt 1959).

    Args:
        differences: ``[n]``, one for each pair; infinite where one side missed; never NaN.

    Returns:
        The sign of the rank sum, and p: the share of the sign patterns whose rank sum is at least as far from its mean
        as the observed one. Where all differences are 0, p is 1.
    """
    import numpy as np

    observed, ranks = _signed_ranks(differences)
    # The distribution is symmetric, so both tails are equal.
    return int(np.sign(observed)), min(1.0, 2.0 * _upper_tail(ranks, abs(observed))) if observed else 1.0


def signed_rank_p(differences: Sequence[float], alternative: Literal["two-sided", "greater"] = "two-sided") -> float:
    """Return the p-value of :func:`signed_rank_test`, or of the one-sided test that the centre is greater than 0."""
    import numpy as np

    given = np.asarray(differences, dtype=np.float64)
    if alternative == "two-sided":
        return signed_rank_test(given)[1]
    observed, ranks = _signed_ranks(given)
    return min(1.0, _upper_tail(ranks, observed))


def _signed_ranks(differences: Floats) -> tuple[int, tuple[int, ...]]:
    """Return the signed sum of the doubled midranks, and the ascending midranks of the differences other than 0."""
    import numpy as np

    signs = np.sign(np.round(differences, TIE_DECIMALS)).astype(np.int64)
    ranks = doubled_midranks(np.abs(differences)) if len(differences) else np.zeros(0, dtype=np.int64)
    return int((ranks * signs).sum()), tuple(sorted(ranks[signs != 0].tolist()))


def _upper_tail(ranks: tuple[int, ...], observed: int) -> float:
    """Return how often the signed sum of the ranks is at least ``observed``."""
    if len(ranks) <= MAX_EXACT:
        # The sum of the positive ranks is half of: the sum of all ranks plus the signed sum.
        return _exact_tail(ranks)[(sum(ranks) + observed) // 2]
    deviation = math.sqrt(sum(rank * rank for rank in ranks))
    # Signed sums lie at least two apart; the continuity correction is half of that.
    return 1.0 - statistics.NormalDist().cdf((observed - 1.0) / deviation)


@functools.lru_cache(maxsize=256)
def _exact_tail(ranks: tuple[int, ...]) -> list[float]:
    import numpy as np

    distribution = null_distribution(np.array(ranks, dtype=np.int64))
    found: list[float] = np.cumsum(distribution[::-1])[::-1].tolist()
    return found


def walsh_averages(differences: Sequence[float]) -> Floats:
    """Return the ascending ``n (n + 1) / 2`` averages of two of ``n`` differences, each also with itself.

    The average of ``-inf`` and ``inf`` is 0, because their ranks tie.
    """
    import numpy as np

    given = np.asarray(differences, dtype=np.float64)
    first, second = np.triu_indices(len(given))
    with np.errstate(invalid="ignore"):
        averages = (given[first] + given[second]) / 2.0
    return np.sort(np.where(np.isnan(averages), 0.0, averages))


def hodges_lehmann(differences: Sequence[float]) -> float:
    """Estimate the centre of at least one difference by the median of the Walsh averages (Hodges and Lehmann 1963).

    Differences may be infinite; the estimate is infinite where most misses are on one side.
    """
    averages = walsh_averages(differences)
    low, high = averages[(len(averages) - 1) // 2], averages[len(averages) // 2]
    return 0.0 if math.isinf(low) and math.isinf(high) and low != high else float((low + high) / 2.0)
