"""Where in its space the search did well: slices, contours and parallel coordinates of its own trials."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.ids import Json
from orchestrator.report.figures.frame import Figure, Trace, layout_of
from orchestrator.report.palette import MUTED, SHADES
from orchestrator.report.schema import Parameter, SearchTrial, Study
from orchestrator.report.wording import UNITS, number
from orchestrator.spec import Objective

MAX_PARAMETERS = 12
MAX_LINES = 500
NUM_CONTOUR = 4
NUM_CELLS = 12
FEWEST_CONTOUR = 15
MAX_NAME = 34
BEST_SHARE = 0.1

Known = Sequence[tuple[SearchTrial, float]]


def slice_figures(studies: Sequence[Study], colours: Mapping[str, str], objective: Objective) -> list[Figure]:
    """Draw the objective against each parameter, all arms that have it in one figure.

    Args:
        studies: of one workload.
        colours: by arm.
        objective: of the search.

    Returns:
        A figure per parameter, the most important first; they share a place.
    """
    return [_slice(studies, colours, objective, parameter) for parameter in _by_importance(studies)]


def _slice(
    studies: Sequence[Study], colours: Mapping[str, str], objective: Objective, parameter: Parameter
) -> Figure:
    data: list[Trace] = []
    for study in studies:
        known = _known(study, parameter.name)
        if known:
            xs = [_place(parameter, trial) for trial, _ in known]
            data.append(trial_points(study.arm, known, xs, colours[study.arm]) | {"showlegend": True})
    layout = layout_of(short(parameter.name), UNITS.get(objective.metric, objective.metric))
    layout["xaxis"] |= _axis(parameter)
    layout["yaxis"] |= objective_axis(studies, objective)
    workload = studies[0].workload
    return Figure(
        key=f"{workload}-slice-{parameter.name}",
        workload=workload,
        title="Objective against each parameter",
        caption="A point per COMPLETE trial; the other parameters differ from point to point.",
        data=data,
        layout=layout,
        group=f"{workload}-slice",
        option=parameter.name,
    )


def contour_figures(study: Study, objective: Objective) -> list[Figure]:
    """Draw how the trials rank over pairs of a study's most important parameters.

    Args:
        study: of any number of parameters.
        objective: of its search.

    Returns:
        A figure per pair of the four most important; they share a place.
    """
    pairs = itertools.combinations(_by_importance([study])[:NUM_CONTOUR], 2)
    made = (_contour(study, objective, first, second) for first, second in pairs)
    return [figure for figure in made if figure is not None]


def _contour(study: Study, objective: Objective, first: Parameter, second: Parameter) -> Figure | None:
    known = _known(study, first.name, second.name)
    if len(known) < 3:
        return None
    xs, ys = ([_place(each, trial) for trial, _ in known] for each in (first, second))
    ordered = sorted((value for _, value in known), reverse=objective.mode == "max")
    ranks = [ordered.index(value) / (len(ordered) - 1) for _, value in known]
    data: list[Trace] = []
    if len(known) >= FEWEST_CONTOUR and "choice" not in {first.kind, second.kind}:
        data.append(_ground(first, second, xs, ys, ranks))
    points = trial_points(study.arm, known, xs, MUTED[0], ys)
    points["marker"] = {
        "size": 9,
        "color": ranks,
        "colorscale": _scale(),
        "cmin": 0.0,
        "cmax": 1.0,
        "line": {"color": MUTED[0], "width": 1},
        "colorbar": {
            "tickvals": [0.0, 0.5, 1.0],
            "ticktext": [number(ordered[round(share * (len(ordered) - 1))]) for share in (0.0, 0.5, 1.0)],
            "thickness": 10,
            "outlinewidth": 0,
            "tickfont": {"color": MUTED[0], "size": 11},
        },
    }
    layout = layout_of(short(first.name), short(second.name))
    layout["xaxis"] |= _axis(first)
    layout["yaxis"] |= _axis(second)
    layout |= {"showlegend": False}
    return Figure(
        key=f"{study.workload}-{study.arm}-contour-{first.name}-{second.name}",
        workload=study.workload,
        title=f"Two parameters at a time, {study.arm}",
        caption=f"A point per COMPLETE trial, coloured by its rank; the scale has the {objective.metric} of the best, the "
        "middle and the worst. The ground is drawn between the best of each cell of a grid, where there are enough.",
        data=[*data, points],
        layout=layout,
        height=360,
        group=f"{study.workload}-{study.arm}-contour",
        option=f"{first.name} × {second.name}",
    )


def _ground(
    first: Parameter, second: Parameter, xs: Sequence[float], ys: Sequence[float], ranks: Sequence[float]
) -> Trace:
    """The best rank in each cell; Plotly draws between the cells that have one."""
    cells: dict[tuple[int, int], float] = {}
    for x, y, rank in zip(xs, ys, ranks, strict=True):
        cell = (_cell(first, x), _cell(second, y))
        cells[cell] = min(rank, cells.get(cell, 1.0))
    return {
        "type": "contour",
        "name": "ground",
        "x": [_middle(first, cell) for cell in range(NUM_CELLS)],
        "y": [_middle(second, cell) for cell in range(NUM_CELLS)],
        "z": [[cells.get((column, row)) for column in range(NUM_CELLS)] for row in range(NUM_CELLS)],
        "zmin": 0.0,
        "zmax": 1.0,
        "colorscale": _scale(),
        "connectgaps": True,
        "showscale": False,
        "opacity": 0.45,
        "contours": {"coloring": "fill", "start": 0.1, "end": 0.9, "size": 0.2},
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _scale() -> list[list[float | str]]:
    return [[place / (len(SHADES) - 1), shade[0]] for place, shade in enumerate(SHADES)]


def parallel_figures(studies: Sequence[Study], colours: Mapping[str, str], objective: Objective) -> list[Figure]:
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


def _parallel(study: Study, colour: str, objective: Objective) -> Figure | None:
    parameters = _by_importance([study])
    known = sorted(_known(study), key=lambda one: one[1], reverse=objective.mode == "max")
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
    layout = layout_of("from the lower end of each row to its upper end", "")
    layout["xaxis"] |= {"range": [-0.03, 1.03], "showticklabels": False, "showgrid": False}
    layout["yaxis"] |= {
        "tickvals": list(range(len(rows))),
        "ticktext": [name for name, *_ in rows],
        "range": [len(rows) - 0.5, -0.5],
    }
    layout["annotations"] = [note for place, (_, low, high) in enumerate(rows) for note in _ends(place, low, high)]
    rest = len(known) - len(shown)
    return Figure(
        key=f"{study.workload}-{study.arm}-parallel",
        workload=study.workload,
        title="Each trial as a line through its values",
        caption=f"In colour: the best tenth of the COMPLETE trials of {study.arm}, {num_best}. A line is broken where a "
        "parameter does not apply." + (f" The {rest:,} worst trials are in the table alone." if rest else ""),
        data=data,
        layout=layout,
        height=110 + 46 * len(rows),
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
            applies = parameter.name in trial.values
            xs.append(_share(parameter, _place(parameter, trial)) if applies else None)
            ys.append(row if applies else None)
            texts.append(f"{arm} #{trial.number}: {short(parameter.name)} {trial.values.get(parameter.name)}")
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


def _ends(place: int, low: str, high: str) -> Iterator[dict[str, Any]]:
    for x, text, anchor in ((0.0, low, "left"), (1.0, high, "right")):
        font = {"color": MUTED[0], "size": 11}
        yield {"text": text, "x": x, "y": place, "xanchor": anchor, "yanchor": "bottom", "showarrow": False, "font": font}


def short(name: str) -> str:
    """Cut a parameter's name at its front: its end tells it apart.

    Args:
        name: dotted path.

    Returns:
        At most 34 characters.
    """
    return name if len(name) <= MAX_NAME else f"…{name[1 - MAX_NAME :]}"


def trial_points(
    arm: str, known: Known, xs: Sequence[float], colour: str, ys: Sequence[float] | None = None
) -> Trace:
    """Draw a point per trial.

    Args:
        arm: label.
        known: trials with their values.
        xs: where they stand.
        colour: of the points.
        ys: their heights, where these are not the values.

    Returns:
        The trace.
    """
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(xs),
        "y": [value for _, value in known] if ys is None else list(ys),
        "text": [f"{arm} #{trial.number}: {number(value, 4)}" for trial, value in known],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": colour, "size": 7, "opacity": 0.65},
        "name": arm,
        "legendgroup": arm,
        "showlegend": False,
    }


def objective_axis(studies: Sequence[Study], objective: Objective) -> dict[str, Any]:
    """Choose the scale of an axis of objectives: logarithmic where they go over a decade.

    Args:
        studies: of one workload.
        objective: of the search.

    Returns:
        What to add to the axis.
    """
    values = [trial.value for study in studies for trial in study.search if trial.value is not None]
    if objective.mode == "min" and values and min(values) > 0.0 and max(values) > 10.0 * min(values):
        return {"type": "log", "tickformat": "~g", "nticks": 6}
    return {}


def _known(study: Study, *names: str) -> Known:
    return [(t, t.value) for t in study.search if t.value is not None and t.values.keys() >= set(names)]


def _by_importance(studies: Sequence[Study]) -> list[Parameter]:
    """The parameters that were tried, the most important first, then those of no known importance as in the spec."""
    known = {parameter.name: parameter for study in studies for parameter in study.space}
    weight = dict.fromkeys(known, 0.0)
    for study in studies:
        weight |= {each.parameter: max(weight.get(each.parameter, 0.0), each.share) for each in study.importance}
    tried = {name for study in studies for trial in study.search if trial.value is not None for name in trial.values}
    return [known[name] for name in sorted(known, key=lambda name: -weight[name]) if name in tried][:MAX_PARAMETERS]


def _place(parameter: Parameter, trial: SearchTrial) -> float:
    """Where a trial stands along a parameter; those with the same choice side by side."""
    value: Json = trial.values[parameter.name]
    if parameter.kind != "choice":
        assert isinstance(value, int | float)
        return float(value)
    spread = 0.5 * (math.modf((trial.number or 0) * 0.618034)[0] - 0.5)
    return parameter.choices.index(value) + spread


def _axis(parameter: Parameter) -> dict[str, Any]:
    if parameter.kind == "choice":
        places = list(range(len(parameter.choices)))
        labels = [short(str(choice)) for choice in parameter.choices]
        return {"tickvals": places, "ticktext": labels, "range": [-0.6, len(places) - 0.4]}
    return {"type": "log", "tickformat": "~g", "nticks": 6} if parameter.is_log else {}


def _share(parameter: Parameter, value: float) -> float:
    """How far along its range a value lies."""
    if parameter.kind == "choice":
        return (value + 0.3) / (len(parameter.choices) - 0.4)
    low, high = _along(parameter, parameter.low or 0.0), _along(parameter, parameter.high or 0.0)
    return (_along(parameter, value) - low) / (high - low) if high > low else 0.5


def _along(parameter: Parameter, value: float) -> float:
    return math.log(value) if parameter.is_log else value


def _cell(parameter: Parameter, value: float) -> int:
    return min(NUM_CELLS - 1, max(0, int(_share(parameter, value) * NUM_CELLS)))


def _middle(parameter: Parameter, cell: int) -> float:
    low, high = _along(parameter, parameter.low or 0.0), _along(parameter, parameter.high or 0.0)
    place = low + (high - low) * (cell + 0.5) / NUM_CELLS
    return math.exp(place) if parameter.is_log else place
