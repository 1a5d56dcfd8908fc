"""Measurements that may be cut off: a run that misses its target is right-censored, never dropped or averaged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, final

Scale = Literal["ratio", "difference"]


@final
@dataclass(frozen=True)
class Measured:
    """One side of a pair.

    Args:
        value: what was measured; ``inf`` where the run missed its target, or diverged (``-inf`` where more is
            better).
        limit: where the measurement was cut off: a miss is known to be beyond it. The value itself where nothing
            was cut off, so that a run that diverged, and would never arrive, has no limit but infinity.
    """

    value: float
    limit: float

    @classmethod
    def exactly(cls, value: float) -> Measured:
        """Make a measurement that was not cut off."""
        return cls(value, value)


@final
@dataclass(frozen=True)
class Pair:
    """Both arms on one seed.

    Args:
        baseline: the side compared against.
        arm: the other.
    """

    baseline: Measured
    arm: Measured

    @property
    def is_tie(self) -> bool:
        """Whether both sides are equal, or both missed."""
        return self.baseline.value == self.arm.value

    def difference(self, scale: Scale) -> float:
        """Measure the effect in this pair as the test ranks it.

        Args:
            scale: ``ratio``: ``ln(arm / baseline)``; ``difference``: ``arm - baseline``.

        Returns:
            The difference; 0 for a tie, also where both missed; infinite where one side missed.
        """
        if self.is_tie:
            return 0.0
        return _difference(self.baseline.value, self.arm.value, scale, clash=0.0)

    def bounds(self, scale: Scale) -> tuple[float, float]:
        """Bound the difference that would have been seen had nothing been cut off.

        Args:
            scale: as for :meth:`difference`.

        Returns:
            The least and the greatest; infinite on both sides where both missed.
        """
        baseline, arm = self.baseline, self.arm
        if self.is_tie and math.isinf(arm.value):
            return -math.inf, math.inf
        low = _difference(_upper(baseline), _lower(arm), scale, clash=-math.inf)
        return low, _difference(_lower(baseline), _upper(arm), scale, clash=math.inf)


def _lower(side: Measured) -> float:
    return min(side.value, side.limit)


def _upper(side: Measured) -> float:
    return max(side.value, side.limit)


def _difference(baseline: float, arm: float, scale: Scale, clash: float) -> float:
    if scale == "ratio":
        baseline, arm = _log(baseline), _log(arm)
        if math.isfinite(baseline) and math.isfinite(arm) and baseline == arm:
            return 0.0
    if math.isinf(baseline) and baseline == arm:
        return clash
    return arm - baseline


def _log(value: float) -> float:
    """The logarithm, with those of 0 and infinity."""
    return -math.inf if value <= 0.0 else math.inf if math.isinf(value) else math.log(value)


def censored_median(values: Iterable[float]) -> float:
    """Take the median of times of which some are infinite.

    Args:
        values: times, ``inf`` for a miss.

    Returns:
        The median: infinite as soon as half the runs miss; NaN where there is no value.
    """
    known = list(values)
    return statistics.median(known) if known else math.nan


def probability_of_improvement(pairs: Sequence[Pair], *, higher_is_better: bool = False) -> float:
    """Estimate how often the arm beats the baseline on the same seed, a tie counting half.

    It is paired, unlike rliable's (Agarwal et al. 2021), since the arms share seeds here.

    Args:
        pairs: at least one.
        higher_is_better: of the values.

    Returns:
        A share in [0, 1].
    """
    sign = -1.0 if higher_is_better else 1.0
    wins = sum(0.5 if pair.is_tie else float(sign * pair.arm.value < sign * pair.baseline.value) for pair in pairs)
    return wins / len(pairs)
