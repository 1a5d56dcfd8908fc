"""The paired comparison of two arms in one object: test, effect, interval, power."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, final

from orchestrator.statistics.censored import Pair, Scale, on_scale
from orchestrator.statistics.multiplicity import ALPHA, smallest_shift
from orchestrator.statistics.resampling import MIN_BOOTSTRAP, bca_interval, probability_of_improvement
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
