"""Curves of the confirm runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from orchestrator.report.curves import curve_axis
from orchestrator.report.figures.axes import numeric_axis
from orchestrator.report.figures.frame import Figure, Trace, band_edges, layout_of, trace
from orchestrator.report.palette import MUTED
from orchestrator.report.schema import Axis, SeedCurve, StudyReport
from orchestrator.report.wording import metric_words
from orchestrator.spec import is_higher_better

AXES: dict[Axis, tuple[str, str]] = {
    "step": ("optimizer steps", "steps"),
    "seconds": ("seconds (optimizer clock)", "seconds"),
    "gradient_evaluations": ("gradient evaluations", "gradients"),
}
# The most points of all thin lines of a figure; more would cost megabytes and only cover each other.
MAX_DRAWN = 8_000
FEWEST_POINTS = 25
MAX_LINES = MAX_DRAWN // FEWEST_POINTS

HEADROOM = 3.0


def curve_figure(
    studies: Sequence[StudyReport], colours: dict[str, str], metric: str, axis: Axis, target: float | None
) -> Figure:
    """Draw the confirm runs' curves: each seed as a thin line, their median as a thick one, their quartiles as a band.

    Args:
        studies: those of one workload.
        colours: arm -> colour.
        metric: name of the curves.
        axis: what they are drawn against.
        target: drawn as a dashed line; None: there is none.
    """
    shown, stride = _thinned(studies)
    data: list[Trace] = []
    for study in studies:
        data += _seed_lines(study.arm, shown[study.arm], colours[study.arm], metric, axis, stride)
    for study in studies:
        data += _band(study, colours[study.arm], metric, axis)
    title = metric_words(metric)
    is_log = not is_higher_better(metric)
    layout = layout_of(AXES[axis][0], f"{title} ({'log scale' if is_log else 'share'})")
    layout["xaxis"] |= numeric_axis(
        (x for each in data for x in each["x"]), is_integer=axis != "seconds", from_zero=True
    )
    caption = "Each thin line is a confirm seed. The thick line is their median, the band their quartiles."
    caption += _left_out(studies, shown, stride)
    values = [y for each in data for y in each["y"]] + [target]
    if is_log:
        ceiling = _ceiling(studies, metric)
        layout["yaxis"] |= numeric_axis((min(y, ceiling) for y in values if y is not None), is_log=True)
        if any(y > ceiling for y in values if y is not None):
            caption += (
                f" Runs beyond {ceiling:.3g}, which is {HEADROOM:g} times the largest value at the start, leave the "
                "figure."
            )
    else:
        layout["yaxis"] |= numeric_axis(values)
    ends = [x for study in studies for curve in study.curves for x in _ends(curve, axis)]
    if target is not None and ends and (target > 0.0 or not is_log):
        line = {"color": MUTED[0], "width": 1.5, "dash": "dash"}
        data.append(trace("lines", "target", [min(ends), max(ends)], [target, target], line=line, showlegend=False))
        layout["annotations"] = [_target_label(target, is_log)]
    return Figure(
        key=f"{studies[0].workload}-{metric}-{axis}",
        workload=studies[0].workload,
        title=f"{title} against {AXES[axis][0]}".capitalize(),
        caption=caption,
        data=data,
        layout=layout,
        group=f"{studies[0].workload}-{metric}",
        option=AXES[axis][1],
    )


def _ends(curve: SeedCurve, axis: Axis) -> tuple[float, float]:
    along = curve_axis(curve, axis)
    return along[0], along[-1]


def _thinned(studies: Sequence[StudyReport]) -> tuple[dict[str, Sequence[SeedCurve]], int]:
    """Choose which runs are drawn as thin lines, and at which stride their points."""
    most = max(1, MAX_LINES // max(1, len(studies)))
    shown: dict[str, Sequence[SeedCurve]] = {study.arm: study.curves[:most] for study in studies}
    num_points = sum(len(curve.step) for curves in shown.values() for curve in curves)
    return shown, max(1, math.ceil(num_points / MAX_DRAWN))


def _left_out(studies: Sequence[StudyReport], shown: dict[str, Sequence[SeedCurve]], stride: int) -> str:
    """Say which seeds and points are not drawn; empty where all are."""
    most, drawn = max(len(study.curves) for study in studies), max(map(len, shown.values()))
    told = f" Of {most:,} seeds an arm the first {drawn:,} are drawn thin." if drawn < most else ""
    return told + f" Thin lines have every {stride}th point; report.json has all of these." * (stride > 1)


def _seed_lines(
    arm: str, curves: Sequence[SeedCurve], colour: str, metric: str, axis: Axis, stride: int
) -> list[Trace]:
    return [
        trace(
            "lines",
            arm,
            _every(curve_axis(curve, axis), stride),
            _every(curve.metrics[metric], stride),
            hover=f"{arm}, seed {curve.seed}{', diverged' * curve.is_diverged}<br>%{{x:.4g}}: %{{y:.4g}}",
            line={"color": colour, "width": 1},
            opacity=0.35,
            legendgroup=arm,
            showlegend=False,
        )
        for curve in curves
        if metric in curve.metrics
    ]


def _every(points: Sequence[float | None], stride: int) -> list[float | None]:
    """Thin a line; its last point stays."""
    return [*points[: len(points) - 1 : stride], points[-1]]


def _band(study: StudyReport, colour: str, metric: str, axis: Axis) -> list[Trace]:
    band = next((b for b in study.bands if (b.metric, b.axis) == (metric, axis)), None)
    if band is None:
        return []
    known = [
        (x, low, high)
        for x, low, high in zip(band.x, band.low, band.high, strict=True)
        if low is not None and high is not None
    ]
    xs, low, high = ([point[place] for point in known] for place in range(3))
    hover = f"{study.arm}, median<br>%{{x:.4g}}: %{{y:.4g}}"
    line = {"color": colour, "width": 3}
    return [
        *band_edges(study.arm, xs, low, high, colour),
        trace("lines", study.arm, band.x, band.median, hover=hover, line=line, legendgroup=study.arm),
    ]


def _ceiling(studies: Sequence[StudyReport], metric: str) -> float:
    """Choose where the axis ends, since one run that diverges would press all others flat."""
    firsts = (curve.metrics[metric][0] for study in studies for curve in study.curves if curve.metrics.get(metric))
    starts = [first for first in firsts if first is not None]
    return HEADROOM * max(starts) if starts and max(starts) > 0.0 else math.inf


def _target_label(target: float, is_log: bool) -> dict[str, Any]:
    """Plotly wants an annotation's place on a logarithmic axis as its logarithm."""
    return {
        "text": f"target {target:g}",
        "xref": "paper",
        "x": 1.0,
        "xanchor": "right",
        "y": math.log10(target) if is_log else target,
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"color": MUTED[0], "size": 12},
    }
