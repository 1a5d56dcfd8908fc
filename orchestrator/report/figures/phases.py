"""What the time of a teleport goes into."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.figures.frame import Figure, Trace, layout_of
from orchestrator.report.figures.teleports import priced
from orchestrator.report.palette import LAYERS
from orchestrator.report.schema import StudyReport
from orchestrator.report.wording import number, percent

PHASES = {
    "capture": "finding out what each weight multiplies",
    "subspace": "factorisations",
    "direction": "gradients and projections",
    "apply": "moving, and looking where it landed",
}


def phase_figure(studies: Sequence[StudyReport]) -> Figure | None:
    """Draw what a teleport's time goes into.

    Args:
        studies: of one workload.

    Returns:
        The figure, a bar per arm; None where no arm teleports, or the results are from before this was kept.
    """
    found = [(study, price) for study, price in priced(studies) if sum(price.seconds_by_phase.values()) > 0.0]
    if not found:
        return None
    data: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [study.arm for study, _ in found],
            "x": [price.seconds_by_phase.get(phase, 0.0) for _, price in found],
            "text": [
                f"{study.arm}, {phase} ({meaning}): {number(price.seconds_by_phase.get(phase, 0.0))} s, "
                + percent(price.seconds_by_phase.get(phase, 0.0) / sum(price.seconds_by_phase.values()))
                for study, price in found
            ],
            "textposition": "none",
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"color": LAYERS[place][0]},
            "name": phase,
        }
        for place, (phase, meaning) in enumerate(PHASES.items())
    ]
    layout = layout_of("seconds in teleports (all confirm runs together)", "")
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
