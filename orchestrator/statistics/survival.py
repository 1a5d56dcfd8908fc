"""How many runs reached their target by when: the Kaplan-Meier curve with exact bands, and a paired log-rank test."""

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
    """The share of the runs that have arrived at their target, at each time at which one of them arrives.

    Args:
        times: ascending.
        share: one minus the survival estimate of Kaplan and Meier (1958).
        low: the lower end of its pointwise 95 % interval.
        high: the upper end.
        num_waiting: how many runs had neither arrived nor been cut off just before.
    """

    times: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    num_waiting: tuple[int, ...]


def arrivals(sides: Sequence[Measured]) -> Arrivals:
    """Estimate which share of the runs has arrived by when.

    The bands are exact (Clopper and Pearson), because Greenwood's standard error is useless with eight runs. A run that
    was cut off earlier may have arrived since: the lower end counts it as not arrived, the upper end as arrived.
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
    """Return the two-sided p of the log-rank test (Mantel 1966) under swaps of the arms within pairs.

    The statistic is the arm's number of arrivals minus the expected number. It is a sum over the arm's runs of
    ``arrived - H(t)``, where ``H`` is the cumulative hazard of both arms together, which no swap changes (Peto and Peto
    1972). So the test is an exact sign-flip test of the differences of these scores; the usual normal approximation
    assumes unpaired runs.
    """
    return sign_flip_p(log_rank_differences(pairs))


def log_rank_differences(pairs: Sequence[Pair]) -> list[float]:
    """Return ``[n]``: for each pair the arm's log-rank score minus the baseline's.

    Half their sum is the arm's number of arrivals minus the expected number.
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
