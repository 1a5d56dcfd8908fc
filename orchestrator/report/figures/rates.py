"""Steps to target against the learning rate: the picture that a comparison of arms is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.report.figures.axes import numeric_axis
from orchestrator.report.figures.frame import Figure, Trace, layout_of, trace
from orchestrator.report.schema import ConfirmSeed, GridResult, StudyReport
from orchestrator.report.wording import number
from orchestrator.spec import LEARNING_RATE
from orchestrator.statistics import MISS_FACTOR

CAPTION = (
    "Each line is an arm's geometric mean over the confirm seeds, and each small point is a seed. A ring marks the "
    "rate at which an arm is best and is compared. A seed that missed its target is a cross at twice its budget. Lower "
    "is better. Two arms are alike where their lines are one above the other, whatever rates their searches found."
)


def rate_figure(studies: Sequence[StudyReport], colours: Mapping[str, str]) -> Figure | None:
    """Draw the arms of one workload on its confirm grid; None where there is no grid of rates."""
    shown = [study for study in studies if len([p for p in study.grid if p.rate is not None and p.mean_steps]) > 1]
    if not shown:
        return None
    parameter = shown[0].grid[0].parameter
    axis = "learning rate" if parameter == LEARNING_RATE else str(parameter)
    data = [each for study in shown for each in _traces(study, colours[study.arm])]
    layout = layout_of(f"{axis} (log scale)", "optimizer steps to target (log scale)")
    layout["xaxis"] |= numeric_axis((value for each in data for value in each["x"]), is_log=True)
    layout["yaxis"] |= numeric_axis((value for each in data for value in each["y"]), is_log=True)
    workload = studies[0].workload
    return Figure(
        key=f"{workload}-rates",
        workload=workload,
        title=f"Steps to target at every {axis}",
        caption=CAPTION,
        data=data,
        layout=layout,
        height=380,
    )


def _traces(study: StudyReport, colour: str) -> Iterator[Trace]:
    points = [point for point in study.grid if point.rate is not None and point.mean_steps is not None]
    arm = study.arm
    group: dict[str, Any] = {"legendgroup": arm, "showlegend": False}
    yield trace(
        "lines+markers",
        arm,
        [point.rate for point in points],
        [point.mean_steps for point in points],
        text=[f"{arm} at {number(point.rate, 3)}<br>mean {number(point.mean_steps)} steps" for point in points],
        line={"color": colour, "width": 2.5},
        marker={"color": colour, "size": 7},
        legendgroup=arm,
    )
    best = [point for point in points if point.is_best]
    ring = {"symbol": "circle-open", "size": 16, "color": colour, "line": {"width": 2.5}}
    yield trace("markers", arm, [p.rate for p in best], [p.mean_steps for p in best], marker=ring, **group)
    for symbol, is_miss in (("circle", False), ("x", True)):
        found = [
            (point, run) for point in points for run in point.confirm if run.is_answer and _is_miss(run) == is_miss
        ]
        if found:
            yield trace(
                "markers",
                arm,
                [point.rate for point, _ in found],
                [_steps(run, point) for point, run in found],
                text=[f"{arm}, seed {run.seed}: {_told(run)}" for _, run in found],
                marker={"symbol": symbol, "size": 6, "color": colour, "opacity": 0.45},
                **group,
            )


def _is_miss(run: ConfirmSeed) -> bool:
    return run.steps_to_target is None or run.is_broken_off


def _steps(run: ConfirmSeed, point: GridResult) -> float:
    if not _is_miss(run) and run.steps_to_target is not None:
        return float(run.steps_to_target)
    budgets = [each.budget_steps for each in point.confirm if each.budget_steps is not None]
    return MISS_FACTOR * (run.budget_steps or max(budgets, default=1))


def _told(run: ConfirmSeed) -> str:
    return run.outcome if _is_miss(run) else f"{run.steps_to_target:,} steps"
