"""What a reader must know to trust a verdict, in a few words that stand beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.report.comparisons import PRIMARY_KIND
from orchestrator.report.health import short_health
from orchestrator.report.schema import Comparison, GridResult, Report, StudyReport, Verdict
from orchestrator.report.wording import smallest
from orchestrator.search import coarse_evaluation
from orchestrator.spec import BASELINE


def caveats_of(report: Report, comparison: Comparison) -> tuple[str, ...]:
    """List what limits a verdict on steps to target: the most serious first, each in a few words."""
    return tuple(_caveats(report, comparison))


def _caveats(report: Report, comparison: Comparison) -> Iterator[str]:
    if not comparison.is_primary:
        yield "no claim"
    others = [study for study in report.studies if study.workload == comparison.workload]
    sides = [study for study in others if study.arm in {comparison.arm, BASELINE}]
    if comparison.health:
        yield _told(sides, _health_of_best) or comparison.health
    if comparison.p is None or comparison.effect is None:
        return
    if comparison.num_pairs < comparison.num_planned_pairs:
        yield f"{comparison.num_pairs} of {comparison.num_planned_pairs} seeds"
    if comparison.verdict is Verdict.NO_DIFFERENCE:
        seen = smallest(comparison.effect)
        yield f"less than {seen} would not have shown" if seen else "no difference would have shown"
    if comparison.is_primary and comparison.num_replicates == 1:
        yield "settings of one search"
    if edges := [study.arm for study in sides if edge_of(study) is not None]:
        yield f"best rate at the end of the list ({', '.join(edges)})"
    if coarse := [study.arm for study in sides if coarse_evaluation_of(study)]:
        yield f"coarse evaluations ({', '.join(coarse)})"
    if comparison.is_primary and comparison.verdict is Verdict.FASTER and not has_control(others, comparison.arm):
        yield "no control in this sweep"


def _told(sides: list[StudyReport], say: Callable[[StudyReport], str]) -> str:
    return ", ".join(f"{study.arm}: {told}" for study in sides if (told := say(study)))


def _health_of_best(study: StudyReport) -> str:
    return short_health(study.best.confirm) if study.best is not None else ""


def edge_of(study: StudyReport) -> GridResult | None:
    """Give the best point of a study's confirm grid where it is the grid's first or last; else None."""
    if len(study.grid) < 2 or not any(point.mean_steps for point in study.grid):
        return None
    ends = (study.grid[0], study.grid[-1])
    return next((point for point in ends if point.is_best and point.rate is not None), None)


def coarse_evaluation_of(study: StudyReport) -> str:
    """Say that a study's evaluations are too far apart for its steps to target; empty where they are not."""
    if study.evaluate_every is None or study.best is None:
        return ""
    return coarse_evaluation(study.evaluate_every, study.best.median_steps_to_target)


def has_control(studies: list[StudyReport], arm: str) -> bool:
    """Tell whether one of a workload's studies is a control or a rival of a teleport arm."""
    return bool({study.kind for study in studies if study.source in {None, arm}} - {BASELINE, PRIMARY_KIND})
