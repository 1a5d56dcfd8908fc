"""Arms against each other, architecture by architecture: the report's own verdicts, tables and figures."""

from __future__ import annotations

import streamlit as st

from dashboards.look import Look, draw_pairs
from dashboards.reader import Unreadable
from dashboards.text import plain, table
from orchestrator.report import (
    Report,
    control_rows,
    exploratory_rows,
    further_rows,
    layer_rows,
    number,
    price_rows,
    profile_rows,
    verdict_rows,
)
from orchestrator.report.figures import across_figures, colours_of, figures, tuning_figures

TABLES = {
    "Exploratory comparisons": exploratory_rows,
    "How often better, and on average (exploratory)": further_rows,
    "Over all workloads (exploratory)": profile_rows,
    "Against controls and rivals": control_rows,
    "What teleporting costs": price_rows,
    "Null space by layer": layer_rows,
}


def show(look: Look) -> None:
    """Show every architecture side by side, then one of them closely."""
    report = look.report
    others = [name for name in look.home.names() if name != look.reader.paths.name]
    chosen = st.multiselect("With other sweeps of this home", others, key="compare_with") if others else []
    reports = [report, *_read(look, chosen)]
    header, _ = verdict_rows(report)
    rows = [(each.sweep.name, *row) for each in reports for row in verdict_rows(each)[1]]
    if rows:
        st.html(table(("sweep", *header), rows))
    st.subheader("Median steps to target", anchor="matrix")
    for each in reports:
        st.html(table(*_matrix(each), right=range(1, 1 + len(each.arms))))
    draw_pairs(across_figures(report))
    workload = st.selectbox("Workload", report.workloads, key="workload", bind="query-params")
    drawn = figures(report, workload)
    if not drawn:
        st.info("Its curves and effects come with the confirm phase; the search is on the overview.")
    studies = [study for study in report.studies if study.workload == workload]
    draw_pairs([*drawn, *tuning_figures(studies, colours_of(report), report.sweep.objective)])
    for title, make in TABLES.items():
        heads, lines = make(report)
        if lines:
            with st.expander(title):
                st.html(table(heads, lines))


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
    """Workloads down, arms across, over the confirm runs of each arm's best."""
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
