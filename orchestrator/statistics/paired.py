"""The paired comparison of two arms over seeds: test, effect, interval and power."""

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

# Two breakpoints that are closer than this are one breakpoint, computed with different rounding.
APART = 1e-9

Ends = tuple[float, float]


@final
@dataclass(frozen=True)
class Inversion:
    """The signed-rank test of every possible effect, and the interval and the estimate that follow from it.

    To test an effect, the arm's values and limits are shifted back by it, and what either side's limit then hides is
    cut off on both sides. Effects are differences of logarithms on the scale ``ratio``.

    Args:
        pairs: at least one.
        scale: the scale of the effect.
    """

    pairs: Sequence[Pair]
    scale: Scale

    def differences(self, shift: float) -> Floats:
        """Return ``[n]``: the pairs' differences after the arm was shifted back by ``shift``.

        They fall as the shift grows. A difference is 0 where neither side arrives, and infinite where one does.
        """
        import numpy as np

        baseline, arm, baseline_limit, arm_limit = self._sides
        before = np.where(baseline > np.minimum(baseline_limit, arm_limit - shift), math.inf, baseline)
        after = np.where(arm > np.minimum(baseline_limit + shift, arm_limit), math.inf, arm - shift)
        with np.errstate(invalid="ignore"):
            difference = after - before
        # Where neither side arrives, inf - inf is NaN.
        known: Floats = np.where(np.isnan(difference), 0.0, difference)
        return known

    def test(self, shift: float = 0.0) -> tuple[int, float]:
        """Test the effect ``shift``.

        Returns:
            The side of it on which the rank sum puts the arm (-1, 0 or 1), and the exact two-sided p.
        """
        return signed_rank_test(self.differences(shift))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return the ends, which may be infinite, of the interval of effects that the test does not reject.

        The interval contains 0 unless the test rejects it; where the test rejects 0 and an end is 0, the interval
        excludes this end.
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
        """The effect on whose both sides the rank sums are equal; infinite where most misses are on one side."""
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
        """The shifts at which the test can change: two differences become opposite, or a side is newly cut off."""
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
        """Find by bisection the first breakpoint after which ``holds`` is true of the test's result."""
        points = self._breakpoints
        low, high = 0, len(points) + 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(self.test(self._between(middle))) else (middle + 1, high)
        if low == 0:
            return -math.inf
        return math.inf if low > len(points) else float(points[low - 1])

    def _between(self, index: int) -> float:
        """Return a shift between the breakpoints ``index - 1`` and ``index``, or beyond the first or the last one."""
        points = self._breakpoints
        if not len(points):
            return 0.0
        if index == 0:
            return float(points[0]) - 1.0
        return float(points[-1]) + 1.0 if index == len(points) else float(points[index - 1] + points[index]) / 2.0


@final
@dataclass(frozen=True)
class PairedEffect:
    """How an arm compares with its baseline over seeds.

    On the scale ``ratio`` the effect is ``arm / baseline``, and 1 means no effect; on ``difference`` it is
    ``arm - baseline``, and 0 means no effect. A ratio is what people mean by "12 % fewer steps". It compares workloads
    of different lengths, and the slowest seed does not outvote the others. Swapping the arms inverts it, so the
    log-ratio is symmetric about 0 where the arms are exchangeable, as the test assumes.

    Args:
        num_pairs: the number of seeds that both arms ran.
        num_ties: how many of them are equal or missed by both arms.
        estimate: the Hodges-Lehmann estimate; 0 or ``inf`` where most misses are on one side.
        p: the exact two-sided signed-rank p.
        direction: the sign of the rank sum; -1: the arm's values are smaller, 1: larger, 0: neither.
        probability_of_improvement: the share of the seeds on which the arm is better; ties count half.
        probability_interval: its 95 % interval.
        smallest_effect: the ratio above 1, or the difference above 0, that 4 of 5 such sweeps would have found;
            ``inf`` where there is none.
        mean: the geometric mean of the ratios, or the mean of the differences; None where one of them is infinite, and
            with fewer than 20 pairs.
        mean_interval: its 95 % BCa bootstrap interval; None likewise.
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
        scale: the scale of the effect.
        higher_is_better: whether larger values are better; the signs of the effect and of the direction do not depend
            on it.
        alpha: the level at which ``smallest_effect`` is found; with several comparisons, that of Holm's first step.

    Raises:
        ValueError: there is no pair.
    """
    if not pairs:
        raise ValueError("pairs must hold at least one pair, holds none")
    inversion = Inversion(pairs, scale)
    direction, p = inversion.test()
    share, *ends = probability_of_improvement(pairs, higher_is_better=higher_is_better)
    # No shift makes a pair that both arms missed show anything, so the power rests on the other pairs.
    differences = [pair.difference(scale) for pair in pairs if not pair.is_missed_by_both]
    has_mean = MIN_BOOTSTRAP <= len(pairs) == len(differences) and all(map(math.isfinite, differences))
    return PairedEffect(
        num_pairs=len(pairs),
        num_ties=sum(pair.is_tie for pair in pairs),
        estimate=_from_scale(inversion.centre, scale),
        p=p,
        direction=direction,
        probability_of_improvement=share,
        probability_interval=(ends[0], ends[1]),
        smallest_effect=_from_scale(smallest_shift(differences, alpha), scale),
        mean=_from_scale(statistics.fmean(differences), scale) if has_mean else None,
        mean_interval=_ends(bca_interval(differences), scale) if has_mean else None,
    )


def paired_interval(pairs: Sequence[Pair], scale: Scale, alpha: float = ALPHA) -> Ends:
    """Return the ends of the interval of effects that the exact test does not reject.

    The interval contains no effect (1, or 0 on ``difference``) unless the p of :func:`paired_effect` is at most alpha;
    where p is, and an end is no effect, the interval excludes this end.

    Args:
        pairs: at least one, in any order.
        scale: the scale of the effect.
        alpha: the level of the test, after any correction for several comparisons.
    """
    return _ends(Inversion(pairs, scale).interval(alpha), scale)


def rejects_beyond(pairs: Sequence[Pair], scale: Scale, direction: int, amount: float, alpha: float) -> bool:
    """Tell whether the exact test says that the arm lies by more than ``amount`` on one side of the baseline.

    Args:
        pairs: at least one.
        scale: the scale of the effect.
        direction: 1 where the arm's values are the larger ones, -1 where they are the smaller ones.
        amount: at least 0, on the scale: a difference of logarithms on ``ratio``.
        alpha: the level of the two-sided test.
    """
    side, p = Inversion(pairs, scale).test(direction * amount)
    return side == direction and p <= alpha


def _ends(ends: Ends, scale: Scale) -> Ends:
    return _from_scale(ends[0], scale), _from_scale(ends[1], scale)


def _from_scale(value: float, scale: Scale) -> float:
    """Undo :func:`on_scale`."""
    if scale == "difference":
        return value
    return math.inf if value > 700.0 else math.exp(value)
