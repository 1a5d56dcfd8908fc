"""What every figure of a search shares: its trials as points, and its parameters as axes."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from typing import Any

from orchestrator.report.figures.frame import Trace
from orchestrator.report.schema import Parameter, SearchTrial, StudyReport
from orchestrator.report.wording import number
from orchestrator.spec import Json, Objective

MAX_PARAMETERS = 12
MAX_NAME = 34
MAX_LINE = 18

Known = Sequence[tuple[SearchTrial, float]]


def short(name: str) -> str:
    """Write a parameter's name, or a choice, for a figure: Plotly reads tags in every text.

    Args:
        name: of any length; cut at its front, since its end tells it apart.

    Returns:
        At most 34 characters, in which no tag is left.
    """
    cut = name if len(name) <= MAX_NAME else f"…{name[1 - MAX_NAME :]}"
    return html.escape(" ".join(cut.split()), quote=False)


def in_lines(name: str) -> str:
    """Write a parameter's name in lines that leave a phone some room.

    Args:
        name: dotted path.

    Returns:
        The lines of :func:`short`, broken before a dot or a bracket.

    >>> in_lines("teleport.step[rule=fixed].lr")
    'teleport.step<br>[rule=fixed].lr'
    """
    lines = [""]
    for part in re.split(r"(?=[.\[])", short(name)):
        if lines[-1] and len(lines[-1]) + len(part) > MAX_LINE:
            lines.append("")
        lines[-1] += part
    return "<br>".join(lines)


def trial_points(arm: str, known: Known, xs: Sequence[float], colour: str, ys: Sequence[float] | None = None) -> Trace:
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


def objective_axis(studies: Sequence[StudyReport], objective: Objective) -> dict[str, Any]:
    """Choose the scale of an axis of objectives: logarithmic where the largest is four times the smallest and more.

    Args:
        studies: of one workload.
        objective: of the search.

    Returns:
        What to add to the axis.
    """
    values = [trial.value for study in studies for trial in study.search if trial.value is not None]
    if objective.mode == "min" and values and min(values) > 0.0 and max(values) >= 4.0 * min(values):
        return {"type": "log", "tickformat": "~g", "nticks": 6}
    return {}


def known_trials(study: StudyReport, *names: str) -> Known:
    """List a study's COMPLETE trials that have certain parameters.

    Args:
        study: of a sweep.
        names: of the parameters.

    Returns:
        Each trial with its value.
    """
    return [(t, t.value) for t in study.search if t.value is not None and t.values.keys() >= set(names)]


def by_importance(studies: Sequence[StudyReport]) -> list[Parameter]:
    """Order the parameters that were tried.

    Args:
        studies: of one workload.

    Returns:
        At most twelve: the most important first, then those of no known importance as they stand in the spec.
    """
    known = {parameter.name: parameter for study in studies for parameter in study.space}
    weight = dict.fromkeys(known, 0.0)
    for study in studies:
        weight |= {each.parameter: max(weight.get(each.parameter, 0.0), each.share) for each in study.importance}
    tried = {name for study in studies for trial in study.search if trial.value is not None for name in trial.values}
    return [known[name] for name in sorted(known, key=lambda name: -weight[name]) if name in tried][:MAX_PARAMETERS]


def place_of(parameter: Parameter, trial: SearchTrial) -> float:
    """Tell where a trial stands along a parameter; those with the same choice stand side by side."""
    value: Json = trial.values[parameter.name]
    if parameter.kind != "choice":
        assert isinstance(value, int | float)
        return float(value)
    spread = 0.5 * (math.modf((trial.number or 0) * 0.618034)[0] - 0.5)
    return parameter.choices.index(value) + spread


def axis_of(parameter: Parameter) -> dict[str, Any]:
    """Lay out a parameter's axis: its choices by name, its range as it was searched."""
    if parameter.kind == "choice":
        places = list(range(len(parameter.choices)))
        labels = [short(str(choice)) for choice in parameter.choices]
        return {"tickvals": places, "ticktext": labels, "range": [-0.6, len(places) - 0.4]}
    return {"type": "log", "tickformat": "~g", "nticks": 6} if parameter.is_log else {}


def share_along(parameter: Parameter, value: float) -> float:
    """Tell how far along its range a value lies, from 0 to 1."""
    if parameter.kind == "choice":
        return (value + 0.3) / (len(parameter.choices) - 0.4)
    low, high = along(parameter, parameter.low or 0.0), along(parameter, parameter.high or 0.0)
    return (along(parameter, value) - low) / (high - low) if high > low else 0.5


def along(parameter: Parameter, value: float) -> float:
    """Measure a value on the scale on which it was searched."""
    return math.log(value) if parameter.is_log else value
