"""What the live page draws beside the report's own figures: the search as it goes, and trials one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.report import Report
from orchestrator.report.figures.frame import Figure, Trace, layout_of
from orchestrator.report.palette import LAYERS, arm_colours
from orchestrator.report.schema import Study
from orchestrator.results import HistoryRow

MAX_POINTS = 400
WIDE = 1_000.0


def search_figure(report: Report, workload: str) -> Figure | None:
    """Draw the search of a workload: each trial's value as a point, the best so far as a line.

    Args:
        report: of a sweep.
        workload: label.

    Returns:
        The figure; None while no trial has a value.
    """
    objective = report.sweep.objective
    colours = arm_colours(report.arms)
    data: list[Trace] = []
    for study in report.studies:
        if study.workload == workload:
            data += _study_traces(study, colours[study.arm], objective.mode == "min")
    if not data:
        return None
    layout = layout_of("search trial", objective.metric.replace("_", " "))
    layout["xaxis"] |= {"rangemode": "tozero"}
    layout["yaxis"] |= _log_axis([y for trace in data for y in trace["y"]])
    return Figure(
        key=f"{workload}-search",
        workload=workload,
        title="The search so far",
        caption=f"A point per trial that ended well; the line is the best so far ({objective.mode}). "
        "What wins here is biased by being chosen: claims come from confirm.",
        data=data,
        layout=layout,
    )


def _study_traces(study: Study, colour: str, is_min: bool) -> list[Trace]:
    ended = [(trial.number or 0, trial.value) for trial in study.search if trial.value is not None]
    if not ended:
        return []
    best, line = None, []
    for number, value in ended:
        best = value if best is None else (min if is_min else max)(best, value)
        line.append((number, best))
    step = max(1, len(ended) // MAX_POINTS)
    shown = ended[::step]
    shared: Trace = {"type": "scatter", "legendgroup": study.arm, "name": study.arm}
    return [
        shared
        | {
            "mode": "markers",
            "x": [number for number, _ in shown],
            "y": [value for _, value in shown],
            "marker": {"color": colour, "size": 5, "opacity": 0.45},
            "showlegend": False,
            "hovertemplate": f"{study.arm}, trial #%{{x}}: %{{y:.4g}}<extra></extra>",
        },
        shared
        | {
            "mode": "lines",
            "x": [number for number, _ in _corners(line)],
            "y": [value for _, value in _corners(line)],
            "line": {"color": colour, "width": 2.5, "shape": "hv"},
            "hovertemplate": f"{study.arm}, best so far: %{{y:.4g}}<extra></extra>",
        },
    ]


def _corners(line: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Keep where it falls, and both ends."""
    kept = [point for point, before in zip(line[1:], line, strict=False) if point[1] != before[1]]
    return list(dict.fromkeys([line[0], *kept, line[-1]]))


def learning_figure(curves: Mapping[str, Sequence[HistoryRow]], metric: str, key: str) -> Figure | None:
    """Draw the learning curves of chosen trials, a line for each seed.

    Args:
        curves: rows by the name of the trial.
        metric: that is drawn.
        key: of the figure.

    Returns:
        The figure; None where none of them has the metric yet.
    """
    data: list[Trace] = []
    for place, (name, rows) in enumerate(curves.items()):
        seeds = list(dict.fromkeys(row.seed for row in rows))
        for index, seed in enumerate(seeds):
            points = [(row.step, row.metrics[metric]) for row in rows if row.seed == seed and metric in row.metrics]
            points = points[:: max(1, len(points) // MAX_POINTS)]
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if len(points) < 3 else "lines",
                    "x": [step for step, _ in points],
                    "y": [value for _, value in points],
                    "name": name,
                    "legendgroup": name,
                    "showlegend": index == 0,
                    "line": {"color": LAYERS[place % len(LAYERS)][0], "width": 1.8},
                    "hovertemplate": f"{name}, seed {seed}<br>%{{x}}: %{{y:.4g}}<extra></extra>",
                }
            )
    values = [y for trace in data for y in trace["y"]]
    if not values:
        return None
    layout = layout_of("optimizer steps", metric.replace("_", " "))
    layout["xaxis"] |= {"rangemode": "tozero"}
    layout["yaxis"] |= {} if "accuracy" in metric else _log_axis(values)
    return Figure(key=key, workload="", title="", caption="", data=data, layout=layout)


def _log_axis(values: Sequence[float]) -> dict[str, object]:
    """A logarithmic axis, its decades split where there are few; none where a value has no logarithm."""
    if min(values) <= 0.0:
        return {}
    is_wide = max(values) / min(values) > WIDE
    return {"type": "log", "tickformat": "~g", "dtick": 1 if is_wide else "D2"}
