"""Which share of the confirm runs has reached the target by when."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.report.figures.axes import numeric_axis, share_axis
from orchestrator.report.figures.frame import TIME_METRICS, Figure, Trace, band_edges, layout_of, trace
from orchestrator.report.metrics import TIMES
from orchestrator.report.schema import TIME_METRICS as METRIC_NAMES
from orchestrator.report.schema import Arrival, StudyReport, TimeMetric


def arrival_figures(studies: Sequence[StudyReport], colours: dict[str, str]) -> list[Figure]:
    """Draw the share of a workload's seeds that reached the target, against steps, seconds and gradient evaluations.

    There is no figure before a confirm run has given an answer.
    """
    if not any(study.arrivals for study in studies):
        return []
    return [_figure(studies, colours, metric) for metric in METRIC_NAMES]


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
    layout["xaxis"] |= numeric_axis([last], is_integer=metric != "seconds_to_target", from_zero=True)
    layout["yaxis"] |= share_axis()
    workload = studies[0].workload
    caption = (
        "The arm whose line rises further left arrives sooner. The height at which its line ends is the share of its "
        "seeds that arrived at all (Kaplan-Meier estimate). The band is the exact pointwise 95 % interval."
    )
    if any(cuts[study.arm] for study, _ in found):
        caption += " A tick on a line is a run that missed the target and was cut off there."
    return Figure(
        key=f"{workload}-arrivals-{option}",
        workload=workload,
        title="Seeds that reached the target by when",
        caption=caption,
        data=data,
        layout=layout,
        group=f"{workload}-arrivals",
        option=option,
    )


def _cut_off(study: StudyReport, metric: TimeMetric) -> list[float]:
    """List where runs that missed were cut off. A run that broke off is left out, because it never arrives."""
    measure = next(each for each in TIMES if each.name == metric).measure
    runs = study.best.confirm if study.best else ()
    sides = [side for run in runs if run.outcome == "missed" and (side := measure(run)) is not None]
    return sorted(side.limit for side in sides if math.isfinite(side.limit))


def _traces(arm: str, curve: Arrival, cuts: Sequence[float], end: float, colour: str) -> list[Trace]:
    """Draw one arm: 0 before the first arrival, the share from each arrival on, the last share until the end."""
    xs = [0.0, *curve.x, end]
    share, low, high = ([0.0, *ends, *(ends[-1:] or (0.0,))] for ends in (curve.share, curve.low, curve.high))
    waiting = [curve.num_runs, *curve.num_waiting, *curve.num_waiting[-1:]]
    text = [f"{count} of {curve.num_runs} runs were waiting just before" for count in waiting[: len(xs)]]
    hover = f"{arm}, by %{{x:.4g}}: %{{y:.0%}}<br>%{{text}}"
    steps = {"color": colour, "width": 2.5, "shape": "hv"}
    traces = [
        *band_edges(arm, xs[1:], low[1:], high[1:], colour, shape="hv"),
        trace("lines", arm, xs, share, text=text, hover=hover, line=steps, legendgroup=arm),
    ]
    if cuts:
        heights = [_share_at(curve, x) for x in cuts]
        marker = {"color": colour, "size": 12, "symbol": "line-ns", "line": {"color": colour, "width": 2}}
        hover = f"{arm}: missed, cut off at %{{x:.4g}}"
        ticks = trace("markers", arm, cuts, heights, hover=hover, marker=marker, legendgroup=arm, showlegend=False)
        traces.append(ticks)
    return traces


def _share_at(curve: Arrival, x: float) -> float:
    return max([0.0, *(share for at, share in zip(curve.x, curve.share, strict=True) if at <= x)])
