"""What every figure shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from orchestrator.report.palette import GRID, INK, MUTED, band_colour

Trace = dict[str, Any]
TIME_METRICS = {
    "steps_to_target": ("steps", "optimizer steps to target"),
    "seconds_to_target": ("seconds", "seconds to target (optimizer clock)"),
    "gradient_evaluations_to_target": ("gradients", "gradient evaluations to target"),
}


@final
@dataclass(frozen=True)
class Figure:
    """One figure.

    Args:
        key: unique within the report.
        workload: label.
        title: what it shows.
        caption: how to read it.
        data: Plotly traces.
        layout: Plotly layout.
        height: pixels.
        group: what is shown in one place, one of its figures at a time; empty: it stands alone.
        option: what the reader chooses within the group, such as the axis.
    """

    key: str
    workload: str
    title: str
    caption: str
    data: list[Trace]
    layout: dict[str, Any]
    height: int = 320
    group: str = ""
    option: str = ""

    def to_plotly(self) -> dict[str, Any]:
        """Write the figure as Plotly reads it: ``plotly.graph_objects.Figure(**…)`` accepts it."""
        return {"data": self.data, "layout": self.layout}


def layout_of(x_title: str, y_title: str) -> dict[str, Any]:
    """Lay out a figure; colours are those of a light ground.

    Args:
        x_title: with the unit.
        y_title: with the unit; may be empty.

    Returns:
        A Plotly layout.
    """
    axis = {"gridcolor": GRID[0], "linecolor": MUTED[0], "zeroline": False, "ticks": "outside", "tickcolor": GRID[0]}
    title = {"font": {"size": 13, "color": MUTED[0]}, "standoff": 8}
    return {
        "font": {"color": INK[0], "size": 13, "family": "system-ui, -apple-system, 'Segoe UI', sans-serif"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 64, "r": 14, "t": 8, "b": 52},
        "hovermode": "closest",
        "dragmode": False,
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        "xaxis": axis | {"title": {"text": x_title} | title, "automargin": True},
        "yaxis": axis | {"title": {"text": y_title} | title, "automargin": True},
    }


def band_edges(
    arm: str, xs: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str, shape: str = "linear"
) -> list[Trace]:
    """Draw a band, without a legend of its own.

    Args:
        arm: label; the band goes with its line.
        xs: positions.
        low: lower edge.
        high: upper edge.
        colour: of the arm's line.
        shape: ``linear``, or ``hv`` for steps.

    Returns:
        Its two edges, the second filled to the first.
    """
    edge: Trace = {"type": "scatter", "mode": "lines", "line": {"width": 0, "shape": shape}, "hoverinfo": "skip"}
    edge |= {"showlegend": False, "legendgroup": arm, "name": arm, "x": list(xs)}
    return [edge | {"y": list(low)}, edge | {"y": list(high), "fill": "tonexty", "fillcolor": band_colour(colour)}]
