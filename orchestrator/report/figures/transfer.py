"""Whether one setting serves all workloads: the transfer matrix, and how sensitive each workload is."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.figures.frame import Figure, Trace, layout_of
from orchestrator.report.palette import LAYERS, MUTED, SHADES
from orchestrator.report.schema import Sensitivity, SensitivityBand, Transfer
from orchestrator.report.sections.transfer import band_name, cell_text, short_text
from orchestrator.report.wording import UNITS, percent
from orchestrator.spec import ALL

# From here on a regret is bad enough, whatever it comes to.
FAINTEST_REGRET = 2.0
THIN, THICK, THICKER = 1.5, 4.0, 3.0


def transfer_figures(transfers: Sequence[Transfer]) -> list[Figure]:
    """Draw what is known of settings away from their own workload.

    Args:
        transfers: of the arms on the page.

    Returns:
        For each arm its transfer matrix and, in one place, the cost along each of its parameters; what has nothing to
        show is left out.
    """
    found = []
    for place, transfer in enumerate(transfers):
        matrix = _matrix(transfer, place)
        found += [*([matrix] if matrix else []), *_bands(transfer, place)]
    return found


def _matrix(transfer: Transfer, place: int) -> Figure | None:
    settings = transfer.rows
    cells = [[transfer.cell(each.key, workload) for workload in transfer.workloads] for each in settings]
    if all(cell is None or cell.is_own for row in cells for cell in row):
        return None
    layout = layout_of("run on", "")
    layout["xaxis"] |= {"type": "category", "showgrid": False}
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False}
    heat: Trace = {
        "type": "heatmap",
        "x": list(transfer.workloads),
        "y": [each.label for each in settings],
        "z": [[None if cell is None else cell.regret for cell in row] for row in cells],
        "text": [[short_text(cell) for cell in row] for row in cells],
        "customdata": [[cell_text(cell) for cell in row] for row in cells],
        "textfont": {"size": 14},
        "texttemplate": "%{text}",
        "hovertemplate": "%{y}, on %{x}: ×%{z:.3g} of what was tuned there<br>%{customdata}<extra></extra>",
        "zmin": 1.0,
        "zmax": FAINTEST_REGRET,
        "xgap": 2,
        "ygap": 2,
        "colorscale": _scale(),
        "showscale": False,
    }
    return Figure(
        key=f"transfer-{place}",
        workload="",
        title=f"Transfer matrix of {transfer.arm}",
        caption=f"Regret in {UNITS[transfer.metric]} of a setting on a workload against the one tuned there. The "
        "fainter the worse; colour: geometric mean over the seeds, a miss at twice its budget; text: Hodges-Lehmann "
        "estimate, where it says so on the search's own seeds. Intervals: in the table.",
        data=[heat],
        layout=layout,
        height=140 + 56 * len(settings),
    )


def _scale() -> list[list[float | str]]:
    """The fainter shades, so that text is legible on each."""
    shades = [light for light, _ in SHADES[2:]]
    return [[index / (len(shades) - 1), shade] for index, shade in enumerate(shades)]


def _bands(transfer: Transfer, place: int) -> list[Figure]:
    shown = [each for each in transfer.sensitivity if any(band.low is not None for band in each.bands)]
    return [_band_figure(transfer, each, place) for each in shown]


def _band_figure(transfer: Transfer, found: Sensitivity, place: int) -> Figure:
    layout = layout_of(found.parameter, "of the best stretch")
    layout["xaxis"] |= {"type": "log"} if found.is_log else {}
    layout["yaxis"] |= {"tickprefix": "×"}
    data: list[Trace] = []
    for place_of_band, band in enumerate(found.bands):
        index = 0 if band.workload == ALL else transfer.workloads.index(band.workload)
        colour = LAYERS[index % len(LAYERS)][0]
        # Bands lie on each other where they are best: those drawn first are wider, and so seen below the others.
        data += _segments(band, colour, THICK + THICKER * (len(found.bands) - 1 - place_of_band))
    bound = [1.0 + found.tolerance] * 2
    ends = [min(b.bins[0].low for b in found.bands), max(b.bins[-1].high for b in found.bands)]
    limit: Trace = {"type": "scatter", "mode": "lines", "name": f"+{percent(found.tolerance)}", "x": ends, "y": bound}
    data.append(limit | {"line": {"color": MUTED[0], "width": 1, "dash": "dot"}, "hoverinfo": "skip"})
    return Figure(
        key=f"transfer-{place}-band-{found.parameter}",
        workload="",
        title=f"How sensitive workloads are to the settings of {transfer.arm}",
        caption="A line per stretch of the searched range: the lower quartile of its trials' cost over that of the "
        f"best stretch; thick: the band within {percent(found.tolerance)}. Where there is no line there are fewer than "
        "five trials. Exploratory: on the search's own seeds.",
        data=data,
        layout=layout,
        group=f"transfer-{place}-band",
        option=found.parameter,
    )


def _segments(band: SensitivityBand, colour: str, thick: float) -> list[Trace]:
    """Its stretches, and those of the band once more and thick."""
    known = [each for each in band.bins if each.cost is not None]
    low, high = (band.low, band.high) if band.low is not None and band.high is not None else (1.0, 0.0)
    close = [each for each in known if low <= each.low and each.high <= high]
    traces = []
    for stretches, width, is_named in ((known, THIN, True), (close, thick, False)):
        trace: Trace = {
            "type": "scatter",
            "mode": "lines",
            "name": band_name(band),
            "legendgroup": band.workload,
            "showlegend": is_named,
            "x": [x for each in stretches for x in (each.low, each.high, None)],
            "y": [y for each in stretches for y in (each.cost, each.cost, None)],
            "line": {"color": colour, "width": width},
            "hovertemplate": f"{band_name(band)}, at %{{x:.4g}}: ×%{{y:.3g}}<extra></extra>",
        }
        traces.append(trace)
    return traces
