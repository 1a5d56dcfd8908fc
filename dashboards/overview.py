"""Where a sweep stands, what it says so far, how its search goes."""

from __future__ import annotations

import streamlit as st

from dashboards.figures import search_figure
from dashboards.look import Look, draw
from dashboards.text import block, plain, table
from orchestrator.report import headline, number, verdict_section
from orchestrator.spec import duration_text
from orchestrator.sweep import Progress

MAX_FAILURES = 20
MAX_LINTS = 40


def show(look: Look) -> None:
    """Show the sweep as a whole."""
    report = look.report
    if report.sweep.description.strip():
        st.html(block(report.sweep.description.strip(), limit=600))
    st.html(block(headline(report), "t-answer"))
    _standing(look)
    verdicts = verdict_section(report)
    if verdicts.rows:
        st.html(table(verdicts.header, verdicts.rows, right=verdicts.right))
    with st.expander("How this was judged"):
        for answer in report.answers:
            st.html(block(f"{answer.workload}: {answer.sentence}"))
    st.subheader("Studies", anchor="studies")
    st.html(_studies(look.snapshot.standing.progress))
    for workload in report.workloads:
        figure = search_figure(report, workload)
        if figure is not None:
            st.subheader(plain(workload), anchor=f"search-{workload}")
            draw(figure)
    _complaints(look)


def _standing(look: Look) -> None:
    standing = look.snapshot.standing
    progress = standing.progress
    words = [standing.state, f"{progress.num_done:,} of {progress.num_planned:,} trials"]
    if progress.num_running:
        words.append(f"{progress.num_running:,} running")
    if progress.num_failed:
        words.append(f"{progress.num_failed:,} failed")
    if look.is_running and progress.seconds_left is not None:
        words.append(f"about {duration_text(progress.seconds_left)} left")
    st.progress(min(1.0, progress.num_done / max(progress.num_planned, 1)), text=plain(" · ".join(words)))
    for sentence in filter(None, [standing.ended_early, *(f"budget: {usage.sentence}" for usage in standing.usages)]):
        st.caption(plain(sentence, 500))
    if standing.state == "interrupted":
        st.info(plain(f"Nothing drives this sweep now. It goes on with: teleport resume {standing.name}"))


def _studies(progress: Progress) -> str:
    rows = [
        (
            study.study,
            study.phase,
            f"{study.num_done:,} of {study.num_planned:,}",
            str(study.num_running or ""),
            str(study.num_failed or ""),
            str(study.num_pruned or ""),
            number(study.best, 4),
        )
        for study in progress.studies
    ]
    header = ("study", "phase", "trials", "running", "failed", "pruned", f"best {progress.objective}")
    return table(header, rows, right=range(2, 7))


def _complaints(look: Look) -> None:
    report, faults = look.report, look.snapshot.faults
    if faults:
        st.warning(plain(f"{len(faults)} trials cannot be read; the first: {faults[0]}", 600))
    if report.lints:
        with st.expander(f"Objections ({len(report.lints)})"):
            for lint in report.lints[:MAX_LINTS]:
                st.html(block(lint, limit=600))
    if report.failures:
        with st.expander(f"Failures ({len(report.failures):,})"):
            for failure in report.failures[-MAX_FAILURES:][::-1]:
                where = f"#{failure.number}" if failure.number is not None else f"seed {failure.seeds[0]}"
                place = f"{failure.workload}/{failure.arm} {where}: {failure.kind}, trial {failure.trial_id}"
                st.html(block(f"{place}\n{failure.message}", limit=800))
