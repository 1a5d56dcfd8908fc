"""What the figures of a search share: how a parameter's name is written, and the axis of the objective."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

from orchestrator.report.schema import StudyReport
from orchestrator.spec import Objective

MAX_NAME = 34
MAX_LINE = 18


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


def objective_axis(studies: Sequence[StudyReport], objective: Objective) -> dict[str, Any]:
    """Make an axis of objectives logarithmic where the largest is at least four times the smallest."""
    values = [trial.value for study in studies for trial in study.search if trial.value is not None]
    if objective.mode == "min" and values and min(values) > 0.0 and max(values) >= 4.0 * min(values):
        return {"type": "log", "tickformat": "~g", "nticks": 6}
    return {}
