"""Measurements that may be cut off: a run that misses its target is right-censored, never dropped or averaged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
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
        limit: where the measurement was cut off, or would have been had the run not arrived before; ``inf``:
            nowhere.
    """

    value: float
    limit: float = math.inf


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

    @property
    def is_missed_by_both(self) -> bool:
        """Whether neither side arrived, so that the pair shows nothing."""
        return self.is_tie and math.isinf(self.arm.value)

    def difference(self, scale: Scale) -> float:
        """Measure the effect in this pair as the test ranks it.

        Args:
            scale: ``ratio``: ``ln(arm / baseline)``; ``difference``: ``arm - baseline``.

        Returns:
            The difference; 0 for a tie, also where both missed; infinite where one side missed.
        """
        if self.is_tie:
            return 0.0
        baseline, arm = (on_scale(side.value, scale) for side in (self.baseline, self.arm))
        return 0.0 if baseline == arm else arm - baseline


def on_scale(value: float, scale: Scale) -> float:
    """Put a value where effects are differences.

    Args:
        value: not negative on the scale ``ratio``.
        scale: of the effect.

    Returns:
        Its logarithm, with those of 0 and infinity, or the value itself.
    """
    if scale == "difference" or math.isinf(value):
        return value
    return math.log(value) if value > 0.0 else -math.inf


def censored_median(values: Iterable[float]) -> float:
    """Take the median of times of which some are infinite.

    Args:
        values: times, ``inf`` for a miss.

    Returns:
        The median: infinite as soon as half the runs miss; NaN where there is no value.
    """
    known = list(values)
    return statistics.median(known) if known else math.nan
