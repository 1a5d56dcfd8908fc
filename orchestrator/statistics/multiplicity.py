"""What a number of seeds can show when several comparisons are made: closed forms, and Holm's rule."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

from orchestrator.statistics.signed_rank import hodges_lehmann, null_distribution

if TYPE_CHECKING:
    from orchestrator.statistics.signed_rank import Floats

ALPHA = 0.05
MAX_ENUMERATED = 10
NUM_SAMPLED = 512
NUM_HALVINGS = 25


def smallest_shift(differences: Sequence[float], alpha: float, power: float = 0.8) -> float:
    """Return the smallest effect that the signed-rank test would probably have found with such differences.

    The function keeps the scatter of the differences about their centre, gives each of them either sign with equal
    probability, and shifts them until the two-sided test rejects on the right side in a share ``power`` of the sign
    patterns. It uses all ``2^n`` patterns up to 10 pairs, and 512 from a fixed seed beyond.

    Args:
        differences: ``[n]``; infinite where one side missed, which no shift mends.
        alpha: the level of the test, after any correction for several comparisons.
        power: the share of sweeps that must find the effect.

    Returns:
        The shift, in the unit of the differences; infinite where these seeds find no shift.
    """
    import numpy as np

    num_pairs = len(differences)
    critical = _critical_sum(num_pairs, alpha)
    centre = hodges_lehmann(differences) if num_pairs else math.inf
    if critical is None or math.isinf(centre):
        return math.inf
    scatter = np.asarray(differences, dtype=np.float64) - centre
    patterns = _sign_patterns(num_pairs) * scatter

    def seen(shift: float) -> float:
        moved = patterns + shift
        ranks = np.argsort(np.argsort(np.abs(moved), axis=1), axis=1) + 1
        return float(np.mean((ranks * (moved > 0)).sum(axis=1) >= critical))

    # A shift of twice the largest scatter gives all finite differences the same sign.
    low, high = 0.0, float(2.0 * np.abs(scatter[np.isfinite(scatter)]).max(initial=0.0) + 1e-9)
    if seen(high) < power:
        return math.inf
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if seen(middle) >= power else (middle, high)
    return high


def _critical_sum(num_pairs: int, alpha: float) -> int | None:
    """Return the smallest rank sum of the positive differences that rejects, or None where none does."""
    import numpy as np

    distribution = null_distribution(np.arange(1, num_pairs + 1, dtype=np.int64))
    tail = np.cumsum(distribution[::-1])[::-1]
    rejecting = np.flatnonzero(2.0 * tail <= alpha)
    return int(rejecting[0]) if len(rejecting) else None


def _sign_patterns(num_pairs: int) -> Floats:
    import numpy as np

    if num_pairs <= MAX_ENUMERATED:
        return np.array(list(itertools.product((-1.0, 1.0), repeat=num_pairs)))
    return np.random.default_rng(0).choice((-1.0, 1.0), size=(NUM_SAMPLED, num_pairs))


def smallest_p(num_pairs: int) -> float:
    """Return the smallest two-sided p-value that an exact sign-flip or signed-rank test can give.

    Of ``2^n`` equally likely sign patterns, 2 give all ``n`` differences the same sign, so it is ``2^(1-n)``.

    Args:
        num_pairs: the number of pairs that differ; without any, p is 1.

    Raises:
        ValueError: the number is negative.

    >>> smallest_p(5), smallest_p(6), smallest_p(8)
    (0.0625, 0.03125, 0.0078125)
    """
    if num_pairs < 0:
        raise ValueError(f"num_pairs must be at least 0, is {num_pairs}")
    return min(1.0, 2.0 ** (1 - num_pairs))


def seeds_needed(num_comparisons: int, alpha: float = ALPHA) -> int:
    """Return the smallest number of confirm seeds with which every primary comparison can still be significant.

    Holm multiplies the smallest p by the number of comparisons ``m``, so it is the least ``n`` with
    ``2^(1-n) m <= alpha``.

    Args:
        num_comparisons: the primary comparisons ``m``, one for each workload and teleport arm; at least 1.
        alpha: the family-wise error rate, in (0, 1).

    Raises:
        ValueError: an argument is out of its range.

    >>> [seeds_needed(m) for m in (1, 6, 7, 25)]
    [6, 8, 9, 10]
    """
    if num_comparisons < 1:
        raise ValueError(f"num_comparisons must be at least 1, is {num_comparisons}")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be in (0, 1), is {alpha}")
    return next(n for n in itertools.count(1) if smallest_p(n) * num_comparisons <= alpha)


def holm(p_values: Sequence[float], num_comparisons: int | None = None) -> list[float]:
    """Adjust p-values for several comparisons by Holm's step-down rule (Holm 1979).

    The i-th smallest of ``m`` becomes ``max over j <= i of min(1, (m - j + 1) p_(j))``. Rejecting where this is at
    most alpha keeps the family-wise error rate at alpha, however the comparisons depend on each other.

    Args:
        p_values: raw, in any order.
        num_comparisons: ``m``, where some comparisons of the family have no p yet, which counts as 1; None where all
            have one.

    Returns:
        The adjusted values in the order given.

    Raises:
        ValueError: the family is smaller than the number of values.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    size = len(p_values) if num_comparisons is None else num_comparisons
    if size < len(p_values):
        raise ValueError(f"num_comparisons must be at least {len(p_values)}, is {size}")
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for position, index in _ascending(p_values):
        largest = max(largest, min(1.0, (size - position) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@final
@dataclass(frozen=True)
class Decision:
    """What Holm's rule decides of one comparison, and the level of the interval that agrees with it.

    Args:
        p_adjusted: the p-value by Holm's rule.
        alpha: the level of the interval.
        method: ``bonferroni`` where the level is alpha over the size of the family, so that all such intervals hold at
            once; ``holm`` where it is the level of the later step at which the rule rejected, because Bonferroni's
            wider interval would still contain no effect.
    """

    p_adjusted: float
    alpha: float
    method: Literal["bonferroni", "holm"]


def holm_levels(p_values: Sequence[float], num_comparisons: int, alpha: float = ALPHA) -> list[Decision]:
    """Decide by Holm's rule, and choose for each comparison an interval that agrees with the decision.

    Bonferroni's intervals hold all at once with probability ``1 - alpha``. Holm's rule rejects somewhat more often;
    only where it does so is the interval taken at the level of its step instead (Serlin 1993, Ludbrook 2000).

    Args:
        p_values: raw, in any order.
        num_comparisons: the size of the family, at least the number of values.
        alpha: the family-wise error rate.

    Returns:
        One decision for each p-value, in the order given. The interval at its level excludes no effect if and only if
        the adjusted p is at most alpha.

    >>> [(round(d.alpha, 4), d.method) for d in holm_levels([0.01, 0.02, 0.3], 3)]
    [(0.0167, 'bonferroni'), (0.025, 'holm'), (0.0167, 'bonferroni')]
    """
    adjusted = holm(p_values, num_comparisons)
    strict = alpha / num_comparisons
    decisions: list[Decision] = [Decision(p, strict, "bonferroni") for p in adjusted]
    for position, index in _ascending(p_values):
        if adjusted[index] <= alpha and p_values[index] > strict:
            decisions[index] = Decision(adjusted[index], alpha / (num_comparisons - position), "holm")
    return decisions


def _ascending(p_values: Sequence[float]) -> enumerate[int]:
    """Count the indices in ascending order of their p-values."""
    return enumerate(sorted(range(len(p_values)), key=p_values.__getitem__))
