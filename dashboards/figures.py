"""What the live page draws: the search as it goes, and trials one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.home import HistoryRow
from orchestrator.report import LAYERS, Report, arm_colours
from orchestrator.report.figures import Figure, Trace, history_figure, layout_of, numeric_axis, trace
from orchestrator.spec import is_higher_better

MAX_POINTS = 400


def search_figure(report: Report, workload: str) -> Figure | None:
    """Draw a workload's search as the report does, with few points, since it is drawn again and again."""
    studies = [study for study in report.studies if study.workload == workload]
    return history_figure(studies, arm_colours(report.arms), report.sweep.objective, MAX_POINTS)


def learning_figure(curves: Mapping[str, Sequence[HistoryRow]], metric: str, key: str) -> Figure | None:
    """Draw the learning curves of chosen trials, a line for each seed.

    Args:
        curves: name of a trial -> its rows.
        metric: what is drawn.
        key: name of the figure on the page.

    Returns:
        The figure; None where no trial has the metric yet.
    """
    data: list[Trace] = []
    for place, (name, rows) in enumerate(curves.items()):
        seeds = list(dict.fromkeys(row.seed for row in rows))
        for index, seed in enumerate(seeds):
            points = [(row.step, row.metrics[metric]) for row in rows if row.seed == seed and metric in row.metrics]
            points = points[:: max(1, len(points) // MAX_POINTS)]
            line = trace(
                "lines+markers" if len(points) < 3 else "lines",
                name,
                [step for step, _ in points],
                [value for _, value in points],
                hover=f"{name}, seed {seed}<br>%{{x}}: %{{y:.4g}}",
                line={"color": LAYERS[place % len(LAYERS)][0], "width": 1.8},
                legendgroup=name,
                showlegend=index == 0,
            )
            data.append(line)
    values = [y for each in data for y in each["y"]]
    if not values:
        return None
    layout = layout_of("optimizer steps", metric.replace("_", " "))
    layout["xaxis"] |= numeric_axis((x for each in data for x in each["x"]), is_integer=True, from_zero=True)
    # A value that is not above zero has no logarithm.
    layout["yaxis"] |= numeric_axis(values, is_log=not is_higher_better(metric) and min(values) > 0.0)
    return Figure(key=key, workload="", title="", caption="", data=data, layout=layout)
