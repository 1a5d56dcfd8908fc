"""What a number of seeds can show over several workloads: closed forms, nothing imported."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

from orchestrator.statistics.signed_rank import hodges_lehmann, null_distribution

if TYPE_CHECKING:
    from orchestrator.statistics.signed_rank import Floats


MAX_ENUMERATED = 10
NUM_SAMPLED = 512
NUM_HALVINGS = 25


def smallest_shift(differences: Sequence[float], alpha: float, power: float = 0.8) -> float:
    """Find the smallest shift that the signed-rank test would have found with such differences.

    The scatter of the differences about their centre is kept, each sign being as likely as the other, and shifted
    until the two-sided test rejects, on the right side, in ``power`` of the sign patterns: all ``2^n`` up to 10
    pairs, else 512 drawn with a fixed seed.

    Args:
        differences: ``[n]``; infinite where one side missed, which no shift mends.
        alpha: level of the test, after any correction for several comparisons.
        power: share of sweeps that must see it.

    Returns:
        The shift, in the differences' unit; infinite where no shift is found with these seeds.
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

    finite = np.abs(scatter[np.isfinite(scatter)])
    low, high = 0.0, float(2.0 * finite.max() + 1e-9) if len(finite) else 1e-9
    if seen(high) < power:
        return math.inf
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if seen(middle) >= power else (middle, high)
    return high


def _critical_sum(num_pairs: int, alpha: float) -> int | None:
    """The smallest rank sum of the positive differences that rejects; None: not even all ranks do."""
    import numpy as np

    if num_pairs == 0:
        return None
    distribution = null_distribution(np.arange(1, num_pairs + 1, dtype=np.int64))
    tail = np.cumsum(distribution[::-1])[::-1]
    rejecting = np.flatnonzero(2.0 * tail <= alpha)
    return int(rejecting[0]) if len(rejecting) else None


def _sign_patterns(num_pairs: int) -> Floats:
    import numpy as np

    if num_pairs <= MAX_ENUMERATED:
        return np.array(list(itertools.product((-1.0, 1.0), repeat=num_pairs)))
    return np.random.default_rng(0).choice((-1.0, 1.0), size=(NUM_SAMPLED, num_pairs))


ALPHA = 0.05


def smallest_p(num_pairs: int) -> float:
    """Tell the smallest two-sided p that an exact sign-flip or signed-rank test can give.

    All ``n`` differences have the same sign in 2 of the ``2^n`` equally likely sign patterns: ``2^(1-n)``.

    Args:
        num_pairs: pairs that differ; at least 0.

    Returns:
        The p-value, 1 where there is no pair.

    Raises:
        ValueError: the number is negative.

    >>> smallest_p(5), smallest_p(6), smallest_p(8)
    (0.0625, 0.03125, 0.0078125)
    """
    if num_pairs < 0:
        raise ValueError(f"num_pairs must be at least 0, is {num_pairs}")
    return min(1.0, 2.0 ** (1 - num_pairs))


def seeds_needed(num_comparisons: int, alpha: float = ALPHA) -> int:
    """Tell the fewest confirm seeds with which every primary comparison can still be significant.

    Holm multiplies the smallest p by the number of comparisons: the least ``n`` with ``2^(1-n) m <= alpha``.

    Args:
        num_comparisons: primary comparisons ``m``, one per workload and teleport arm; at least 1.
        alpha: family-wise error rate, in (0, 1).

    Returns:
        The number of pairs.

    Raises:
        ValueError: an argument is out of its range.

    >>> [seeds_needed(m) for m in (1, 6, 7, 25)]
    [6, 8, 9, 10]
    """
    if num_comparisons < 1:
        raise ValueError(f"num_comparisons must be at least 1, is {num_comparisons}")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be in (0, 1), is {alpha}")
    num_pairs = 1
    while smallest_p(num_pairs) * num_comparisons > alpha:
        num_pairs += 1
    return num_pairs


def holm(p_values: Sequence[float], num_comparisons: int | None = None) -> list[float]:
    """Adjust p-values for looking at several comparisons, by Holm's step-down rule (Holm 1979).

    The i-th smallest of ``m`` becomes ``max over j <= i of min(1, (m - j + 1) p_(j))``: rejecting what is then at
    most alpha keeps the family-wise error rate at alpha, whatever the dependence.

    Args:
        p_values: raw, in any order.
        num_comparisons: ``m``, where some comparisons of the family have no p yet (they count as 1); None: all
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
    for position, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (size - position) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@final
@dataclass(frozen=True)
class Decision:
    """What Holm's rule decides of one comparison, and the interval that says the same.

    Args:
        p_adjusted: by the rule.
        alpha: level of the interval.
        method: ``bonferroni``: alpha over the family, so that all such intervals hold at once; ``holm``: the level of
            the later step at which the rule rejected, since the wider interval would still reach no effect.
    """

    p_adjusted: float
    alpha: float
    method: Literal["bonferroni", "holm"]


def holm_levels(p_values: Sequence[float], num_comparisons: int, alpha: float = ALPHA) -> list[Decision]:
    """Decide by Holm's rule, and choose for each comparison an interval that agrees.

    Bonferroni's intervals hold all at once with probability ``1 - alpha``. The step-down rule rejects somewhat more;
    only where it does so is an interval taken at its step's level instead (Serlin 1993, Ludbrook 2000).

    Args:
        p_values: raw, in any order.
        num_comparisons: of the family; at least as many.
        alpha: family-wise error rate.

    Returns:
        A decision each, in the order given. The interval at its level excludes no effect just where the adjusted p is
        at most alpha.

    >>> [(round(d.alpha, 4), d.method) for d in holm_levels([0.01, 0.02, 0.3], 3)]
    [(0.0167, 'bonferroni'), (0.025, 'holm'), (0.0167, 'bonferroni')]
    """
    adjusted = holm(p_values, num_comparisons)
    strict = alpha / num_comparisons
    found: list[Decision] = [Decision(p, strict, "bonferroni") for p in adjusted]
    for position, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if adjusted[index] <= alpha and p_values[index] > strict:
            found[index] = Decision(adjusted[index], alpha / (num_comparisons - position), "holm")
    return found
