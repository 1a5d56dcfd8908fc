"""The page itself: Streamlit runs this file from top to bottom for every browser, and refreshes a view by itself."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dashboards import best, compare, gate, overview, sweeps, trial, trials
from dashboards.look import Look
from dashboards.reader import Home, Unreadable, home_at
from dashboards.settings import Settings
from dashboards.text import STYLE, plain
from orchestrator.errors import nearest

REFRESH_SECONDS = 3.0
VIEWS: dict[str, Callable[[Look], None]] = {
    "Overview": overview.show,
    "Trials": trials.show,
    "Trial": trial.show,
    "Compare": compare.show,
    "Best configuration": best.show,
    "All sweeps": sweeps.show,
}


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="Teleport", layout="wide")
    st.html(STYLE)
    settings = Settings.read()
    if not gate.is_open(settings.password):
        return
    home = home_at(settings.home)
    names = home.names()
    if not names:
        st.title("No sweep yet", anchor="none")
        st.markdown(f"There is no sweep in {plain(str(home.path), 1_000)}. Start one, and it appears here by itself:")
        st.code(f"teleport run sweeps/quickstart.yaml --home {home.path}", language=None, wrap_lines=True)
        st.fragment(_wait, run_every=REFRESH_SECONDS)(home)
        return
    _deep_links(names)
    name = st.selectbox("Sweep", names, key="sweep", bind="query-params")
    view = st.segmented_control(
        "View",
        list(VIEWS),
        default="Overview",
        required=True,
        key="view",
        bind="query-params",
        label_visibility="collapsed",
    )
    if view == "Trial":
        _ask_for_trial()
    st.fragment(_refresh, run_every=REFRESH_SECONDS)(settings, home, names, name, view)


def _deep_links(names: list[str]) -> None:
    """Warn where a link leads to a sweep that is not here, and turn to the trial that a link names."""
    wanted = st.query_params.get("sweep")
    if wanted is not None and wanted not in names:
        st.warning(plain(f"No sweep {wanted!r} in this home; {nearest(wanted, names)}", 400))
    if "trial" in st.query_params and "view" not in st.query_params and "view" not in st.session_state:
        st.session_state["view"] = "Trial"


def _ask_for_trial() -> None:
    """Keep the trial in the address; a widget bound to the address would drop it when a button names the trial."""
    if "trial" not in st.session_state:
        st.session_state["trial"] = st.query_params.get("trial", "")
    st.query_params["trial"] = st.text_input("Trial", key="trial", placeholder="id, as in the table of trials")


def _wait(home: Home) -> None:
    if home.names():
        st.rerun()


def _refresh(settings: Settings, home: Home, names: list[str], name: str, view: str) -> None:
    is_turned = st.session_state["view"] != view  # a button of this view chose another, and runs this alone
    if is_turned or set(home.names()) != set(names):
        st.rerun()
    reader = home.reader(name)
    try:
        snapshot = reader.read()
    except Unreadable as error:
        st.error(plain(str(error), 1_500))
        st.markdown("The page tries again by itself. This command says what is wrong:")
        st.code(f"teleport status {name} --home {home.path}", language=None, wrap_lines=True)
        return
    VIEWS[view](Look(settings, home, reader, snapshot))


if __name__ == "__main__":
    main()
