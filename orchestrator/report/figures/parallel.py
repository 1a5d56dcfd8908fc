"""Each trial of a search as a line through its values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.report.figures.frame import Figure, Trace, layout_of
from orchestrator.report.figures.trials import Known, by_importance, known_trials, place_of, share_along, short
from orchestrator.report.palette import INK, MUTED
from orchestrator.report.schema import Parameter, StudyReport
from orchestrator.report.wording import UNITS, number
from orchestrator.spec import Objective

MAX_LINES = 500
BEST_SHARE = 0.1


def parallel_figures(studies: Sequence[StudyReport], colours: Mapping[str, str], objective: Objective) -> list[Figure]:
    """Draw each trial as a line through its values, a row per parameter and one for the objective.

    Args:
        studies: of one workload.
        colours: by arm.
        objective: of the search.

    Returns:
        A figure per arm with two parameters or more; they share a place.
    """
    made = (_parallel(study, colours[study.arm], objective) for study in studies)
    return [figure for figure in made if figure is not None]


def _parallel(study: StudyReport, colour: str, objective: Objective) -> Figure | None:
    known = sorted(known_trials(study), key=lambda one: one[1], reverse=objective.mode == "max")
    # Those of a branch come first, so that the lines below them go from row to row.
    parameters = sorted(by_importance([study]), key=lambda each: all(each.name in trial.values for trial, _ in known))
    if len(parameters) < 2 or len(known) < 2:
        return None
    shown = known[:MAX_LINES]
    values = [value for _, value in shown]
    rows = [*(_row(parameter) for parameter in parameters), _objective_row(objective, values)]
    num_best = max(1, round(BEST_SHARE * len(known)))
    data = [
        _lines(study.arm, "others", shown[num_best:], parameters, values, MUTED[0], 0.22),
        _lines(study.arm, f"best {num_best}", shown[:num_best], parameters, values, colour, 0.9),
    ]
    layout = layout_of("from the low end of each row to its high end", "")
    layout["xaxis"] |= {"range": [-0.03, 1.03], "showticklabels": False, "showgrid": False}
    layout["yaxis"] |= {
        "tickvals": list(range(len(rows))),
        "showticklabels": False,
        "range": [len(rows) - 0.6, -0.7],
    }
    layout["annotations"] = [note for place, row in enumerate(rows) for note in _labels(place, *row)]
    rest = len(known) - len(shown)
    return Figure(
        key=f"{study.workload}-{study.arm}-parallel",
        workload=study.workload,
        title="Each trial as a line through its values",
        caption=f"In colour: the best tenth of the COMPLETE trials of {study.arm}, {num_best}. A line has no "
        "point in the row of a parameter that does not apply."
        + (f" The {rest:,} worst trials are in the table alone." if rest else ""),
        data=data,
        layout=layout,
        height=100 + 50 * len(rows),
        group=f"{study.workload}-parallel",
        option=study.arm,
    )


def _lines(
    arm: str,
    name: str,
    known: Known,
    parameters: Sequence[Parameter],
    values: Sequence[float],
    colour: str,
    opacity: float,
) -> Trace:
    xs: list[float | None] = []
    ys: list[int | None] = []
    texts: list[str] = []
    low, high = min(values), max(values)
    for trial, value in known:
        for row, parameter in enumerate(parameters):
            if parameter.name in trial.values:
                xs.append(share_along(parameter, place_of(parameter, trial)))
                ys.append(row)
                texts.append(f"{arm} #{trial.number}: {short(parameter.name)} {trial.values[parameter.name]}")
        xs += [(value - low) / (high - low) if high > low else 0.5, None]
        ys += [len(parameters), None]
        texts += [f"{arm} #{trial.number}: {number(value, 4)}", ""]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": xs,
        "y": ys,
        "text": texts,
        "hovertemplate": "%{text}<extra></extra>",
        "line": {"color": colour, "width": 1.2},
        "marker": {"color": colour, "size": 5},
        "opacity": opacity,
    }


def _row(parameter: Parameter) -> tuple[str, str, str]:
    if parameter.kind == "choice":
        return short(parameter.name), short(str(parameter.choices[0])), short(str(parameter.choices[-1]))
    log = " (log)" * parameter.is_log
    return short(parameter.name) + log, number(parameter.low), number(parameter.high)


def _objective_row(objective: Objective, values: Sequence[float]) -> tuple[str, str, str]:
    return UNITS.get(objective.metric, objective.metric), number(min(values)), number(max(values))


def _labels(place: int, name: str, low: str, high: str) -> Iterator[dict[str, Any]]:
    """Above its row, not beside it: on a phone the names of parameters would take the figure's whole width."""
    shared = {"y": place, "yanchor": "bottom", "yshift": 5, "showarrow": False}
    yield shared | {"text": f"{name}: {low}", "x": 0.0, "xanchor": "left", "font": {"color": INK[0], "size": 11}}
    yield shared | {"text": high, "x": 1.0, "xanchor": "right", "font": {"color": MUTED[0], "size": 11}}
