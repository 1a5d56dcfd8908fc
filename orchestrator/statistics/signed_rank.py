"""Wilcoxon's signed-rank test and Hodges-Lehmann's estimate, exact, with ties and infinite differences.

The test is a sign-flip test: under the null hypothesis swapping the two arms of a pair changes nothing, so each
of the ``2^n`` sign patterns is equally likely. It flips *ranks*, since a pair in which one side missed its target
has no finite difference but does have a rank: the largest. :mod:`orchestrator.statistics.paired` inverts it.
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

# Differences that are equal but for rounding are ties: log(3/2) and -log(2/3) differ in the last bit.
TIE_DECIMALS = 12
# Beyond this the normal approximation is right to the third digit, and the exact distribution takes seconds.
MAX_EXACT = 200


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


def signed_rank_test(differences: Floats) -> tuple[int, float]:
    """Test whether paired differences are symmetric about 0: two-sided, exact up to 200 that are not 0.

    Zeros take part in the ranking and have no sign (Pratt 1959).

    Args:
        differences: ``[n]``, one per pair; infinite where one side missed; never NaN.

    Returns:
        The sign of the rank sum, and the share of sign patterns whose rank sum is at least as far from its mean as
        this one; 1 where all are 0.
    """
    import numpy as np

    observed, ranks = _signed_ranks(differences)
    # Both tails are alike.
    return int(np.sign(observed)), min(1.0, 2.0 * _upper_tail(ranks, abs(observed))) if observed else 1.0


def signed_rank_p(differences: Sequence[float], alternative: Literal["two-sided", "greater"] = "two-sided") -> float:
    """Test whether paired differences are symmetric about 0: exact.

    Args:
        differences: ``[n]``, as for :func:`signed_rank_test`.
        alternative: what is to be shown: that their centre is not 0, or that it is greater.

    Returns:
        The p-value.
    """
    import numpy as np

    given = np.asarray(differences, dtype=np.float64)
    if alternative == "two-sided":
        return signed_rank_test(given)[1]
    observed, ranks = _signed_ranks(given)
    return min(1.0, _upper_tail(ranks, observed))


def _signed_ranks(differences: Floats) -> tuple[int, tuple[int, ...]]:
    """The signed sum of the doubled midranks, and those of the differences that are not 0, ascending."""
    import numpy as np

    signs = np.sign(np.round(differences, TIE_DECIMALS)).astype(np.int64)
    ranks = doubled_midranks(np.abs(differences)) if len(differences) else np.zeros(0, dtype=np.int64)
    return int((ranks * signs).sum()), tuple(sorted(ranks[signs != 0].tolist()))


def _upper_tail(ranks: tuple[int, ...], observed: int) -> float:
    """How often the signed sum of the ranks is at least so large."""
    if len(ranks) <= MAX_EXACT:
        # The sum of the positive ranks is half of the total and the signed sum.
        return _exact_tail(ranks)[(sum(ranks) + observed) // 2]
    deviation = math.sqrt(sum(rank * rank for rank in ranks))
    # Signed sums lie at least two apart: half of that for continuity.
    return 1.0 - statistics.NormalDist().cdf((observed - 1.0) / deviation)


@functools.lru_cache(maxsize=256)
def _exact_tail(ranks: tuple[int, ...]) -> list[float]:
    import numpy as np

    distribution = null_distribution(np.array(ranks, dtype=np.int64))
    found: list[float] = np.cumsum(distribution[::-1])[::-1].tolist()
    return found


def walsh_averages(differences: Sequence[float]) -> Floats:
    """Average every pair of differences, each with itself too.

    Args:
        differences: ``[n]``.

    Returns:
        ``[n (n + 1) / 2]``, ascending; that of ``-inf`` and ``inf`` is 0 by the signed ranks, which tie.
    """
    import numpy as np

    given = np.asarray(differences, dtype=np.float64)
    first, second = np.triu_indices(len(given))
    with np.errstate(invalid="ignore"):
        averages = (given[first] + given[second]) / 2.0
    return np.sort(np.where(np.isnan(averages), 0.0, averages))


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
