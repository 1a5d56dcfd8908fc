"""The best configuration of a workload as a spec that runs: what ``teleport export`` writes."""

from __future__ import annotations

import streamlit as st

from dashboards.look import Look
from dashboards.text import plain
from orchestrator.errors import UserError
from orchestrator.report import best_spec

BEST = "the best by confirm"


def show(look: Look) -> None:
    """Show it, to copy or to keep."""
    record = look.snapshot.record
    workload = st.selectbox("Workload", list(record.spec.workloads), key="workload", bind="query-params")
    chosen = st.selectbox("Arm", [BEST, *record.spec.arms], key="export_arm")
    arm = None if chosen == BEST else chosen
    try:
        text = best_spec(record, workload, arm)
    except UserError as error:
        st.info(plain(str(error), 500))
        return
    name = f"{record.spec.name}.{workload}.{arm or 'best'}.yaml"
    st.download_button("Download", text, file_name=name, mime="application/yaml", on_click="ignore")
    command = f"teleport export {record.spec.name} --workload {workload}" + (f" --arm {arm}" if arm else "")
    st.caption(plain(f"The same as: {command}", 400))
    st.code(text, language="yaml", wrap_lines=True)
