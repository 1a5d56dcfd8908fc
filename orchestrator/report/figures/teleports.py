"""What the teleports themselves did: gain against drift, null spaces, spectra, and their time against depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.report.figures.frame import Figure, Trace, layout_of
from orchestrator.report.palette import LAYERS
from orchestrator.report.schema import Price, Report, StudyReport
from orchestrator.report.wording import number, percent

# Below this, a change of the loss is rounding; and a logarithmic axis has no zero.
SMALLEST_DRIFT = 1e-8
MAX_LAYERS = 24


def drift_figure(studies: Sequence[StudyReport], colours: Mapping[str, str]) -> Figure | None:
    """Draw what the teleports gained against what they cost in loss, step by step (the paper's figure 6b).

    Args:
        studies: of one workload.
        colours: by arm.

    Returns:
        The figure; None where no teleport moved, or the results are from before this was kept.
    """
    found = [(study, price) for study, price in priced(studies) if price.steps]
    if not found:
        return None
    data = [trace for study, price in found for trace in _drift_traces(study, price, colours[study.arm])]
    layout = layout_of("mean |change of the loss| (log scale)", "‖g‖² now / before")
    layout["xaxis"] |= {"type": "log", "exponentformat": "power", "dtick": 1}
    layout["yaxis"] |= {"type": "log", "tickformat": "~g", "nticks": 6}
    probed = any(step.probe_drift is not None for _, price in found for step in price.steps)
    caption = (
        "A point per teleport step, from the first to the last; up and to the left is better. Means over all teleports "
        f"of the confirm runs. What is below {SMALLEST_DRIFT:g} is rounding and drawn there."
    )
    return Figure(
        key=f"{studies[0].workload}-drift",
        workload=studies[0].workload,
        title="What a teleport gains, and what that costs in loss",
        caption=caption + " Diamonds: the cost on the probe, data that no teleport saw." * probed,
        data=data,
        layout=layout,
    )


def _drift_traces(study: StudyReport, price: Price, colour: str) -> list[Trace]:
    is_told = study.tau is None or _tau(study) in study.arm
    name = study.arm if is_told else f"{study.arm} (tau {_tau(study)})"
    shared: Trace = {"type": "scatter", "legendgroup": study.arm, "hovertemplate": "%{text}<extra></extra>"}
    on_probe = [(step, step.probe_drift) for step in price.steps if step.probe_drift is not None]
    traces: list[Trace] = [
        shared
        | {
            "mode": "lines+markers",
            "x": [max(step.loss_drift, SMALLEST_DRIFT) for step in price.steps],
            "y": [step.gain for step in price.steps],
            "text": [
                f"{name}, step {step.step}: ×{number(step.gain)}, loss changed by {number(step.loss_drift)} "
                f"({step.count:,} teleports)"
                for step in price.steps
            ],
            "line": {"color": colour, "width": 2},
            "marker": {"color": colour, "size": 6},
            "name": name,
        }
    ]
    if on_probe:
        traces.append(
            shared
            | {
                "mode": "markers",
                "x": [max(drift, SMALLEST_DRIFT) for _, drift in on_probe],
                "y": [step.gain for step, _ in on_probe],
                "text": [
                    f"{name}, step {step.step}: ×{number(step.gain)}, loss on the probe changed by {number(drift)}"
                    for step, drift in on_probe
                ],
                "marker": {
                    "color": colour,
                    "size": 10,
                    "symbol": "diamond-open",
                    "line": {"color": colour, "width": 2},
                },
                "name": f"{name}, probe",
                "showlegend": False,
            }
        )
    return traces


def _tau(study: StudyReport) -> str:
    return study.tau if isinstance(study.tau, str) else f"{study.tau:g}"


def null_space_figure(studies: Sequence[StudyReport], colours: Mapping[str, str]) -> Figure | None:
    """Draw the share of each layer's inputs that was free to move along.

    Args:
        studies: of one workload.
        colours: by arm.

    Returns:
        The figure; None where no layer was factorised.
    """
    found = [(study, price) for study, price in priced(studies) if price.null_shares]
    if not found:
        return None
    known = {name for _, price in found for name in price.null_shares}
    names = [layer.name for layer in found[0][1].layers if layer.name in known]
    shown = names[:MAX_LAYERS]
    data: list[Trace] = []
    # Horizontal bars are stacked from below: drawn last to first they stand in the order of the legend.
    for study, price in reversed(found):
        free = [(layer, price.null_shares[layer.name]) for layer in price.layers if layer.name in price.null_shares]
        free = [(layer, share) for layer, share in free if layer.name in shown]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "y": [layer.name for layer, _ in free],
                "x": [share for _, share in free],
                "text": [
                    f"{study.arm}, {layer.name}: {number(layer.mean_null_dim)} of {layer.d_in:,} inputs"
                    for layer, _ in free
                ],
                "textposition": "none",
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {"color": colours[study.arm]},
                "name": study.arm,
            }
        )
    layout = layout_of("null space, share of the layer's inputs", "")
    # A hair of every bar shows, so that a null space of nothing is not taken for a layer that was left out.
    layout["xaxis"] |= {"range": [-0.005, 1.03], "tickformat": ".0%"}
    layout["yaxis"] |= {"categoryorder": "array", "categoryarray": shown[::-1], "showgrid": False, "type": "category"}
    layout["legend"] |= {"traceorder": "reversed"}
    layout |= {"barmode": "group", "bargap": 0.3}
    rest = len(names) - len(shown)
    caption = (
        "Mean over the teleports of the confirm runs. No bar: no null space, or an input that is fixed at tau = 1."
    )
    return Figure(
        key=f"{studies[0].workload}-null-space",
        workload=studies[0].workload,
        title="Null space by layer",
        caption=caption + (f" The last {rest} layers are in the table alone." if rest else ""),
        data=data,
        layout=layout,
        height=120 + len(shown) * (14 + 9 * len(found)),
    )


def spectrum_figures(studies: Sequence[StudyReport]) -> list[Figure]:
    """Draw how the energy of each layer's inputs lies in their directions (the paper's figure 6a).

    Args:
        studies: of one workload.

    Returns:
        A figure for each arm that kept spectra.
    """
    return [_spectrum_figure(study, price) for study, price in priced(studies) if price.spectra]


def _spectrum_figure(study: StudyReport, price: Price) -> Figure:
    shown = price.spectra[:MAX_LAYERS]
    data: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": list(spectrum.directions),
            "y": list(spectrum.shares),
            "text": [
                f"{spectrum.layer}: {directions * spectrum.d_in:.0f} of {spectrum.d_in:,} hold {percent(share, 2)}"
                for directions, share in zip(spectrum.directions, spectrum.shares, strict=True)
            ],
            "hovertemplate": "%{text}<extra></extra>",
            "line": {"color": LAYERS[place % len(LAYERS)][0], "width": 2, "dash": _dash(place)},
            "name": spectrum.layer,
        }
        for place, spectrum in enumerate(shown)
        if spectrum.directions
    ]
    layout = layout_of("directions, share of the layer's inputs", "share of the energy")
    layout["xaxis"] |= {"tickformat": ".0%", "range": [0.0, 1.03]}
    layout["yaxis"] |= {"tickformat": ".0%", "range": [0.0, 1.03]}
    # A layer's name takes a line, and Plotly lets a legend scroll in half of the figure unless told otherwise.
    layout["legend"] |= {"maxheight": 1.0}
    rest = len(price.spectra) - len(shown)
    return Figure(
        key=f"{study.workload}-{study.arm}-spectrum",
        workload=study.workload,
        title=f"Energy spectrum of the layers' inputs, {study.arm}",
        caption="At the first teleport; mean over the confirm runs. The sooner a line is at the top, the more "
        "directions are free below tau = 1." + (f" The last {rest} layers are in report.json alone." if rest else ""),
        data=data,
        layout=layout,
        height=300 + 20 * len(data),
    )


def _dash(place: int) -> str:
    return ("solid", "dash", "dot", "dashdot")[place // len(LAYERS) % 4]


def depth_figure(report: Report, colours: Mapping[str, str]) -> Figure | None:
    """Draw the seconds of a teleport against the number of layers, over the workloads (the paper's figure 3).

    Args:
        report: of a sweep.
        colours: by arm.

    Returns:
        The figure; None where the workloads are not one model at three depths or more.
    """
    if len({_model_name(report, workload) for workload in report.workloads}) != 1:
        return None
    data: list[Trace] = []
    for arm in report.arms:
        found = priced([study for study in report.studies if study.arm == arm])
        points = sorted(
            (len(price.layers), price.seconds_per_teleport, study.workload)
            for study, price in found
            if price.layers and price.seconds_per_teleport is not None
        )
        if len({layers for layers, *_ in points}) >= 3:
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "x": [layers for layers, *_ in points],
                    "y": [seconds for _, seconds, _ in points],
                    "text": [
                        f"{workload}/{arm}: {layers} layers, {number(seconds)} s a teleport"
                        for layers, seconds, workload in points
                    ],
                    "hovertemplate": "%{text}<extra></extra>",
                    "line": {"color": colours[arm], "width": 2},
                    "marker": {"color": colours[arm], "size": 8},
                    "name": arm,
                }
            )
    if not data:
        return None
    layout = layout_of("linear layers of the model", "seconds a teleport (optimizer clock)")
    layout["xaxis"] |= {"rangemode": "tozero"}
    layout["yaxis"] |= {"rangemode": "tozero"}
    layout |= {"showlegend": True}
    return Figure(
        key=f"{report.sweep.name}-depth",
        workload="",
        title="Time of a teleport against depth",
        caption="A point per workload: all seconds spent in teleports over their number, confirm runs together. "
        "Comparable where all have as many steps a teleport.",
        data=data,
        layout=layout,
    )


def _model_name(report: Report, workload: str) -> str:
    spec = report.sweep.spec["workloads"]
    model = spec[workload]["model"] if isinstance(spec, dict) else None  # type: ignore[index,call-overload]
    return str(model.get("name")) if isinstance(model, dict) else ""


def priced(studies: Sequence[StudyReport]) -> list[tuple[StudyReport, Price]]:
    """List the studies that were confirmed, each with its price."""
    return [(study, study.price) for study in studies if study.price is not None]
