"""Tells when a run reached its target: a moment between two evaluations, and not that of the later one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypedDict, final

from orchestrator.home.records import HistoryRow
from orchestrator.spec import Target, is_higher_better


@final
class TimesToTarget(TypedDict):
    """When a run reached its target: three fields of a :class:`SeedResult`, None where it did not."""

    steps_to_target: float | None
    seconds_to_target: float | None
    gradient_evaluations_to_target: float | None


def times_to_target(target: Target, rows: Iterable[HistoryRow]) -> TimesToTarget:
    """Read off a run's rows when it first reached its target.

    The moment lies between the last evaluation before the target and the first one at it. In between, a positive loss
    is taken to fall along a straight line in its logarithm, and any other metric to move along a straight line. A run
    whose first row is at the target reached it there.
    """
    before: HistoryRow | None = None
    for row in rows:
        if target.is_reached(row.metrics[target.metric]):
            share = 1.0 if before is None else _share(target, before, row)
            first = before or row
            return {
                "steps_to_target": _between(first.step, row.step, share),
                "seconds_to_target": _between(first.seconds, row.seconds, share),
                "gradient_evaluations_to_target": _between(first.gradient_evaluations, row.gradient_evaluations, share),
            }
        before = row
    return {"steps_to_target": None, "seconds_to_target": None, "gradient_evaluations_to_target": None}


def _share(target: Target, before: HistoryRow, row: HistoryRow) -> float:
    """Tell at which share of the way between two rows the metric has the target's value."""
    values = [before.metrics[target.metric], target.value, row.metrics[target.metric]]
    first, wanted, last = map(math.log, values) if _is_log(target.metric, values) else values
    # The logarithms of two neighbouring floats may be equal.
    return 1.0 if first == last else (wanted - first) / (last - first)


def value_between(metric: str, first: float, last: float, share: float) -> float:
    """Tell the value of a metric at a share of the way between two evaluations, as :func:`times_to_target` has it."""
    if _is_log(metric, (first, last)):
        return math.exp(_between(math.log(first), math.log(last), share))
    return _between(first, last, share)


def _is_log(metric: str, values: Iterable[float]) -> bool:
    """Tell whether a metric moves along a straight line in its logarithm between these values: a positive loss does."""
    return not is_higher_better(metric) and min(values) > 0.0


def _between(first: float, last: float, share: float) -> float:
    return (1.0 - share) * first + share * last
