"""The effects that a signed-rank test does not reject: estimate and interval, also where runs were cut off.

An effect ``s`` says that the arm's time is the baseline's, shifted by ``s`` (on a logarithmic scale: multiplied).
To test it, the arm's times are shifted back. That shifts its budget too, so both sides are then cut off at the
earlier of the two budgets: after this the sides are exchangeable under the hypothesis, whatever was censored, and
the exact test of :mod:`orchestrator.statistics.signed_rank` holds its level at *every* ``s``. At ``s = 0`` it is the
test of the report itself, so interval and p cannot disagree. Cutting both sides alike is known as recensoring
(Robins and Tsiatis 1991); the inversion is Hodges and Lehmann's (1963), to which it comes down where nothing is cut
off.

Equal budgets make it exact. Where the sides' own limits differ (seconds), the arm's is shifted back with it, and
both are cut off at the earlier of that and the baseline's: a run that arrives is not lost for taking far longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, final

from orchestrator.statistics.censored import Pair, Scale, on_scale
from orchestrator.statistics.signed_rank import signed_rank_test

if TYPE_CHECKING:
    from orchestrator.statistics.signed_rank import Floats

# Breakpoints closer than this are one: they are the same fraction, rounded apart.
APART = 1e-9


@final
@dataclass(frozen=True)
class Inversion:
    """The signed-rank test of every effect.

    Args:
        pairs: at least one.
        scale: effects are differences of logarithms, or differences.
    """

    pairs: Sequence[Pair]
    scale: Scale

    def differences(self, shift: float) -> Floats:
        """Compare the sides after the arm was shifted back.

        Args:
            shift: the effect to be tested.

        Returns:
            ``[n]``, monotone in the shift; 0 where neither side arrives, infinite where one does.
        """
        import numpy as np

        baseline, arm, baseline_limit, arm_limit = self._sides
        before = np.where(baseline > np.minimum(baseline_limit, arm_limit - shift), math.inf, baseline)
        after = np.where(arm > np.minimum(baseline_limit + shift, arm_limit), math.inf, arm - shift)
        with np.errstate(invalid="ignore"):
            difference = after - before
        # inf - inf: neither arrives.
        found: Floats = np.where(np.isnan(difference), 0.0, difference)
        return found

    def test(self, shift: float = 0.0) -> tuple[int, float]:
        """Test an effect.

        Args:
            shift: the effect.

        Returns:
            On which side of it the arm's values lie by their rank sum (-1, 0 or 1), and the exact two-sided p.
        """
        return signed_rank_test(self.differences(shift))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Gather the effects that the test does not reject.

        Args:
            alpha: level of the test, in (0, 1).

        Returns:
            The ends, either may be infinite. No effect lies inside, or at an end, unless the test rejects it; an
            end at 0 is open where it does.
        """
        side, p = self.test()
        rejected = side if p <= alpha else 0
        low = 0.0 if rejected > 0 else -math.inf
        high = 0.0 if rejected < 0 else math.inf

        def is_below(found: tuple[int, float]) -> bool:
            return found[0] > 0 and found[1] <= alpha

        def is_above(found: tuple[int, float]) -> bool:
            return found[0] < 0 and found[1] <= alpha

        left, right = self._first(lambda found: not is_below(found)), self._first(is_above)
        if rejected == 0:
            left, right = min(left, 0.0), max(right, 0.0)
        return min(max(left, low), high), max(min(right, high), low)

    @property
    def centre(self) -> float:
        """The effect that leaves as much on one side as on the other; infinite where misses on one side prevail."""
        left = self._first(lambda found: found[0] <= 0)
        right = self._first(lambda found: found[0] < 0)
        if math.isinf(left) and math.isinf(right):
            return left if left == right else 0.0
        return (left + right) / 2.0

    @cached_property
    def _sides(self) -> tuple[Floats, Floats, Floats, Floats]:
        import numpy as np

        rows = [(pair.baseline.value, pair.arm.value, pair.baseline.limit, pair.arm.limit) for pair in self.pairs]
        first, second, third, fourth = np.array([[on_scale(v, self.scale) for v in row] for row in rows]).T
        return first, second, third, fourth

    @cached_property
    def _breakpoints(self) -> Floats:
        """Where the test can change: where two differences are opposite, and where a side is newly cut off."""
        import numpy as np

        baseline, arm, baseline_limit, arm_limit = self._sides
        with np.errstate(invalid="ignore"):
            known = arm - baseline
            cut = np.concatenate([arm_limit - baseline, arm - baseline_limit])
        known = known[np.isfinite(known)]
        first, second = np.triu_indices(len(known))
        found = np.sort(np.concatenate([(known[first] + known[second]) / 2.0, cut[np.isfinite(cut)]]))
        return found[np.diff(found, prepend=-math.inf) > APART]

    def _first(self, holds: Callable[[tuple[int, float]], bool]) -> float:
        """Find the breakpoint from which on something holds, by bisection of the open intervals between them."""
        points = self._breakpoints
        low, high = 0, len(points) + 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(self.test(self._between(middle))) else (middle + 1, high)
        if low == 0:
            return -math.inf
        return math.inf if low > len(points) else float(points[low - 1])

    def _between(self, index: int) -> float:
        """A point left of all breakpoints, between two, or right of all."""
        points = self._breakpoints
        if not len(points):
            return 0.0
        if index == 0:
            return float(points[0]) - 1.0
        return float(points[-1]) + 1.0 if index == len(points) else float(points[index - 1] + points[index]) / 2.0
