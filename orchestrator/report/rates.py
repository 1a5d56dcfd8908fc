"""What the confirm grid says of a comparison: the effect at every learning rate, and whether a claim may be made.

Each arm is compared at its own best point. Where the two best points differ, the difference between them may be one of
the learning rates and not of the arms. Then a claim is made only if the arms differ the same way at *both* best points,
or if the test still rejects after every difference is made smaller by what a peak between two grid points can hide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.report.metrics import Metric
from orchestrator.report.pairs import by_cell, interval_of, pairs_of
from orchestrator.report.schema import GridResult, PointEffect, StudyReport
from orchestrator.statistics import ALPHA, MISS_FACTOR, CrossedEffect, on_scale, paired_effect

# A parabola through three neighbours has its peak at most half a step from the middle one, and is there lower by the
# second difference over 8.
HIDDEN = 8.0


@final
@dataclass(frozen=True)
class RateRule:
    """What decides whether a difference between two arms goes beyond their learning rates.

    Args:
        is_same_point: whether both arms are best at the same point.
        signs: at the best point of either arm the side on which the arm lies: -1, 0 or 1.
        hidden: by how much a peak between two points may lie below the lowest point, on the metric's scale; None where
            it cannot be told.
    """

    is_same_point: bool
    signs: tuple[int, int]
    hidden: float | None

    def allows(self, direction: int, rejects_beyond: Callable[[float], bool]) -> bool:
        """Tell whether a claim may be made of an effect that the test puts on this side.

        Args:
            direction: 1 where the arm's values are the larger ones, -1 where they are the smaller ones.
            rejects_beyond: tells whether the test still rejects that the arm lies by at most so much on that side.
        """
        if self.is_same_point or self.signs == (direction, direction):
            return True
        return self.hidden is not None and rejects_beyond(self.hidden)


def rate_rule(baseline: StudyReport, arm: StudyReport, metric: Metric) -> RateRule | None:
    """Work out the rule for two arms; None where they were not confirmed on a grid."""
    places = [next((at for at, point in enumerate(s.grid) if point.is_best), None) for s in (baseline, arm)]
    if None in places or len(baseline.grid) != len(arm.grid):
        return None
    curves = [[_mean(point, metric) for point in study.grid] for study in (baseline, arm)]
    signs = tuple(_sign(curves[0][at], curves[1][at]) for at in places if at is not None)
    hidden = [_hidden(curve, at) for curve, at in zip(curves, places, strict=True) if at is not None]
    known = [one for one in hidden if one is not None]
    return RateRule(
        is_same_point=places[0] == places[1],
        signs=(signs[0], signs[1]),
        hidden=max(known) if len(known) == len(hidden) else None,
    )


def _mean(point: GridResult, metric: Metric) -> float | None:
    """Average a metric over the seeds of a point on the scale of its effects; None where a run has no finite value."""
    values = []
    for run in point.confirm:
        found = metric.measure(run) if run.is_answer else None
        if found is None:
            continue
        is_miss = metric.is_time and metric.is_miss(run)
        values.append(on_scale(MISS_FACTOR * found.limit if is_miss else found.value, metric.scale))
    if not values or any(abs(value) == float("inf") for value in values):
        return None
    return sum(values) / len(values)


def _sign(baseline: float | None, arm: float | None) -> int:
    if baseline is None or arm is None or baseline == arm:
        return 0
    return 1 if arm > baseline else -1


def _hidden(curve: Sequence[float | None], best: int) -> float | None:
    """By how much a peak near a best point may lie below it; at the end of the grid by the three points there."""
    if len(curve) < 3:
        return None
    middle = min(max(best, 1), len(curve) - 2)
    before, at, after = curve[middle - 1 : middle + 2]
    if before is None or at is None or after is None:
        return None
    return abs(before - 2.0 * at + after) / HIDDEN


def point_effects(baseline: StudyReport, arm: StudyReport, metric: Metric) -> tuple[PointEffect, ...]:
    """Compare two arms at every point of their grid, each by itself; empty where there is none."""
    if len(baseline.grid) != len(arm.grid):
        return ()
    found = (_point_effect(before, after, metric) for before, after in zip(baseline.grid, arm.grid, strict=True))
    return tuple(found)


def _point_effect(before: GridResult, after: GridResult, metric: Metric) -> PointEffect:
    sides = [by_cell(run for run in point.confirm if run.is_answer) for point in (before, after)]
    both = {cell: (run, sides[1][cell]) for cell, run in sides[0].items() if cell in sides[1]}
    by_cells = pairs_of(both, metric)
    pairs, crossed = list(by_cells.values()), CrossedEffect.of(by_cells, metric.scale)
    blank = PointEffect(
        rate=before.rate,
        num_pairs=len(pairs),
        num_baseline_misses=sum(metric.is_miss(b) for b, _ in both.values()),
        num_arm_misses=sum(metric.is_miss(a) for _, a in both.values()),
    )
    if not pairs or all(pair.is_missed_by_both for pair in pairs):
        return blank
    if crossed is not None:
        estimate, p = crossed.estimate, crossed.p_beyond()
    else:
        effect = paired_effect(pairs, metric.scale, higher_is_better=metric.higher_is_better, alpha=ALPHA)
        estimate, p = effect.estimate, effect.p
    interval = interval_of(pairs, crossed, metric, ALPHA, p)
    return blank.model_copy(update={"estimate": estimate, "interval": interval})
