"""Arms against each other, architecture by architecture: the report's own verdicts, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from dashboards.look import Look, draw_pairs
from dashboards.reader import Unreadable
from dashboards.text import plain, table
from orchestrator.report import Report, Section, join, number, page_sections, sections, with_importance
from orchestrator.report.figures import across_figures, answer_figures, colours_of, figures, tuning_figures

# Home of a sweep -> its report without importances, and with them.
_IMPORTANCES: dict[Path, tuple[Report, Report]] = {}


def show(look: Look) -> None:
    """Show every architecture side by side, then one of them closely."""
    report = look.report
    others = [name for name in look.home.names() if name != look.reader.paths.name]
    chosen = st.multiselect("With other sweeps of this home", others, key="compare_with") if others else []
    reports = [report, *_read(look, chosen)]
    draw_sections(page_sections(join(reports) if len(reports) > 1 else report))
    st.subheader("Median steps to target", anchor="matrix")
    for each in reports:
        st.html(table(*_matrix(each), right=range(1, 1 + len(each.arms))))
    draw_pairs([*answer_figures(report)[:1], *across_figures(report)])
    workload = st.selectbox("Workload", report.workloads, key="workload", bind="query-params")
    drawn = figures(report, workload)
    if not drawn:
        st.info("Its curves and effects come with the confirm phase; the search is on the overview.")
    studies = [study for study in report.studies if study.workload == workload]
    draw_pairs([*drawn, *tuning_figures(studies, colours_of(report), report.sweep.objective)])
    draw_sections(sections(_with_importance(look)))


def draw_sections(found: Sequence[Section]) -> None:
    """Draw tables of the report; all but the verdicts are folded."""
    for section in found:
        with st.expander(section.title, expanded=section.key == "verdicts"):
            st.html(table(section.header, section.rows, right=section.right))
            st.caption(plain(section.note, 2_000))


def _with_importance(look: Look) -> Report:
    """Add importances once and not while the sweep runs, since they take seconds in a large search."""
    place = look.reader.paths.root
    if look.is_running:
        return look.report
    if place not in _IMPORTANCES or _IMPORTANCES[place][0] is not look.report:
        _IMPORTANCES[place] = (look.report, with_importance(look.report, look.snapshot.record.spec))
    return _IMPORTANCES[place][1]


def _read(look: Look, names: list[str]) -> list[Report]:
    found = []
    for name in names:
        reader = look.home.reader(name)
        try:
            found.append(reader.report(reader.read()))
        except Unreadable as error:
            st.warning(plain(str(error), 500))
    return found


def _matrix(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Lay out the median steps of each arm's best, workloads down and arms across."""
    by_place = {(study.workload, study.arm): study for study in report.studies}
    rows = []
    for workload in report.workloads:
        cells = [workload]
        for arm in report.arms:
            study = by_place.get((workload, arm))
            best = None if study is None else study.best
            cells.append(number(None if best is None else best.median_steps_to_target))
        rows.append(tuple(cells))
    return (report.sweep.name, *report.arms), rows
