"""Who has arrived by when: Kaplan-Meier's curve with exact bands, and the log-rank test within pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.statistics.censored import Measured, Pair
from orchestrator.statistics.resampling import share_interval, sign_flip_p


@final
@dataclass(frozen=True)
class Arrivals:
    """The share of runs that have arrived, at each time at which one does.

    Args:
        times: ascending.
        share: one minus Kaplan and Meier's estimate (1958).
        low: lower end of its pointwise 95 % interval.
        high: upper end.
        num_waiting: runs that had not arrived, nor been cut off, just before.
    """

    times: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    num_waiting: tuple[int, ...]


def arrivals(sides: Sequence[Measured]) -> Arrivals:
    """Estimate how many runs have arrived by when.

    The bands are Clopper and Pearson's: exact, where Greenwood's error is of no use with eight runs. A run that was
    cut off before may have arrived since; the lower end counts it as not, the upper one as arrived.

    Args:
        sides: at least one.

    Returns:
        The curve.
    """
    times = sorted({side.value for side in sides if math.isfinite(side.value)})
    share, low, high, waiting = [], [], [], []
    survival = 1.0
    for time in times:
        hits = sum(side.value == time for side in sides)
        at_risk = sum(_known_until(side) >= time for side in sides)
        survival *= 1.0 - hits / at_risk
        arrived = sum(side.value <= time for side in sides)
        ends = share_interval(arrived, sum(_is_cut_off(side, time) for side in sides), len(sides))
        share.append(1.0 - survival)
        low.append(ends[0])
        high.append(ends[1])
        waiting.append(at_risk)
    return Arrivals(tuple(times), tuple(share), tuple(low), tuple(high), tuple(waiting))


def log_rank_p(pairs: Sequence[Pair]) -> float:
    """Test whether two arms arrive alike, by the log-rank statistic (Mantel 1966), swapping the arms within pairs.

    The statistic, arrivals of the arm less those expected, is a sum over the runs of ``arrived - H(t)``, ``H`` the
    cumulative hazard of both arms together, which no swap changes (Peto and Peto 1972). So the test is a sign-flip
    test of the differences of these scores: exact, where the usual normal approximation is of unpaired runs.

    Args:
        pairs: at least one.

    Returns:
        The two-sided p.
    """
    return sign_flip_p(log_rank_differences(pairs))


def log_rank_differences(pairs: Sequence[Pair]) -> list[float]:
    """Score each pair: half their sum is the arm's arrivals less those expected.

    Args:
        pairs: at least one.

    Returns:
        The arm's score less the baseline's, ``[n]``.
    """
    sides = [side for pair in pairs for side in (pair.baseline, pair.arm)]
    hazards = []
    for time in sorted({side.value for side in sides if math.isfinite(side.value)}):
        at_risk = sum(_known_until(side) >= time for side in sides)
        hazards.append((time, sum(side.value == time for side in sides) / at_risk))

    def score(side: Measured) -> float:
        past = math.fsum(step for time, step in hazards if time <= _known_until(side))
        return math.isfinite(side.value) - past

    return [score(pair.arm) - score(pair.baseline) for pair in pairs]


def _known_until(side: Measured) -> float:
    return side.value if math.isfinite(side.value) else side.limit


def _is_cut_off(side: Measured, time: float) -> bool:
    return math.isinf(side.value) and side.limit < time
