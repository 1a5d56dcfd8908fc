"""Runs of two arms side by side, and the interval of the effect that they show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.report.metrics import Metric
from orchestrator.report.schema import ConfirmSeed, Interval, IntervalMethod
from orchestrator.statistics import Cell, CrossedEffect, Pair, paired_interval


def by_cell(runs: Iterable[ConfirmSeed]) -> dict[Cell, ConfirmSeed]:
    """Tell each run by replicate and seed; a run whose settings several searches found stands for each of them."""
    return {(replicate, run.seed): run for run in runs for replicate in run.replicates}


def pairs_of(sides: Mapping[Cell, tuple[ConfirmSeed, ConfirmSeed]], metric: Metric) -> dict[Cell, Pair]:
    """Measure the runs of the baseline and of the arm; where one lacks the figure there is no pair."""
    measured = {cell: (metric.measure(before), metric.measure(after)) for cell, (before, after) in sides.items()}
    return {
        cell: Pair(before, after)
        for cell, (before, after) in measured.items()
        if before is not None and after is not None
    }


def interval_of(
    pairs: Sequence[Pair],
    crossed: CrossedEffect | None,
    metric: Metric,
    alpha: float,
    p: float,
    method: IntervalMethod = "signed-rank",
) -> Interval:
    """Make the interval of effects that the test at this level does not reject.

    Args:
        pairs: what was measured.
        crossed: what the interval rests on in place of the pairs, where the settings come from several searches.
        metric: what was measured.
        alpha: the level.
        p: of the same test.
        method: the interval's kind where it rests on the pairs.
    """
    if crossed is None:
        low, high = paired_interval(pairs, metric.scale, alpha)
    else:
        (low, high), method = crossed.interval(alpha), "crossed"
    return Interval(low=low, high=high, confidence=1.0 - alpha, method=method, excludes_none=p <= alpha)
