"""What the teleports themselves did: gain against drift, null spaces, spectra, and what their time goes into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.report.figures.axes import numeric_axis, share_axis
from orchestrator.report.figures.frame import Figure, Trace, bars, layout_of, trace
from orchestrator.report.palette import LAYERS, PARTS
from orchestrator.report.schema import Price, Report, StudyReport
from orchestrator.report.wording import number, percent

# Below this a change of the loss is rounding, and a logarithmic axis has no zero.
SMALLEST_DRIFT = 1e-8
MAX_LAYERS = 24
PHASES = {
    "capture": "finding out what each weight multiplies",
    "subspace": "factorisations",
    "direction": "gradients and projections",
    "apply": "moving, and looking where it landed",
}


def drift_figure(studies: Sequence[StudyReport], colours: Mapping[str, str]) -> Figure | None:
    """Draw what the teleports gained against what they cost in loss, step by step (the paper's figure 6b).

    There is no figure where no teleport moved the weights.
    """
    found = [(study, price) for study, price in priced(studies) if price.steps]
    if not found:
        return None
    data = [each for study, price in found for each in _drift_traces(study, price, colours[study.arm])]
    layout = layout_of("mean |change of the loss| (log scale)", "‖g‖² now / before (log scale)")
    for axis in ("x", "y"):
        layout[f"{axis}axis"] |= numeric_axis((value for each in data for value in each[axis]), is_log=True)
    caption = (
        "Each point is a step of a teleport, from the first to the last; further up and to the left is better. Values "
        f"are means over all teleports of the confirm runs. A change below {SMALLEST_DRIFT:g} is rounding and is drawn "
        f"at {SMALLEST_DRIFT:g}."
    )
    if any(step.probe_drift is not None for _, price in found for step in price.steps):
        caption += " Diamonds show the change of the loss on the probe, which is data that no teleport saw."
    return Figure(
        key=f"{studies[0].workload}-drift",
        workload=studies[0].workload,
        title="What a teleport gains, and what that costs in loss",
        caption=caption,
        data=data,
        layout=layout,
    )


def _drift_traces(study: StudyReport, price: Price, colour: str) -> list[Trace]:
    is_told = study.tau is None or _tau(study) in study.arm
    name = study.arm if is_told else f"{study.arm} (tau {_tau(study)})"
    told = [f"{name}, step {step.step}: ×{number(step.gain)}, loss" for step in price.steps]
    changes = [f" changed by {number(step.loss_drift)} ({step.count:,} teleports)" for step in price.steps]
    traces = [
        trace(
            "lines+markers",
            name,
            [max(step.loss_drift, SMALLEST_DRIFT) for step in price.steps],
            [step.gain for step in price.steps],
            text=map(str.__add__, told, changes),
            line={"color": colour, "width": 2},
            marker={"color": colour, "size": 6},
            legendgroup=study.arm,
        )
    ]
    probed = [(step.gain, step.probe_drift, of) for step, of in zip(price.steps, told, strict=True)]
    on_probe = [(gain, drift, of) for gain, drift, of in probed if drift is not None]
    if on_probe:
        line = {"color": colour, "width": 2}
        diamonds = trace(
            "markers",
            f"{name}, probe",
            [max(drift, SMALLEST_DRIFT) for _, drift, _ in on_probe],
            [gain for gain, *_ in on_probe],
            text=[f"{of} on the probe changed by {number(drift)}" for _, drift, of in on_probe],
            marker={"color": colour, "size": 10, "symbol": "diamond-open", "line": line},
            legendgroup=study.arm,
            showlegend=False,
        )
        traces.append(diamonds)
    return traces


def _tau(study: StudyReport) -> str:
    return study.tau if isinstance(study.tau, str) else f"{study.tau:g}"


def null_space_figure(studies: Sequence[StudyReport], colours: Mapping[str, str]) -> Figure | None:
    """Draw the share of each layer's inputs that was free to move along; None where no layer was factorised."""
    found = [(study, price) for study, price in priced(studies) if price.null_shares]
    if not found:
        return None
    known = {name for _, price in found for name in price.null_shares}
    names = [layer.name for layer in found[0][1].layers if layer.name in known]
    shown = names[:MAX_LAYERS]
    # Plotly stacks horizontal bars from below, so they are drawn last to first to follow the order of the legend.
    data = [_null_bars(study.arm, price, shown, colours[study.arm]) for study, price in reversed(found)]
    layout = layout_of("null space, share of the layer's inputs", "")
    # The axis begins below 0 so that an empty bar still shows, and is not taken for a layer that was left out.
    layout["xaxis"] |= share_axis()
    layout["yaxis"] |= {"categoryorder": "array", "categoryarray": shown[::-1], "showgrid": False, "type": "category"}
    layout["legend"] |= {"traceorder": "reversed"}
    layout |= {"barmode": "group", "bargap": 0.3}
    caption = (
        "Means over the teleports of the confirm runs. A layer without a bar has no null space, or its input is fixed "
        "at tau = 1." + _rest(len(names), "are in the table alone")
    )
    return Figure(
        key=f"{studies[0].workload}-null-space",
        workload=studies[0].workload,
        title="Null space by layer",
        caption=caption,
        data=data,
        layout=layout,
        height=120 + len(shown) * (14 + 9 * len(found)),
    )


def _null_bars(arm: str, price: Price, shown: Sequence[str], colour: str) -> Trace:
    free = [layer for layer in price.layers if layer.name in price.null_shares and layer.name in shown]
    text = [f"{arm}, {layer.name}: {number(layer.mean_null_dim)} of {layer.d_in:,} inputs" for layer in free]
    names = [layer.name for layer in free]
    return bars(arm, names, [price.null_shares[name] for name in names], text, colour)


def _rest(num_layers: int, where: str) -> str:
    return f" The last {num_layers - MAX_LAYERS} layers {where}." if num_layers > MAX_LAYERS else ""


def spectrum_figures(studies: Sequence[StudyReport]) -> list[Figure]:
    """Draw how the energy of each layer's inputs lies in their directions, an arm a figure (the paper's figure 6a)."""
    return [_spectrum_figure(study, price) for study, price in priced(studies) if price.spectra]


def _spectrum_figure(study: StudyReport, price: Price) -> Figure:
    data = [
        trace(
            "lines",
            spectrum.layer,
            spectrum.directions,
            spectrum.shares,
            text=[
                f"{spectrum.layer}: {directions * spectrum.d_in:.0f} of {spectrum.d_in:,} hold {percent(share, 2)}"
                for directions, share in zip(spectrum.directions, spectrum.shares, strict=True)
            ],
            line={"color": LAYERS[place % len(LAYERS)][0], "width": 2, "dash": _dash(place)},
        )
        for place, spectrum in enumerate(price.spectra[:MAX_LAYERS])
        if spectrum.directions
    ]
    layout = layout_of("directions, share of the layer's inputs", "share of the energy")
    layout["xaxis"] |= share_axis()
    layout["yaxis"] |= share_axis()
    # A layer's name takes a line, and Plotly lets a legend scroll in half of the figure unless told otherwise.
    layout["legend"] |= {"maxheight": 1.0}
    return Figure(
        key=f"{study.workload}-{study.arm}-spectrum",
        workload=study.workload,
        title=f"Energy spectrum of the layers' inputs, {study.arm}",
        caption="Spectra at the first teleport, as means over the confirm runs. The sooner a line is at the top, the "
        "more directions are free below tau = 1." + _rest(len(price.spectra), "are in report.json alone"),
        data=data,
        layout=layout,
        height=300 + 20 * len(data),
    )


def _dash(place: int) -> str:
    return ("solid", "dash", "dot", "dashdot")[place // len(LAYERS) % 4]


def phase_figure(studies: Sequence[StudyReport]) -> Figure | None:
    """Draw what the teleports of each arm spend their time on; None where no arm teleported."""
    found = [(study.arm, price.seconds_by_phase) for study, price in priced(studies)]
    found = [(arm, seconds) for arm, seconds in found if sum(seconds.values()) > 0.0]
    if not found:
        return None
    data = []
    for place, (phase, meaning) in enumerate(PHASES.items()):
        spent = [(arm, of.get(phase, 0.0), sum(of.values())) for arm, of in found]
        text = [f"{arm}, {phase} ({meaning}): {number(s)} s, {percent(s / total)}" for arm, s, total in spent]
        arms, seconds = [arm for arm, *_ in spent], [s for _, s, _ in spent]
        data.append(bars(phase, arms, seconds, text, PARTS[place][0]))
    layout = layout_of("seconds in teleports (all confirm runs together)", "")
    layout["xaxis"] |= numeric_axis((sum(seconds.values()) for _, seconds in found), from_zero=True)
    layout["yaxis"] |= {"autorange": "reversed", "showgrid": False, "type": "category"}
    layout |= {"barmode": "stack", "bargap": 0.4, "showlegend": True}
    return Figure(
        key=f"{studies[0].workload}-phases",
        workload=studies[0].workload,
        title="What the teleports' time goes into",
        caption="; ".join(f"{phase}: {meaning}" for phase, meaning in PHASES.items()).capitalize() + ".",
        data=data,
        layout=layout,
        height=130 + 34 * len(found),
    )


def depth_figure(report: Report, colours: Mapping[str, str]) -> Figure | None:
    """Draw the seconds of a teleport against the number of layers, over the workloads (the paper's figure 3).

    There is no figure unless all workloads have the same model, and that at three depths or more.
    """
    if len({_model_name(report, workload) for workload in report.workloads}) != 1:
        return None
    made = (_depth_trace(report, arm, colours[arm]) for arm in report.arms)
    data = [each for each in made if each is not None]
    if not data:
        return None
    layout = layout_of("linear layers of the model", "seconds a teleport (optimizer clock)")
    layout["xaxis"] |= numeric_axis((x for each in data for x in each["x"]), is_integer=True, from_zero=True)
    layout["yaxis"] |= numeric_axis((y for each in data for y in each["y"]), from_zero=True)
    layout |= {"showlegend": True}
    return Figure(
        key=f"{report.sweep.name}-depth",
        workload="",
        title="Time of a teleport against depth",
        caption="Each point is a workload: the seconds that all its confirm runs spent in teleports, over the number "
        "of teleports. Workloads compare where their teleports have equally many steps.",
        data=data,
        layout=layout,
    )


def _depth_trace(report: Report, arm: str, colour: str) -> Trace | None:
    points = sorted(
        (len(price.layers), price.seconds_per_teleport, study.workload)
        for study, price in priced([study for study in report.studies if study.arm == arm])
        if price.layers and price.seconds_per_teleport is not None
    )
    if len({layers for layers, *_ in points}) < 3:
        return None
    return trace(
        "lines+markers",
        arm,
        [layers for layers, *_ in points],
        [seconds for _, seconds, _ in points],
        text=[f"{of}/{arm}: {layers} layers, {number(seconds)} s a teleport" for layers, seconds, of in points],
        line={"color": colour, "width": 2},
        marker={"color": colour, "size": 8},
    )


def _model_name(report: Report, workload: str) -> str:
    spec = report.sweep.spec["workloads"]
    model = spec[workload]["model"] if isinstance(spec, dict) else None  # type: ignore[index,call-overload]
    return str(model.get("name")) if isinstance(model, dict) else ""


def priced(studies: Sequence[StudyReport]) -> list[tuple[StudyReport, Price]]:
    """List the studies that were confirmed, each with its price."""
    return [(study, study.price) for study in studies if study.price is not None]
