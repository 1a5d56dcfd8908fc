"""Which share of an arm's confirm runs has reached the target by when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from orchestrator.report.metrics import TIMES
from orchestrator.report.schema import Arrival, ConfirmSeed, TimeMetric
from orchestrator.statistics import arrivals


def arrivals_of(runs: Sequence[ConfirmSeed]) -> tuple[Arrival, ...]:
    """Estimate an arm's arrival curve (Kaplan-Meier) for each time metric; empty before a run has given an answer."""
    answers = [run for run in runs if run.is_answer]
    return tuple(_curves(answers)) if answers else ()


def _curves(runs: Sequence[ConfirmSeed]) -> Iterator[Arrival]:
    by_name = {metric.name: metric for metric in TIMES}
    for name in get_args(TimeMetric):
        sides = [side for run in runs if (side := by_name[name].measure(run)) is not None]
        found = arrivals(sides)
        yield Arrival(
            metric=name,
            x=found.times,
            share=found.share,
            low=found.low,
            high=found.high,
            num_waiting=found.num_waiting,
            num_runs=len(sides),
        )
