"""The effect of a method over several settings of it, each found by a search of its own, and over seeds.

Settings and seeds are crossed: every setting runs on every seed, so ``d[r, s] = effect + a[r] + b[s] + e[r, s]``, where
``a`` is the luck of search ``r``, ``b`` that of seed ``s``, and ``e`` what is left. The effect is the mean of all. Its
variance has both components, in the mean squares of the two-way table (Searle, Casella and McCulloch 1992, chapter
4): ``(MS_r + MS_s - MS_e) / (R S)``, and never less than what either factor has alone. Test and interval are Student's,
with Satterthwaite's (1946) degrees of freedom, at least those of the smaller factor. So a verdict over ``R`` searches
speaks of the method as it is searched for, and not of the settings that one search has found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self, final

from orchestrator.statistics.censored import Pair, Scale, on_scale
from orchestrator.statistics.multiplicity import smallest_p
from orchestrator.statistics.transfer import MISS_FACTOR

Cell = tuple[int, int]


@final
@dataclass(frozen=True)
class CrossedEffect:
    """An effect over crossed replicates and seeds.

    Args:
        differences: ``[R][S]``, arm minus baseline on the scale, at least two of each.
        scale: the scale of the effect.
    """

    differences: tuple[tuple[float, ...], ...]
    scale: Scale

    @classmethod
    def of(cls, pairs: Mapping[Cell, Pair], scale: Scale) -> Self | None:
        """Arrange pairs by replicate and seed; a miss counts as twice its limit.

        Returns:
            None with fewer than two replicates or seeds that are complete, or where a value is not finite.
        """
        replicates = sorted({replicate for replicate, _ in pairs})
        seeds = sorted({seed for _, seed in pairs if all((replicate, seed) in pairs for replicate in replicates)})
        if len(replicates) < 2 or len(seeds) < 2:
            return None
        table = tuple(tuple(_difference(pairs[r, s], scale) for s in seeds) for r in replicates)
        return cls(table, scale) if all(math.isfinite(value) for row in table for value in row) else None

    @property
    def on_scale(self) -> float:
        """The mean difference: a logarithm on ``ratio``."""
        rows = [sum(row) / len(row) for row in self.differences]
        return sum(rows) / len(rows)

    @property
    def estimate(self) -> float:
        """The effect, a ratio or a difference."""
        return self._from_scale(self.on_scale)

    @property
    def direction(self) -> int:
        """On which side of the baseline the arm lies: -1, 0 or 1."""
        return (self.on_scale > 0.0) - (self.on_scale < 0.0)

    @cached_property
    def _error(self) -> tuple[float, float]:
        """The standard error of the mean difference, and its degrees of freedom."""
        table, mean = self.differences, self.on_scale
        num_r, num_s = len(table), len(table[0])
        rows = [sum(row) / num_s for row in table]
        columns = [sum(row[s] for row in table) / num_r for s in range(num_s)]
        of_r = num_s * sum((row - mean) ** 2 for row in rows) / (num_r - 1)
        of_s = num_r * sum((column - mean) ** 2 for column in columns) / (num_s - 1)
        left = [table[r][s] - rows[r] - columns[s] + mean for r in range(num_r) for s in range(num_s)]
        of_e = sum(value**2 for value in left) / ((num_r - 1) * (num_s - 1))
        variance = max(of_r + of_s - of_e, of_r, of_s)
        parts = ((of_r, num_r - 1), (of_s, num_s - 1), (of_e, (num_r - 1) * (num_s - 1)))
        spread = sum(part**2 / of for part, of in parts)
        least = min(num_r, num_s) - 1.0
        freedom = least if spread == 0.0 else max(least, variance**2 / spread)
        return math.sqrt(variance / (num_r * num_s)), freedom

    def p_beyond(self, amount: float = 0.0) -> float:
        """Give the two-sided p of the hypothesis that the effect is ``amount``, on the scale."""
        from scipy.special import stdtr

        error, freedom = self._error
        away = abs(self.on_scale - amount)
        if error == 0.0:  # all differences are equal, which says no more than that all seeds agree
            return 1.0 if away == 0.0 else smallest_p(len(self.differences[0]))
        return float(2.0 * stdtr(freedom, -away / error))

    def interval(self, alpha: float) -> tuple[float, float]:
        """Give the ends of the interval of effects that the test at this level does not reject."""
        from scipy.special import stdtrit

        error, freedom = self._error
        half, mean = error * float(stdtrit(freedom, 1.0 - alpha / 2.0)), self.on_scale
        low, high = mean - half, mean + half
        if error == 0.0 and self.p_beyond() > alpha:
            low, high = min(low, 0.0), max(high, 0.0)
        return self._from_scale(low), self._from_scale(high)

    def smallest_effect(self, alpha: float, power: float = 0.8) -> float:
        """Give the ratio above 1, or the difference above 0, that so many of such sweeps would have found."""
        from scipy.special import stdtrit

        error, freedom = self._error
        return self._from_scale(error * float(stdtrit(freedom, 1.0 - alpha / 2.0) + stdtrit(freedom, power)))

    def rejects_beyond(self, direction: int, amount: float, alpha: float) -> bool:
        """Tell whether the test says that the arm lies by more than ``amount`` on one side of the baseline."""
        return direction * self.on_scale > amount and self.p_beyond(direction * amount) <= alpha

    def _from_scale(self, value: float) -> float:
        if self.scale == "difference":
            return value
        return math.inf if value > 700.0 else math.exp(value)


def _difference(pair: Pair, scale: Scale) -> float:
    sides = (
        on_scale(MISS_FACTOR * side.limit if side.value == math.inf else side.value, scale)
        for side in (pair.baseline, pair.arm)
    )
    before, after = sides
    return after - before
