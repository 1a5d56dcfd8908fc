"""Whether one setting serves all workloads: the transfer matrix, and how sensitive each workload is."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.figures.axes import numeric_axis, say_log
from orchestrator.report.figures.frame import Figure, Trace, layout_of, rows_axis, trace
from orchestrator.report.palette import INK, LAYERS, MUTED, SHADES
from orchestrator.report.schema import Sensitivity, SensitivityBand, Transfer, TransferCell
from orchestrator.report.sections.transfer import band_name, cell_text, short_text
from orchestrator.report.wording import percent, unit_of
from orchestrator.spec import ALL

# A regret of this or more has the faintest colour.
FAINTEST_REGRET = 2.0
THIN, THICK, THICKER = 1.5, 4.0, 3.0


def transfer_figures(transfers: Sequence[Transfer]) -> list[Figure]:
    """Draw each arm's transfer matrix and, in one place, the cost along each of its parameters."""
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
    layout["yaxis"] |= rows_axis([each.label for each in settings])
    layout |= {"barmode": "overlay", "showlegend": False}
    data = [
        _matrix_row(each.label, row, place, transfer.workloads)
        for place, (each, row) in enumerate(zip(settings, cells, strict=True))
    ]
    return Figure(
        key=f"transfer-{place}",
        workload="",
        title=f"Transfer matrix of {transfer.arm}",
        caption=f"A cell is the regret of a row's setting on a column's workload: how much more it costs in "
        f"{unit_of(transfer.metric)} than the setting tuned there. The text is the Hodges-Lehmann estimate; (search) "
        "marks one on the search's own seeds. The fainter the colour, the larger the geometric mean over the seeds, in "
        "which a miss counts as twice its budget. Intervals are in the table.",
        data=data,
        layout=layout,
        height=140 + 56 * len(settings),
    )


def _matrix_row(label: str, cells: Sequence[TransferCell | None], place: int, workloads: Sequence[str]) -> Trace:
    """Draw a row of the matrix as bars of height 1, one for each workload."""
    known = [(workload, cell) for workload, cell in zip(workloads, cells, strict=True) if cell is not None]
    return {
        "type": "bar",
        "name": label,
        "x": [workload for workload, _ in known],
        "y": [0.96] * len(known),
        "base": [place - 0.48] * len(known),
        "width": 0.97,
        "text": [short_text(cell) for _, cell in known],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "textfont": {"size": 14, "color": INK[0]},
        "hovertext": [
            f"{label}, on {workload}: ×{cell.regret:.3g} of what was tuned there<br>{cell_text(cell)}"
            for workload, cell in known
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"color": [_shade(cell.regret) for _, cell in known]},
    }


def _shade(regret: float) -> str:
    """Choose the colour of a cell, the fainter the larger its regret; text is legible on each."""
    shades = [light for light, _ in SHADES[2:]]
    share = (min(max(regret, 1.0), FAINTEST_REGRET) - 1.0) / (FAINTEST_REGRET - 1.0)
    return shades[round(share * (len(shades) - 1))]


def _bands(transfer: Transfer, place: int) -> list[Figure]:
    shown = [each for each in transfer.sensitivity if any(band.low is not None for band in each.bands)]
    return [_band_figure(transfer, each, place) for each in shown]


def _band_figure(transfer: Transfer, found: Sensitivity, place: int) -> Figure:
    layout = layout_of(found.parameter, "of the best stretch")
    data: list[Trace] = []
    for place_of_band, band in enumerate(found.bands):
        index = 0 if band.workload == ALL else transfer.workloads.index(band.workload)
        colour = LAYERS[index % len(LAYERS)][0]
        # Bands lie on each other where they are best: those drawn first are wider, and so seen below the others.
        data += _segments(band, colour, THICK + THICKER * (len(found.bands) - 1 - place_of_band))
    bound = [1.0 + found.tolerance] * 2
    ends = [min(b.bins[0].low for b in found.bands), max(b.bins[-1].high for b in found.bands)]
    dotted = {"color": MUTED[0], "width": 1, "dash": "dot"}
    data.append(trace("lines", f"+{percent(found.tolerance)}", ends, bound, line=dotted))
    layout["xaxis"] |= numeric_axis(ends, is_log=found.is_log)
    say_log(layout["xaxis"])
    layout["yaxis"] |= numeric_axis(y for each in data for y in each["y"])
    layout["yaxis"]["ticktext"] = [f"×{label}" for label in layout["yaxis"]["ticktext"]]
    return Figure(
        key=f"transfer-{place}-band-{found.parameter}",
        workload="",
        title=f"How sensitive workloads are to the settings of {transfer.arm}",
        caption="Each line is a stretch of the searched range. Its height is the lower quartile of the costs of its "
        f"trials, over that of the best stretch. Thick lines are the band within {percent(found.tolerance)} of the "
        "best. A stretch with fewer than five trials has no line. Exploratory: on the search's own seeds.",
        data=data,
        layout=layout,
        group=f"transfer-{place}-band",
        option=found.parameter,
    )


def _segments(band: SensitivityBand, colour: str, thick: float) -> list[Trace]:
    """Draw every stretch of a band's range thin, and those of the band itself once more and thick."""
    known = [each for each in band.bins if each.cost is not None]
    low, high = (band.low, band.high) if band.low is not None and band.high is not None else (1.0, 0.0)
    close = [each for each in known if low <= each.low and each.high <= high]
    name = band_name(band)
    return [
        trace(
            "lines",
            name,
            [x for each in stretches for x in (each.low, each.high, None)],
            [y for each in stretches for y in (each.cost, each.cost, None)],
            hover=f"{name}, at %{{x:.4g}}: ×%{{y:.3g}}",
            legendgroup=band.workload,
            showlegend=is_named,
            line={"color": colour, "width": width},
        )
        for stretches, width, is_named in ((known, THIN, True), (close, thick, False))
    ]
