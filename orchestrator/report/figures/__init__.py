"""The report's figures as plain Plotly specifications; plotly itself is not needed to make them.

Each is a pure function of the report. ``plotly.graph_objects.Figure(**figure.to_plotly())`` takes what they give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.report.curves import AXES
from orchestrator.report.figures.arrivals import arrival_figures
from orchestrator.report.figures.axes import numeric_axis
from orchestrator.report.figures.curves import curve_figure
from orchestrator.report.figures.effects import effect_figures, points_figure
from orchestrator.report.figures.frame import Figure, Trace, layout_of, trace
from orchestrator.report.figures.profiles import profile_figures
from orchestrator.report.figures.rates import rate_figure
from orchestrator.report.figures.search import history_figure, importance_figure, pareto_figures
from orchestrator.report.figures.teleports import (
    depth_figure,
    drift_figure,
    null_space_figure,
    phase_figure,
    spectrum_figures,
)
from orchestrator.report.figures.transfer import transfer_figures
from orchestrator.report.figures.tuning import tuning_figures
from orchestrator.report.palette import arm_colours
from orchestrator.report.schema import JointReport, Report, StudyReport, reports_of
from orchestrator.spec import BASELINE

Colours = dict[str, str]


def colours_of(report: Report | JointReport) -> Colours:
    """Give each arm its colour on a light page, ``#rrggbb``, the same in all sweeps of the report."""
    return arm_colours(list(dict.fromkeys(arm for each in reports_of(report) for arm in each.arms)))


def figures(report: Report, workload: str, colours: Colours | None = None) -> list[Figure]:
    """Draw what a workload's confirm runs say; the list is empty before confirm.

    There are steps against the learning rate, curves against steps, seconds and gradient evaluations, each seed's time
    to target, the share of seeds that arrived by when, and what the teleports did.
    """
    studies = [study for study in report.studies if study.workload == workload]
    shades = colours_of(report) if colours is None else colours
    rates = rate_figure(studies, shades)
    return [
        *([rates] if rates else []),
        *_curves(report, studies, shades),
        *_times(report, studies, shades),
        *_teleports(studies, shades),
    ]


def _curves(report: Report, studies: Sequence[StudyReport], colours: Colours) -> Iterator[Figure]:
    if not any(study.curves for study in studies):
        return
    target = report.sweep.targets[studies[0].workload]
    for metric in dict.fromkeys([target.metric, "train_loss", "validation_loss"]):
        aim = target.value if metric == target.metric else None
        yield from (curve_figure(studies, colours, metric, axis, aim) for axis in AXES)


def _times(report: Report, studies: Sequence[StudyReport], colours: Colours) -> Iterator[Figure]:
    workload = studies[0].workload
    comparisons = [c for c in report.comparisons if c.workload == workload and c.against == BASELINE]
    for metric in ("steps_to_target", "seconds_to_target"):
        if any(run.outcome != "running" for study in studies if study.best for run in study.best.confirm):
            yield points_figure(studies, comparisons, colours, metric)
    yield from arrival_figures(studies, colours)


def _teleports(studies: Sequence[StudyReport], colours: Colours) -> Iterator[Figure]:
    made = (drift_figure(studies, colours), null_space_figure(studies, colours), phase_figure(studies))
    yield from (figure for figure in made if figure is not None)
    yield from spectrum_figures(studies)


def search_figures(report: Report, workload: str, colours: Colours | None = None) -> list[Figure]:
    """Draw what a workload's search tried; the list is empty before a trial is COMPLETE.

    There are its course, the best of fewer trials and of less time, importances where the report has them, and Pareto
    fronts where the search has several objectives.
    """
    studies = [study for study in report.studies if study.workload == workload]
    objective = report.sweep.objective
    shades = colours_of(report) if colours is None else colours
    history, importance = history_figure(studies, shades, objective), importance_figure(studies, shades)
    return [
        *([history] if history else []),
        *tuning_figures(studies, shades, objective),
        *([importance] if importance else []),
        *pareto_figures(studies, shades, [objective, *report.sweep.also]),
    ]


def answer_figures(report: Report | JointReport) -> list[Figure]:
    """Draw the answer: each arm's effect on each workload with its interval and its verdict."""
    return effect_figures(reports_of(report))


def across_figures(report: Report | JointReport, colours: Colours | None = None) -> list[Figure]:
    """Draw what shows over several workloads alone: performance profiles, and the time of a teleport against depth.

    The latter is drawn for sweeps that vary depth.
    """
    shades = colours_of(report) if colours is None else colours
    reports = reports_of(report)
    depths = (depth_figure(each, shades) for each in reports)
    return [
        *profile_figures(reports, shades),
        *(depth for depth in depths if depth is not None),
    ]


__all__ = [
    "Figure",
    "Trace",
    "across_figures",
    "answer_figures",
    "colours_of",
    "curve_figure",
    "figures",
    "history_figure",
    "layout_of",
    "numeric_axis",
    "search_figures",
    "trace",
    "transfer_figures",
    "tuning_figures",
]
