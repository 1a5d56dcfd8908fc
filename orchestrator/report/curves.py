"""Curves of the confirm runs and bands over them, as plain numbers."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from orchestrator.report.schema import Axis, Band, SeedCurve
from orchestrator.results import Trial, TrialState

CURVES = ("train_loss", "validation_loss", "validation_accuracy", "grad_norm")
BANDS = ("train_loss", "validation_loss", "validation_accuracy")
AXES: tuple[Axis, ...] = ("step", "seconds", "gradient_evaluations")
MAX_POINTS = 200
DIGITS = 6


def curve_of(trial: Trial) -> SeedCurve | None:
    """Take a confirm run's curves, at most 200 points of them.

    Args:
        trial: with its history.

    Returns:
        The curves, first and last row always among them; None where nothing was measured.
    """
    rows = trial.history
    if not rows:
        return None
    stride = math.ceil((len(rows) - 1) / (MAX_POINTS - 1)) or 1
    kept = [*rows[: len(rows) - 1 : stride], rows[-1]]
    return SeedCurve(
        seed=trial.config.seeds[0],
        is_diverged=trial.result is not None and trial.result.state is TrialState.FAIL,
        step=tuple(row.step for row in kept),
        seconds=tuple(_rounded(row.seconds) for row in kept),
        gradient_evaluations=tuple(_rounded(row.gradient_evaluations) for row in kept),
        metrics={
            name: tuple(_rounded(row.metrics[name]) if name in row.metrics else None for row in kept)
            for name in CURVES
            if any(name in row.metrics for row in kept)
        },
    )


def bands_of(curves: Sequence[SeedCurve]) -> tuple[Band, ...]:
    """Take the median and the quartiles over seeds, against steps, seconds and gradient evaluations.

    A run that diverged stays in: from there on its loss is infinite (its accuracy 0), so that the band does not
    get better by losing its worst run. Against anything but steps each curve is interpolated, as far as the shortest
    run that did not diverge goes.

    Args:
        curves: one per seed; with fewer than two there is no band.

    Returns:
        A band for each metric and axis.
    """
    if len(curves) < 2:
        return ()
    return tuple(
        _band(curves, metric, axis)
        for metric in BANDS
        if all(metric in curve.metrics for curve in curves)
        for axis in AXES
    )


def _band(curves: Sequence[SeedCurve], metric: str, axis: Axis) -> Band:
    positions = _positions(curves, axis)
    worst = 0.0 if metric.endswith("accuracy") else math.inf
    known = [_points(curve, metric, axis) for curve in curves]
    columns = [
        sorted(
            _at(points, x, worst if curve.is_diverged else None) for points, curve in zip(known, curves, strict=True)
        )
        for x in positions
    ]
    return Band(
        metric=metric,
        axis=axis,
        x=tuple(_rounded(x) for x in positions),
        median=tuple(_quantile(column, 0.5) for column in columns),
        low=tuple(_quantile(column, 0.25) for column in columns),
        high=tuple(_quantile(column, 0.75) for column in columns),
    )


def _positions(curves: Sequence[SeedCurve], axis: Axis) -> list[float]:
    whole = [curve for curve in curves if not curve.is_diverged] or list(curves)
    if axis == "step":
        return sorted({float(step) for curve in whole for step in curve.step})
    end = min(curve_axis(curve, axis)[-1] for curve in whole)
    num_points = max(len(curve.step) for curve in whole)
    return [end * index / max(num_points - 1, 1) for index in range(num_points)]


def curve_axis(curve: SeedCurve, axis: Axis) -> Sequence[float]:
    """Look up what a curve is drawn against."""
    match axis:
        case "step":
            return curve.step
        case "seconds":
            return curve.seconds
        case "gradient_evaluations":
            return curve.gradient_evaluations


def _points(curve: SeedCurve, metric: str, axis: Axis) -> list[tuple[float, float]]:
    return [
        (x, value) for x, value in zip(curve_axis(curve, axis), curve.metrics[metric], strict=True) if value is not None
    ]


def _at(points: Sequence[tuple[float, float]], x: float, after_end: float | None) -> float:
    """Interpolate linearly; past its last point a run has the value given, or stays put."""
    place = bisect.bisect_left(points, (x, -math.inf))
    if place == len(points):
        return points[-1][1] if after_end is None else after_end
    if place == 0 or points[place][0] == x:
        return points[place][1]
    (left, before), (right, after) = points[place - 1], points[place]
    return before + (after - before) * (x - left) / (right - left)


def _quantile(ascending: Sequence[float], share: float) -> float | None:
    """Interpolate between order statistics; None where that is infinite."""
    position = share * (len(ascending) - 1)
    below = math.floor(position)
    weight = position - below
    value = ascending[below]
    if weight > 0.0:
        above = ascending[below + 1]
        value = math.inf if math.isinf(above) else value + weight * (above - value)
    return None if math.isinf(value) else _rounded(value)


def _rounded(value: float) -> float:
    """Six significant digits: more than a screen shows, half the bytes."""
    return float(f"{value:.{DIGITS}g}")
