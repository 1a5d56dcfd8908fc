"""What the search tried: its course, which parameters mattered, and what several objectives come to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from orchestrator.report.figures.frame import Figure, Trace, layout_of
from orchestrator.report.figures.trials import MAX_PARAMETERS, in_lines, objective_axis, short, trial_points
from orchestrator.report.schema import SearchTrial, StudyReport
from orchestrator.report.wording import UNITS, number, percent
from orchestrator.spec import Objective


def history_figure(
    studies: Sequence[StudyReport], colours: Mapping[str, str], objective: Objective, max_points: int | None = None
) -> Figure | None:
    """Draw the objective of each trial in the order of its number, and the best so far.

    Args:
        studies: of one workload.
        colours: by arm.
        objective: of the search.
        max_points: of each study, about, evenly thinned; the line keeps its corners. None: every trial.

    Returns:
        The figure; None where no trial is COMPLETE.
    """
    data: list[Trace] = []
    for study in studies:
        known = [(trial, trial.value) for trial in study.search if trial.value is not None]
        if not known:
            continue
        pick = min if objective.mode == "min" else max
        best = list(itertools.accumulate((value for _, value in known), pick))
        corners = _corners([(trial.number or 0, value) for (trial, _), value in zip(known, best, strict=True)])
        xs, ys = ([point[axis] for point in corners] for axis in (0, 1))
        shown = known if max_points is None else known[:: max(1, len(known) // max_points)]
        line = {"color": colours[study.arm], "width": 2, "shape": "hv"}
        shared: Trace = {"type": "scatter", "legendgroup": study.arm, "name": study.arm}
        data += [
            trial_points(study.arm, shown, [float(trial.number or 0) for trial, _ in shown], colours[study.arm]),
            shared | {"mode": "lines", "x": xs, "y": ys, "line": line, "hoverinfo": "skip"},
        ]
    if not data:
        return None
    layout = layout_of("number of the trial in its search", UNITS.get(objective.metric, objective.metric))
    layout["yaxis"] |= objective_axis(studies, objective)
    return Figure(
        key=f"{studies[0].workload}-history",
        workload=studies[0].workload,
        title="Course of the search",
        caption="A point per COMPLETE trial; the line is the best so far. The search's values flatter their winner.",
        data=data,
        layout=layout,
    )


def _corners(line: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Keep where a line of steps changes, and both ends."""
    kept = [point for point, before in zip(line[1:], line, strict=False) if point[1] != before[1]]
    return list(dict.fromkeys([line[0], *kept, line[-1]]))


def importance_figure(studies: Sequence[StudyReport], colours: Mapping[str, str]) -> Figure | None:
    """Draw which parameters decide whether a trial is among the best of its search.

    Args:
        studies: of one workload.
        colours: by arm.

    Returns:
        The figure; None where it was not worked out.
    """
    found = [study for study in studies if study.importance]
    if not found:
        return None
    names = list(dict.fromkeys(each.parameter for study in found for each in study.importance))[:MAX_PARAMETERS]
    data: list[Trace] = []
    for study in reversed(found):
        shown = [each for each in study.importance if each.parameter in names]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "y": [in_lines(each.parameter) for each in shown],
                "x": [each.share for each in shown],
                "text": [f"{study.arm}, {short(each.parameter)}: {percent(each.share)}" for each in shown],
                "textposition": "none",
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {"color": colours[study.arm]},
                "name": study.arm,
            }
        )
    layout = layout_of("importance, share", "")
    layout["xaxis"] |= {"tickformat": ".0%", "rangemode": "tozero"}
    order = [in_lines(name) for name in names][::-1]
    layout["yaxis"] |= {"categoryorder": "array", "categoryarray": order, "showgrid": False, "type": "category"}
    layout["legend"] |= {"traceorder": "reversed"}
    layout |= {"barmode": "group", "bargap": 0.3, "showlegend": True}
    return Figure(
        key=f"{studies[0].workload}-importance",
        workload=studies[0].workload,
        title="Which parameters mattered in search",
        caption="PED-ANOVA: how differently a parameter lies among the best tenth of the trials (at least five) and "
        "among all. It speaks of where the search looked, and of no cause.",
        data=data,
        layout=layout,
        height=120 + len(names) * (26 + 9 * len(found)),
    )


def pareto_figures(
    studies: Sequence[StudyReport], colours: Mapping[str, str], objectives: Sequence[Objective]
) -> list[Figure]:
    """Draw what several objectives come to, and the trials that no other trial of their study beats in all of them.

    Args:
        studies: of one workload.
        colours: by arm.
        objectives: of the search, the first one first.

    Returns:
        A figure for the first objective against each other one; none where there is one objective.
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
        for name, shown, marker in (
            (study.arm, best, {"size": 11, "opacity": 1.0, "line": {"color": colours[study.arm], "width": 2}}),
            (f"{study.arm}, others", [t for t in trials if t not in best], {"size": 6, "opacity": 0.4}),
        ):
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [trial.objectives[0] for trial in shown],
                    "y": [trial.objectives[other] for trial in shown],
                    "text": [
                        f"{study.arm} #{trial.number}: "
                        + ", ".join(
                            f"{objective.metric} {number(value, 4)}"
                            for objective, value in zip(objectives, trial.objectives, strict=True)
                        )
                        for trial in shown
                    ],
                    "hovertemplate": "%{text}<extra></extra>",
                    "marker": {"color": colours[study.arm]} | marker,
                    "name": name,
                    "legendgroup": study.arm,
                    "showlegend": name == study.arm,
                }
            )
    layout = layout_of(*(UNITS.get(each.metric, each.metric) for each in (objectives[0], objectives[other])))
    workload = studies[0].workload
    return Figure(
        key=f"{workload}-pareto-{objectives[other].metric}",
        workload=workload,
        title="Pareto front of the search",
        caption="Large: trials that no other of their arm beats in every objective. Small: the others.",
        data=data,
        layout=layout,
        group=f"{workload}-pareto",
        option=objectives[other].metric,
    )


def front(trials: Sequence[SearchTrial], objectives: Sequence[Objective]) -> list[SearchTrial]:
    """Choose the trials that no other one beats or equals in every objective while it beats it in one.

    Args:
        trials: with all their objectives.
        objectives: of the search.

    Returns:
        Them, in the order given.
    """
    signs = [1.0 if objective.mode == "min" else -1.0 for objective in objectives]
    losses = [tuple(s * v for s, v in zip(signs, trial.objectives, strict=True)) for trial in trials]
    kept: list[tuple[float, ...]] = []
    # In this order nothing is beaten by what comes after it.
    for one in sorted(set(losses)):
        if not any(all(a <= b for a, b in zip(other, one, strict=True)) for other in kept):
            kept.append(one)
    members = set(kept)
    return [trial for trial, one in zip(trials, losses, strict=True) if one in members]
