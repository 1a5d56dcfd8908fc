"""What the search tried: its course, which parameters mattered, and what several objectives come to."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.report.figures.axes import numeric_axis, say_log, share_axis
from orchestrator.report.figures.frame import Figure, Trace, bars, layout_of, trace
from orchestrator.report.schema import SearchTrial, StudyReport
from orchestrator.report.wording import number, percent, unit_of
from orchestrator.spec import Objective

MAX_PARAMETERS = 12
MAX_NAME = 34
MAX_LINE = 18


def history_figure(
    studies: Sequence[StudyReport], colours: Mapping[str, str], objective: Objective, max_points: int | None = None
) -> Figure | None:
    """Draw the objective of each trial in the order of its number, and the best so far.

    Args:
        studies: those of one workload.
        colours: arm -> colour.
        objective: what the search improves.
        max_points: about how many points of each study are drawn, evenly thinned; None: every trial. The line of the
            best so far keeps its corners.

    Returns:
        The figure; None where no trial is COMPLETE.
    """
    data = [each for study in studies for each in _course(study, colours[study.arm], objective, max_points)]
    if not data:
        return None
    layout = layout_of("number of the trial in its search", unit_of(objective.metric))
    layout["xaxis"] |= numeric_axis((x for each in data for x in each["x"]), is_integer=True, from_zero=True)
    layout["yaxis"] |= objective_axis((y for each in data for y in each["y"]), objective)
    say_log(layout["yaxis"])
    return Figure(
        key=f"{studies[0].workload}-history",
        workload=studies[0].workload,
        title="Course of the search",
        caption="Each point is a COMPLETE trial; the line is the best so far. The search chose its winner by these "
        "values, so they flatter it.",
        data=data,
        layout=layout,
    )


def _course(study: StudyReport, colour: str, objective: Objective, max_points: int | None) -> list[Trace]:
    known = [(trial, trial.value) for trial in study.search if trial.value is not None]
    if not known:
        return []
    pick = min if objective.mode == "min" else max
    best = list(itertools.accumulate((value for _, value in known), pick))
    corners = _corners([(trial.number or 0, value) for (trial, _), value in zip(known, best, strict=True)])
    shown = known if max_points is None else known[:: max(1, len(known) // max_points)]
    points = trace(
        "markers",
        study.arm,
        [trial.number or 0 for trial, _ in shown],
        [value for _, value in shown],
        text=[f"{study.arm} #{trial.number}: {number(value, 4)}" for trial, value in shown],
        marker={"color": colour, "size": 7, "opacity": 0.65},
        legendgroup=study.arm,
        showlegend=False,
    )
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    line = {"color": colour, "width": 2, "shape": "hv"}
    return [points, trace("lines", study.arm, xs, ys, line=line, legendgroup=study.arm)]


def _corners(line: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Keep both ends of a line of steps, and the points at which it changes."""
    kept = [point for point, before in zip(line[1:], line, strict=False) if point[1] != before[1]]
    return list(dict.fromkeys([line[0], *kept, line[-1]]))


def importance_figure(studies: Sequence[StudyReport], colours: Mapping[str, str]) -> Figure | None:
    """Draw how much each parameter decides whether a trial is among the best; None where no study has importances."""
    found = [study for study in studies if study.importance]
    if not found:
        return None
    names = list(dict.fromkeys(each.parameter for study in found for each in study.importance))[:MAX_PARAMETERS]
    data: list[Trace] = []
    for study in reversed(found):
        shown = [each for each in study.importance if each.parameter in names]
        text = [f"{study.arm}, {short(each.parameter)}: {percent(each.share)}" for each in shown]
        labels, shares = [in_lines(each.parameter) for each in shown], [each.share for each in shown]
        data.append(bars(study.arm, labels, shares, text, colours[study.arm]))
    layout = layout_of("importance, share", "")
    layout["xaxis"] |= share_axis()
    order = [in_lines(name) for name in names][::-1]
    layout["yaxis"] |= {"categoryorder": "array", "categoryarray": order, "showgrid": False, "type": "category"}
    layout["legend"] |= {"traceorder": "reversed"}
    layout |= {"barmode": "group", "bargap": 0.3, "showlegend": True}
    return Figure(
        key=f"{studies[0].workload}-importance",
        workload=studies[0].workload,
        title="Which parameters mattered in search",
        caption="PED-ANOVA measures how differently a parameter is spread among the best tenth of the trials (at least "
        "five) and among all trials. A parameter that fewer than ten trials had is left out. The figure describes "
        "where the search looked, and proves no cause.",
        data=data,
        layout=layout,
        height=120 + len(names) * (26 + 9 * len(found)),
    )


def pareto_figures(
    studies: Sequence[StudyReport], colours: Mapping[str, str], objectives: Sequence[Objective]
) -> list[Figure]:
    """Draw the first objective against each other one, with the Pareto front of each study.

    There is no figure where the search has one objective.
    """
    found = [study for study in studies if any(trial.objectives for trial in study.search)]
    if not found:
        return []
    return [_pareto(found, colours, objectives, other) for other in range(1, len(objectives))]


def _pareto(
    studies: Sequence[StudyReport], colours: Mapping[str, str], objectives: Sequence[Objective], other: int
) -> Figure:
    data: list[Trace] = []
    for study in studies:
        trials = [trial for trial in study.search if trial.objectives]
        best = front(trials, objectives)
        rest = [trial for trial in trials if trial not in best]
        outline = {"size": 11, "opacity": 1.0, "line": {"color": colours[study.arm], "width": 2}}
        for name, shown, marker in (
            (study.arm, best, outline),
            (f"{study.arm}, others", rest, {"size": 6, "opacity": 0.4}),
        ):
            points = trace(
                "markers",
                name,
                [t.objectives[0] for t in shown],
                [t.objectives[other] for t in shown],
                text=[f"{study.arm} #{trial.number}: {_values(trial, objectives)}" for trial in shown],
                marker={"color": colours[study.arm]} | marker,
                legendgroup=study.arm,
                showlegend=name == study.arm,
            )
            data.append(points)
    workload = studies[0].workload
    layout = layout_of(*(unit_of(each.metric) for each in (objectives[0], objectives[other])))
    for axis in ("x", "y"):
        layout[f"{axis}axis"] |= numeric_axis(value for each in data for value in each[axis])
    return Figure(
        key=f"{workload}-pareto-{objectives[other].metric}",
        workload=workload,
        title="Pareto front of the search",
        caption="A large point is a trial that no other trial of its arm beats in every objective; the others are "
        "small.",
        data=data,
        layout=layout,
        group=f"{workload}-pareto",
        option=objectives[other].metric,
    )


def _values(trial: SearchTrial, objectives: Sequence[Objective]) -> str:
    told = zip(objectives, trial.objectives, strict=True)
    return ", ".join(f"{objective.metric} {number(value, 4)}" for objective, value in told)


def front(trials: Sequence[SearchTrial], objectives: Sequence[Objective]) -> list[SearchTrial]:
    """Choose the Pareto front in the order given.

    A trial is on it unless another trial is at least as good in every objective and better in one.
    """
    signs = [1.0 if objective.mode == "min" else -1.0 for objective in objectives]
    losses = [tuple(s * v for s, v in zip(signs, trial.objectives, strict=True)) for trial in trials]
    kept: list[tuple[float, ...]] = []
    # In ascending order a trial can only be beaten by one that comes before it.
    for one in sorted(set(losses)):
        if not any(all(a <= b for a, b in zip(other, one, strict=True)) for other in kept):
            kept.append(one)
    members = set(kept)
    return [trial for trial, one in zip(trials, losses, strict=True) if one in members]


def short(name: str) -> str:
    """Write a parameter's name in at most 34 characters without a tag, since Plotly reads tags in every text.

    A long name is cut at its front, because its end tells it apart.
    """
    cut = name if len(name) <= MAX_NAME else f"…{name[1 - MAX_NAME :]}"
    return html.escape(" ".join(cut.split()), quote=False)


def in_lines(name: str) -> str:
    """Break a parameter's name before dots and brackets into lines that leave a phone some room.

    >>> in_lines("teleport.step[rule=fixed].lr")
    'teleport.step<br>[rule=fixed].lr'
    """
    lines = [""]
    for part in re.split(r"(?=[.\[])", short(name)):
        if lines[-1] and len(lines[-1]) + len(part) > MAX_LINE:
            lines.append("")
        lines[-1] += part
    return "<br>".join(lines)


def objective_axis(values: Iterable[float], objective: Objective) -> dict[str, Any]:
    """Make an axis of objectives, logarithmic where the largest is at least four times the smallest."""
    known = list(values)
    is_wide = objective.mode == "min" and bool(known) and min(known) > 0.0 and max(known) >= 4.0 * min(known)
    return numeric_axis(known, is_log=is_wide)
