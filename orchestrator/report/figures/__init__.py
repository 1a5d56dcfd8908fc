"""The report's figures as plain Plotly specifications; plotly itself is not needed to make them."""

from __future__ import annotations

from typing import Literal

from orchestrator.report.figures.curves import curve_figure
from orchestrator.report.figures.effects import effect_figure, points_figure
from orchestrator.report.figures.frame import TIME_METRICS, Figure
from orchestrator.report.figures.teleports import depth_figure, drift_figure, null_space_figure, spectrum_figures
from orchestrator.report.palette import arm_colours
from orchestrator.report.schema import Report
from orchestrator.spec import BASELINE

__all__ = ["Figure", "across_figures", "curve_figure", "effect_figure", "figures", "points_figure"]


def figures(report: Report, workload: str) -> list[Figure]:
    """Draw a workload's figures.

    Args:
        report: of a sweep.
        workload: label.

    Returns:
        Curves against steps and seconds, time to target with its raw points, effects with their intervals, and what
        the teleports did; empty before confirm.
    """
    studies = [study for study in report.studies if study.workload == workload]
    colours = arm_colours(report.arms)
    comparisons = [c for c in report.comparisons if c.workload == workload and c.against == BASELINE]
    target = report.sweep.targets[workload]
    found: list[Figure] = []
    if any(study.curves for study in studies):
        metrics: list[str] = list(dict.fromkeys([target.metric, "train_loss", "validation_loss"]))
        for metric in metrics:
            axes: tuple[Literal["step", "seconds"], ...] = ("step", "seconds")
            aim = target.value if metric == target.metric else None
            found += [curve_figure(studies, colours, metric, axis, aim) for axis in axes]
    for metric in ("steps_to_target", "seconds_to_target"):
        if any(run.outcome != "running" for study in studies if study.best for run in study.best.confirm):
            found.append(points_figure(studies, comparisons, colours, metric))
    shown = [c for c in comparisons if c.metric in TIME_METRICS and c.interval is not None]
    if shown:
        found.append(effect_figure(shown, colours))
    made = (drift_figure(studies, colours), null_space_figure(studies, colours))
    return [*found, *(figure for figure in made if figure is not None), *spectrum_figures(studies)]


def across_figures(report: Report) -> list[Figure]:
    """Draw what shows over the workloads of a sweep alone.

    Args:
        report: of a sweep.

    Returns:
        The time of a teleport against depth, where the workloads differ in it.
    """
    depth = depth_figure(report, arm_colours(report.arms))
    return [] if depth is None else [depth]
