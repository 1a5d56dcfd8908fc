"""The paired comparison of two arms in one object: test, effect, interval, power."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.statistics.censored import Pair, Scale
from orchestrator.statistics.inversion import Inversion
from orchestrator.statistics.multiplicity import ALPHA
from orchestrator.statistics.power import smallest_shift
from orchestrator.statistics.proportion import probability_of_improvement
from orchestrator.statistics.resampling import MIN_BOOTSTRAP, bca_interval

Ends = tuple[float, float]


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
        p: exact two-sided signed-rank p.
        direction: sign of the effect by the rank sum: -1 the arm's values are smaller, 1 larger, 0 neither.
        probability_of_improvement: share of seeds on which the arm is better, ties counting half.
        probability_interval: of it, 95 %.
        smallest_effect: ratio above 1, or difference above 0, that would have been seen in 4 of 5 such sweeps;
            ``inf``: none.
        mean: geometric mean of the ratios, or mean of the differences; None where one is infinite, or there are fewer
            than 20 pairs.
        mean_interval: BCa bootstrap, 95 %; None likewise.
    """

    num_pairs: int
    num_ties: int
    estimate: float
    p: float
    direction: int
    probability_of_improvement: float
    probability_interval: Ends
    smallest_effect: float
    mean: float | None = None
    mean_interval: Ends | None = None


def paired_effect(
    pairs: Sequence[Pair],
    scale: Scale,
    *,
    higher_is_better: bool = False,
    alpha: float = ALPHA,
) -> PairedEffect:
    """Compare two arms over their common seeds.

    Args:
        pairs: at least one, in any order.
        scale: of the effect.
        higher_is_better: of the values; the signs of effect and direction do not depend on it.
        alpha: level at which the smallest effect is seen; with several comparisons, that of Holm's first step.

    Returns:
        The comparison.

    Raises:
        ValueError: there is no pair.
    """
    if not pairs:
        raise ValueError("pairs must hold at least one pair, holds none")
    inversion = Inversion(pairs, scale)
    direction, p = inversion.test()
    share, *ends = probability_of_improvement(pairs, higher_is_better=higher_is_better)
    # A pair that both missed shows nothing, whatever the shift: the power rests on the others.
    telling = [pair.difference(scale) for pair in pairs if not pair.is_missed_by_both]
    mean, mean_interval = _mean(pairs, scale) or (None, None)
    return PairedEffect(
        num_pairs=len(pairs),
        num_ties=sum(pair.is_tie for pair in pairs),
        estimate=_from_scale(inversion.centre, scale),
        p=p,
        direction=direction,
        probability_of_improvement=share,
        probability_interval=(ends[0], ends[1]),
        smallest_effect=_from_scale(smallest_shift(telling, alpha), scale),
        mean=mean,
        mean_interval=mean_interval,
    )


def paired_interval(pairs: Sequence[Pair], scale: Scale, alpha: float = ALPHA) -> Ends:
    """Gather the effects that the exact test does not reject.

    Args:
        pairs: at least one, in any order.
        scale: of the effect.
        alpha: level of the test, after any correction for several comparisons.

    Returns:
        Lower and upper end. No effect (1, or 0 on ``difference``) lies inside or at an end unless the p of
        :func:`paired_effect` is at most alpha; an end at no effect is open where it is.
    """
    low, high = Inversion(pairs, scale).interval(alpha)
    return _from_scale(low, scale), _from_scale(high, scale)


def _mean(pairs: Sequence[Pair], scale: Scale) -> tuple[float, Ends] | None:
    differences = [pair.difference(scale) for pair in pairs if not pair.is_missed_by_both]
    if len(pairs) < MIN_BOOTSTRAP or len(differences) < len(pairs) or not all(map(math.isfinite, differences)):
        return None
    low, high = bca_interval(differences)
    return _from_scale(statistics.fmean(differences), scale), (_from_scale(low, scale), _from_scale(high, scale))


def _from_scale(value: float, scale: Scale) -> float:
    """Back from the scale on which effects are differences."""
    if scale == "difference":
        return value
    return math.inf if value > 700.0 else math.exp(value)
