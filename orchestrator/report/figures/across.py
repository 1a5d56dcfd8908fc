"""What shows over several workloads or sweeps alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.report.figures.effects import EFFECTS, effect_figure
from orchestrator.report.figures.frame import TIME_METRICS, Figure
from orchestrator.report.schema import Comparison, Report
from orchestrator.spec import BASELINE


def matrix_figures(reports: Sequence[Report], colours: dict[str, str]) -> list[Figure]:
    """Draw each arm's effect on each workload, one below the other; there is no figure for one workload alone."""
    if sum(len(report.workloads) for report in reports) < 2:
        return []
    made = (_matrix(reports, colours, metric) for metric in TIME_METRICS)
    return [figure for figure in made if figure is not None]


def _matrix(reports: Sequence[Report], colours: dict[str, str], metric: str) -> Figure | None:
    found = [(report, each) for report in reports for each in report.comparisons if _is_shown(each, metric)]
    if not found:
        return None
    places = [f"{report.sweep.name}/{each.workload}" if len(reports) > 1 else each.workload for report, each in found]
    several = len({each.arm for _, each in found}) > 1
    labels = [f"{place} · {each.arm}" if several else place for place, (_, each) in zip(places, found, strict=True)]
    return replace(
        effect_figure([each for _, each in found], colours, labels),
        key=f"matrix-{metric}",
        workload="",
        title="Effects over all workloads",
        caption=f"Each row compares an arm with the baseline of the same workload. {EFFECTS}",
        group="matrix",
        option=TIME_METRICS[metric][0],
    )


def _is_shown(comparison: Comparison, metric: str) -> bool:
    return comparison.metric == metric and comparison.against == BASELINE and comparison.interval is not None
