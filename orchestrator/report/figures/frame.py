"""What every figure shares: its fields, its layout, and the traces that it is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

from orchestrator.report.palette import GRID, INK, MUTED, band_colour

Trace = dict[str, Any]
# Metric -> its name where a reader chooses among several, and the title of its axis.
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
        key: its name, unique within the report.
        workload: the label of its workload; empty where it shows several.
        title: what it shows.
        caption: how to read it.
        data: Plotly traces.
        layout: Plotly layout.
        height: in pixels.
        group: the place that it shares with other figures, of which the reader sees one at a time; empty where it
            stands alone.
        option: what the reader chooses to see this figure of its group, such as the axis.
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
    """Make a Plotly layout in the colours of a light page; the titles of the axes name their units."""
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


def rows_axis(labels: Sequence[str]) -> dict[str, Any]:
    """Lay out a vertical axis with a named row for each label, the first on top."""
    places = list(range(len(labels)))
    span = [len(labels) - 0.5, -0.5]
    return {"tickvals": places, "ticktext": list(labels), "range": span, "showgrid": False, "automargin": True}


def trace(
    mode: str,
    name: str,
    x: Iterable[float | None],
    y: Iterable[float | None],
    *,
    text: Iterable[str] | None = None,
    hover: str = "",
    **more: object,
) -> Trace:
    """Make a scatter trace.

    Args:
        mode: ``lines``, ``markers`` or both with a plus.
        name: stands in the legend.
        x: positions.
        y: heights.
        text: what the pointer shows at each point.
        hover: Plotly's template for what the pointer shows, where it is not ``text``; without both it shows nothing.
        more: further fields of the trace.
    """
    told: Trace = {"hoverinfo": "skip"}
    if text is not None:
        told = {"text": list(text), "hovertemplate": f"{hover or '%{text}'}<extra></extra>"}
    elif hover:
        told = {"hovertemplate": f"{hover}<extra></extra>"}
    return {"type": "scatter", "mode": mode, "name": name, "x": list(x), "y": list(y), **told, **more}


def bars(name: str, labels: Iterable[str], lengths: Iterable[float], text: Iterable[str], colour: str) -> Trace:
    """Make a trace of horizontal bars; the pointer shows the text of each."""
    shown = {"text": list(text), "textposition": "none", "hovertemplate": "%{text}<extra></extra>"}
    shape = {"type": "bar", "orientation": "h", "y": list(labels), "x": list(lengths)}
    return shape | shown | {"marker": {"color": colour}, "name": name}


def band_edges(
    arm: str, xs: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str, shape: str = "linear"
) -> list[Trace]:
    """Draw the band of an arm's line as two edges, the second filled to the first; ``shape`` is ``hv`` for steps."""
    edge = trace("lines", arm, xs, low, line={"width": 0, "shape": shape}, showlegend=False, legendgroup=arm)
    return [edge, edge | {"y": list(high), "fill": "tonexty", "fillcolor": band_colour(colour)}]
