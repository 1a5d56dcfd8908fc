"""What a number of seeds can show over several workloads: closed forms, nothing imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

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
