"""The tables of the best configurations: what the search chose for each arm, beside the baseline and the range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.report.schema import Parameter, Report, StudyReport
from orchestrator.report.sections.search import value_text
from orchestrator.report.sections.section import Rows, Section
from orchestrator.report.wording import MISSING, number
from orchestrator.spec import LEARNING_RATE, Json

# What a reader looks for first: the learning rate, then the parts of a method in this order, then all else.
FIRST = (LEARNING_RATE, ".tau", ".step", ".schedule")
# Stands before a value that is not the baseline's.
DIFFERS = "≠ "


def best_sections(report: Report) -> list[Section]:
    """Make a table for each workload whose search has found something."""
    return [section for workload in report.workloads if (section := _best_section(report, workload)).rows]


def _best_section(report: Report, workload: str) -> Section:
    studies = [study for study in report.studies if study.workload == workload and study.best is not None]
    chosen = [_values(report, study) for study in studies]
    ranges = {each.name: each for study in studies for each in study.space}
    names = sorted(dict.fromkeys(name for values in chosen for name in values), key=_order)
    rows: Rows = [
        (name, *_cells(name, chosen), range_text(ranges[name]) if name in ranges else "not searched") for name in names
    ]
    if rows or studies:
        rows.append(("median steps to target", *(_steps(study) for study in studies), ""))
    note = (
        f"'{DIFFERS.strip()}' stands before a value that is not the baseline's. Values that neither the search nor the "
        "spec sets are in the YAML, which runs as it is."
    )
    header = ("parameter", *(study.arm for study in studies), "searched")
    return Section(f"best-{workload}", "best", f"Best configurations of {workload}", note, header, rows)


def _values(report: Report, study: StudyReport) -> dict[str, Json]:
    """Give what the search chose for an arm, and what the spec fixes of its method."""
    assert study.best is not None
    arms = report.sweep.spec["arms"]
    assert isinstance(arms, dict)
    searched = {each.name.partition("[")[0] for each in study.space}
    return study.best.values | dict(_fixed(arms[study.arm], "", searched))


def _fixed(node: Json, path: str, searched: set[str]) -> Iterator[tuple[str, Json]]:
    if path in searched:
        return
    if not isinstance(node, dict):
        yield path, node
        return
    for key, value in node.items():
        yield from _fixed(value, f"{path}.{key}".strip("."), searched)


def _order(name: str) -> int:
    return next((place for place, part in enumerate(FIRST) if part in name), len(FIRST))


def _cells(name: str, chosen: list[dict[str, Json]]) -> Iterator[str]:
    baseline: Mapping[str, Json] = chosen[0]
    for values in chosen:
        if name not in values:
            yield MISSING
        else:
            mark = DIFFERS if name in baseline and values[name] != baseline[name] else ""
            yield mark + value_text(values[name])


def _steps(study: StudyReport) -> str:
    return number(None if study.best is None else study.best.median_steps_to_target)


def range_text(parameter: Parameter) -> str:
    """Write what was searched: ``0.05 to 1 (log)``, or ``one of 1.0, 0.999``."""
    if parameter.low is None or parameter.high is None:
        return f"one of {', '.join(map(str, parameter.choices))}"
    return f"{parameter.low:g} to {parameter.high:g}" + " (log)" * parameter.is_log
