"""What shows over several workloads or sweeps alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.report.figures.effects import effect_figure
from orchestrator.report.figures.frame import TIME_METRICS, Figure
from orchestrator.report.schema import Comparison, Report
from orchestrator.spec import BASELINE


def matrix_figures(reports: Sequence[Report], colours: dict[str, str]) -> list[Figure]:
    """Draw each arm's effect on each workload, one below the other.

    Args:
        reports: of the sweeps on the page.
        colours: by arm.

    Returns:
        A figure for steps, seconds and gradient evaluations each, in one place; empty where there is one workload.
    """
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
    drawn = effect_figure([each for _, each in found], colours, labels)
    return replace(
        drawn,
        key=f"matrix-{metric}",
        workload="",
        title="Effects over all workloads",
        caption="Diamond and line: Hodges-Lehmann estimate and its exact 95 % interval (simultaneous for a claim among "
        "several) against the baseline of the same workload; small points: each seed. "
        "Left is better. Only steps of a teleport arm carry a verdict.",
        group="matrix",
        option=TIME_METRICS[metric][0],
    )


def _is_shown(comparison: Comparison, metric: str) -> bool:
    return comparison.metric == metric and comparison.against == BASELINE and comparison.interval is not None
