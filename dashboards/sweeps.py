"""All sweeps of a home, at a glance."""

from __future__ import annotations

import streamlit as st

from dashboards.look import Look
from dashboards.reader import Unreadable
from dashboards.text import table
from orchestrator.spec import duration_text


def show(look: Look) -> None:
    """Show where each stands; one that cannot be read says why and hides no other."""
    header = ("sweep", "state", "trials", "running", "failed", "time left")
    st.html(table(header, [_row(look, name) for name in look.home.names()], right=range(2, 6)))


def _row(look: Look, name: str) -> tuple[str, ...]:
    try:
        standing = look.home.reader(name).read().standing
    except Unreadable as error:
        return name, str(error), "", "", "", ""
    progress, left = standing.progress, standing.progress.seconds_left
    return (
        name,
        standing.state,
        f"{progress.num_done:,} of {progress.num_planned:,}",
        str(progress.num_running or ""),
        str(progress.num_failed or ""),
        "" if left is None else f"about {duration_text(left)}",
    )
