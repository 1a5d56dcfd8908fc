"""Which share of the confirm runs has reached the target by when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

from orchestrator.report.figures.frame import TIME_METRICS, Figure, Trace, band_edges, layout_of
from orchestrator.report.metrics import METRICS
from orchestrator.report.schema import Arrival, StudyReport, TimeMetric


def arrival_figures(studies: Sequence[StudyReport], colours: dict[str, str]) -> list[Figure]:
    """Draw the share of seeds that reached the target, against steps, seconds and gradient evaluations.

    Args:
        studies: of one workload.
        colours: by arm.

    Returns:
        A figure for each axis, in one place; empty before a confirm run has given an answer.
    """
    if not any(study.arrivals for study in studies):
        return []
    return [_figure(studies, colours, metric) for metric in get_args(TimeMetric)]


def _figure(studies: Sequence[StudyReport], colours: dict[str, str], metric: TimeMetric) -> Figure:
    found = [(study, curve) for study in studies for curve in study.arrivals if curve.metric == metric]
    cuts = {study.arm: _cut_off(study, metric) for study in studies}
    last = max([0.0, *(x for _, curve in found for x in curve.x), *(x for each in cuts.values() for x in each)])
    data: list[Trace] = []
    for study, curve in found:
        end = last if curve.share[-1:] == (1.0,) else max([0.0, *curve.x, *cuts[study.arm]])
        data += _traces(study.arm, curve, cuts[study.arm], end, colours[study.arm])
    option, title = TIME_METRICS[metric]
    layout = layout_of(title, "share of seeds that arrived")
    layout["xaxis"] |= {"rangemode": "tozero"}
    layout["yaxis"] |= {"range": [-0.03, 1.05], "tickformat": ".0%"}
    workload = studies[0].workload
    is_cut = any(cuts[study.arm] for study, _ in found)
    return Figure(
        key=f"{workload}-arrivals-{option}",
        workload=workload,
        title="Seeds that reached the target by when",
        caption="The arm whose line rises further left arrives sooner, and the height where it ends is the share that "
        "arrived at all (Kaplan-Meier; band: exact pointwise 95 % interval)."
        + " A tick on a line is a run that missed and was cut off there."
        * is_cut,
        data=data,
        layout=layout,
        group=f"{workload}-arrivals",
        option=option,
    )


def _cut_off(study: StudyReport, metric: TimeMetric) -> list[float]:
    """Where runs that missed were cut off; one that was broken off never arrives and is none of them."""
    measure = next(each for each in METRICS if each.name == metric).measure
    runs = study.best.confirm if study.best else ()
    sides = [side for run in runs if run.outcome == "missed" and (side := measure(run)) is not None]
    return sorted(side.limit for side in sides if math.isfinite(side.limit))


def _traces(arm: str, curve: Arrival, cuts: Sequence[float], end: float, colour: str) -> list[Trace]:
    """Draw one arm: nothing before the first arrival, the share at each, and the last one until the end."""
    xs = [0.0, *curve.x, end]
    share, low, high = ([0.0, *ends, *(ends[-1:] or (0.0,))] for ends in (curve.share, curve.low, curve.high))
    waiting = [curve.num_runs, *curve.num_waiting, *curve.num_waiting[-1:]]
    steps = {"color": colour, "width": 2.5, "shape": "hv"}
    shared: Trace = {"type": "scatter", "legendgroup": arm, "name": arm}
    traces = [
        *band_edges(arm, xs[1:], low[1:], high[1:], colour, shape="hv"),
        shared
        | {
            "mode": "lines",
            "x": xs,
            "y": share,
            "line": steps,
            "text": [f"of {count} waiting just before, of {curve.num_runs} runs" for count in waiting[: len(xs)]],
            "hovertemplate": f"{arm}, by %{{x:.4g}}: %{{y:.0%}}<br>%{{text}}<extra></extra>",
        },
    ]
    if cuts:
        marks = {"color": colour, "size": 12, "symbol": "line-ns", "line": {"color": colour, "width": 2}}
        traces.append(
            shared
            | {
                "mode": "markers",
                "x": list(cuts),
                "y": [_share_at(curve, x) for x in cuts],
                "marker": marks,
                "showlegend": False,
                "hovertemplate": f"{arm}: missed, cut off at %{{x:.4g}}<extra></extra>",
            }
        )
    return traces


def _share_at(curve: Arrival, x: float) -> float:
    return max([0.0, *(share for at, share in zip(curve.x, curve.share, strict=True) if at <= x)])
