"""Curves of the confirm runs and bands over them, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.home import HistoryRow, Trial, TrialState
from orchestrator.report.schema import Axis, Band, SeedCurve
from orchestrator.spec import is_higher_better

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The curves that have bands begin so.
BANDS = ("train_", "validation_")
AXES: tuple[Axis, ...] = ("step", "seconds", "gradient_evaluations")
MAX_POINTS = 200
DIGITS = 6


def curve_of(trial: Trial) -> SeedCurve | None:
    """Take at most 200 points of a confirm run's curves, both ends among them; None where it has no rows."""
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
            for name in _curves_in(kept)
        },
    )


def _curves_in(rows: Sequence[HistoryRow]) -> list[str]:
    """Name the losses and the task's metrics that these rows hold, and last of all the norm of the gradient."""
    found = dict.fromkeys(name for row in rows for name in row.metrics)
    return [name for name in found if name.startswith(BANDS)] + ["grad_norm"] * ("grad_norm" in found)


def bands_of(curves: Sequence[SeedCurve]) -> tuple[Band, ...]:
    """Take the median and the quartiles over seeds, against steps, seconds and gradient evaluations.

    A run that diverged stays in: from there on its loss is infinite (a metric of which more is better is 0), so that
    the band does not get better by losing its worst run. Against anything but steps each curve is interpolated, as far
    as the shortest run that did not diverge goes. With fewer than two curves there is no band.
    """
    if len(curves) < 2:
        return ()
    return tuple(
        _band(curves, metric, axis)
        for metric in curves[0].metrics
        if metric.startswith(BANDS) and all(metric in curve.metrics for curve in curves)
        for axis in AXES
    )


def _band(curves: Sequence[SeedCurve], metric: str, axis: Axis) -> Band:
    import numpy as np

    positions = _positions(curves, axis)
    worst = 0.0 if is_higher_better(metric) else math.inf
    values = np.empty((len(curves), len(positions)))
    for row, curve in zip(values, curves, strict=True):
        xs, ys = zip(*_points(curve, metric, axis), strict=True)
        # Past its last point a run that diverged is infinitely bad; any other keeps its last value.
        row[:] = np.interp(positions, xs, ys, right=worst if curve.is_diverged else None)
    values.sort(axis=0)
    return Band(
        metric=metric,
        axis=axis,
        x=tuple(_rounded(x) for x in positions),
        median=_quantile(values, 0.5),
        low=_quantile(values, 0.25),
        high=_quantile(values, 0.75),
    )


def _positions(curves: Sequence[SeedCurve], axis: Axis) -> list[float]:
    whole = [curve for curve in curves if not curve.is_diverged] or list(curves)
    if axis == "step":
        return sorted({float(step) for curve in whole for step in curve.step})
    end = min(curve_axis(curve, axis)[-1] for curve in whole)
    num_points = max(len(curve.step) for curve in whole)
    return [end * index / max(num_points - 1, 1) for index in range(num_points)]


def curve_axis(curve: SeedCurve, axis: Axis) -> Sequence[float]:
    """Look up the positions of a curve's points along an axis."""
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


def _quantile(ascending: NDArray[np.float64], share: float) -> tuple[float | None, ...]:
    """Interpolate between order statistics, column by column; None where the quantile is infinite."""
    position = share * (len(ascending) - 1)
    below = math.floor(position)
    weight = position - below
    if weight == 0.0:
        found = ascending[below].tolist()
    else:
        pairs = zip(ascending[below].tolist(), ascending[below + 1].tolist(), strict=True)
        found = [low + weight * (high - low) if math.isfinite(high) else math.inf for low, high in pairs]
    return tuple(None if math.isinf(value) else _rounded(value) for value in found)


def _rounded(value: float) -> float:
    """Keep six significant digits, which are more than a screen shows, in half the bytes."""
    return float(f"{value:.{DIGITS}g}")
