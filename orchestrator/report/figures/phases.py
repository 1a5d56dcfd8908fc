"""What the time of a teleport goes into."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.figures.frame import Figure, bars, layout_of
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
        data.append(bars(phase, arms, seconds, text, LAYERS[place][0]))
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
