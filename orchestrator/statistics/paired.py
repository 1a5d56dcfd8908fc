"""The paired comparison of two arms in one object: test, effect, interval, power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.statistics.censored import Pair, Scale, probability_of_improvement
from orchestrator.statistics.multiplicity import ALPHA
from orchestrator.statistics.power import smallest_shift
from orchestrator.statistics.signed_rank import hodges_lehmann, shift_interval, signed_rank_p


@final
@dataclass(frozen=True)
class PairedEffect:
    """How an arm compares with its baseline over seeds.

    On the scale ``ratio`` the effect is ``arm / baseline`` and 1 is none; on ``difference`` it is
    ``arm - baseline`` and 0 is none. A ratio is what people mean by "12 % fewer steps": it compares workloads of
    different lengths, it does not let the slowest seed outvote the others, and swapping the arms inverts it, so
    that the log-ratio is symmetric about 0 wherever the arms are exchangeable, as the test assumes.

    Args:
        num_pairs: seeds with both arms.
        num_ties: of those, equal or missed by both.
        estimate: Hodges-Lehmann; 0 or ``inf`` where misses on one side prevail.
        low: lower end of the interval.
        high: upper end of the interval, ``inf`` where misses leave it open.
        confidence: of the interval, at least what was asked for.
        p: exact two-sided signed-rank p.
        direction: sign of the effect by the rank sum: -1 the arm's values are smaller, 1 larger, 0 neither.
        probability_of_improvement: share of seeds on which the arm is better, ties counting half.
        smallest_effect: ratio above 1, or difference above 0, that would have been seen in 4 of 5 such sweeps;
            ``inf``: none.
    """

    num_pairs: int
    num_ties: int
    estimate: float
    low: float
    high: float
    confidence: float
    p: float
    direction: int
    probability_of_improvement: float
    smallest_effect: float


def paired_effect(
    pairs: Sequence[Pair],
    scale: Scale,
    *,
    higher_is_better: bool = False,
    confidence: float = 1.0 - ALPHA,
    num_comparisons: int = 1,
) -> PairedEffect:
    """Compare two arms over their common seeds.

    Args:
        pairs: at least one, in any order.
        scale: of the effect.
        higher_is_better: of the values; the signs of effect and direction do not depend on it.
        confidence: of the interval, in (0, 1).
        num_comparisons: primary comparisons of the family; the smallest effect is at ``(1 - confidence)`` over
            this, Holm's first step.

    Returns:
        The comparison.

    Raises:
        ValueError: there is no pair.
    """
    if not pairs:
        raise ValueError("pairs must hold at least one pair, holds none")
    differences = [pair.difference(scale) for pair in pairs]
    bounds = [pair.bounds(scale) for pair in pairs]
    low, high, reached = shift_interval([b[0] for b in bounds], [b[1] for b in bounds], confidence)
    # A pair that both missed shows nothing, whatever the shift: the power rests on the others.
    telling = [d for d, pair in zip(differences, pairs, strict=True) if not _both_missed(pair)]
    shift = smallest_shift(telling, (1.0 - confidence) / num_comparisons)
    back = _exp if scale == "ratio" else float
    return PairedEffect(
        num_pairs=len(pairs),
        num_ties=sum(pair.is_tie for pair in pairs),
        estimate=back(hodges_lehmann(differences)),
        low=back(low),
        high=back(high),
        confidence=reached,
        p=signed_rank_p(differences),
        direction=_direction(differences),
        probability_of_improvement=probability_of_improvement(pairs, higher_is_better=higher_is_better),
        smallest_effect=back(shift),
    )


def _both_missed(pair: Pair) -> bool:
    return pair.is_tie and math.isinf(pair.arm.value)


def _direction(differences: Sequence[float]) -> int:
    import numpy as np

    from orchestrator.statistics.signed_rank import doubled_midranks

    given = np.asarray(differences)
    return int(np.sign((np.sign(given) * doubled_midranks(np.abs(given))).sum()))


def _exp(value: float) -> float:
    """The exponential, with those of what is infinite or overflows."""
    return math.inf if value > 700.0 else math.exp(value)
