"""Where in its space the search did well: the objective along each parameter, and over pairs of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from orchestrator.report.figures.frame import Figure, Trace, layout_of
from orchestrator.report.figures.trials import (
    along,
    axis_of,
    by_importance,
    known_trials,
    objective_axis,
    place_of,
    share_along,
    short,
    trial_points,
)
from orchestrator.report.palette import MUTED, SHADES
from orchestrator.report.schema import Parameter, StudyReport
from orchestrator.report.wording import UNITS, number
from orchestrator.spec import Objective

NUM_CONTOUR = 4
NUM_CELLS = 12
FEWEST_CONTOUR = 15


def slice_figures(studies: Sequence[StudyReport], colours: Mapping[str, str], objective: Objective) -> list[Figure]:
    """Draw the objective against each parameter, all arms that have it in one figure.

    Args:
        studies: of one workload.
        colours: by arm.
        objective: of the search.

    Returns:
        A figure per parameter, the most important first; they share a place.
    """
    return [_slice(studies, colours, objective, parameter) for parameter in by_importance(studies)]


def _slice(
    studies: Sequence[StudyReport], colours: Mapping[str, str], objective: Objective, parameter: Parameter
) -> Figure:
    data: list[Trace] = []
    for study in studies:
        known = known_trials(study, parameter.name)
        if known:
            xs = [place_of(parameter, trial) for trial, _ in known]
            data.append(trial_points(study.arm, known, xs, colours[study.arm]) | {"showlegend": True})
    layout = layout_of(short(parameter.name), UNITS.get(objective.metric, objective.metric))
    layout["xaxis"] |= axis_of(parameter)
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


def contour_figures(study: StudyReport, objective: Objective) -> list[Figure]:
    """Draw how the trials rank over pairs of a study's most important parameters.

    Args:
        study: of any number of parameters.
        objective: of its search.

    Returns:
        A figure per pair of the four most important; they share a place.
    """
    pairs = itertools.combinations(by_importance([study])[:NUM_CONTOUR], 2)
    made = (_contour(study, objective, first, second) for first, second in pairs)
    return [figure for figure in made if figure is not None]


def _contour(study: StudyReport, objective: Objective, first: Parameter, second: Parameter) -> Figure | None:
    known = known_trials(study, first.name, second.name)
    if len(known) < 3:
        return None
    xs, ys = ([place_of(each, trial) for trial, _ in known] for each in (first, second))
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
    layout["xaxis"] |= axis_of(first)
    layout["yaxis"] |= axis_of(second)
    layout |= {"showlegend": False}
    return Figure(
        key=f"{study.workload}-{study.arm}-contour-{first.name}-{second.name}",
        workload=study.workload,
        title=f"Two parameters at a time, {study.arm}",
        caption=f"A point per COMPLETE trial, coloured by its rank; the scale has the {objective.metric} of the best, "
        "the middle and the worst. The ground is drawn between the best of each cell of a grid, if they suffice.",
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


def _cell(parameter: Parameter, value: float) -> int:
    return min(NUM_CELLS - 1, max(0, int(share_along(parameter, value) * NUM_CELLS)))


def _middle(parameter: Parameter, cell: int) -> float:
    low, high = along(parameter, parameter.low or 0.0), along(parameter, parameter.high or 0.0)
    place = low + (high - low) * (cell + 0.5) / NUM_CELLS
    return math.exp(place) if parameter.is_log else place
