"""Measurements that may be cut off. A run that misses its target is right-censored; it is never dropped or averaged."""

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
    """What was measured of one run.

    Args:
        value: the measurement; ``inf`` where the run missed its target or diverged, ``-inf`` where more is better.
        limit: the value at which the run was, or would have been, cut off; ``inf`` where nothing cuts it off.
    """

    value: float
    limit: float = math.inf


@final
@dataclass(frozen=True)
class Pair:
    """The baseline's run and the arm's run on one seed."""

    baseline: Measured
    arm: Measured

    @property
    def is_tie(self) -> bool:
        """Whether both values are equal, or both runs missed."""
        return self.baseline.value == self.arm.value

    @property
    def is_missed_by_both(self) -> bool:
        """Whether both runs missed, so that the pair shows nothing."""
        return self.is_tie and math.isinf(self.arm.value)

    def difference(self, scale: Scale) -> float:
        """Return ``ln(arm / baseline)`` on the scale ``ratio``, and ``arm - baseline`` on ``difference``.

        A tie is 0, also where both runs missed. Where one run missed the difference is infinite.
        """
        if self.is_tie:
            return 0.0
        return on_scale(self.arm.value, scale) - on_scale(self.baseline.value, scale)


def on_scale(value: float, scale: Scale) -> float:
    """Return the logarithm of a value that is not negative on the scale ``ratio``, and the value on ``difference``."""
    if scale == "difference" or math.isinf(value):
        return value
    return math.log(value) if value > 0.0 else -math.inf


def censored_median(values: Iterable[float]) -> float:
    """Return the median of times, of which ``inf`` is a miss; NaN where there are none.

    The median is infinite where at least half of the runs missed.
    """
    known = list(values)
    return statistics.median(known) if known else math.nan
