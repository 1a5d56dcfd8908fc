"""Where the baseline was after the seconds that an arm took to its target: the comparison at equal wall-clock."""

from __future__ import annotations

import bisect
import math

from orchestrator.home import value_between
from orchestrator.report.schema import EqualTime, SeedCurve, StudyReport
from orchestrator.spec import Target, is_higher_better
from orchestrator.statistics import censored_median


def equal_time_of(arm: StudyReport, baseline: StudyReport, target: Target) -> EqualTime | None:
    """Read the baseline's curves at the seconds at which an arm reached its target, seed by seed.

    Returns:
        The median over the seeds; None where no seed has both, or the arm is the baseline.
    """
    if arm.arm == baseline.arm or arm.best is None:
        return None
    curves = {curve.seed: curve for curve in baseline.curves}
    found = [
        value
        for run in arm.best.confirm
        if run.seconds_to_target is not None
        and run.seed in curves
        and (value := _at(curves[run.seed], run.seconds_to_target, target)) is not None
    ]
    if not found:
        return None
    sign = -1.0 if is_higher_better(target.metric) else 1.0
    median = sign * censored_median([sign * value for value in found])
    return EqualTime(metric=target.metric, target=target.value, baseline=median, num_seeds=len(found))


def _at(curve: SeedCurve, seconds: float, target: Target) -> float | None:
    """Read the value by then, between evaluations as times to target are; infinitely bad where the run had diverged."""
    values = curve.metrics.get(target.metric)
    if values is None:
        return None
    if curve.is_diverged and seconds > curve.seconds[-1]:
        return -math.inf if is_higher_better(target.metric) else math.inf
    place = max(bisect.bisect_right(curve.seconds, seconds) - 1, 0)
    first, last = values[place], values[min(place + 1, len(values) - 1)]
    if first is None or last is None or place + 1 == len(values):
        return first
    begin, end = curve.seconds[place : place + 2]
    return value_between(target.metric, first, last, (max(seconds, begin) - begin) / (end - begin))
