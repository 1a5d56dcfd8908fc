"""What every view of a sweep is given, and how trials are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import streamlit as st

from dashboards.reader import Home, Snapshot, SweepReader
from dashboards.settings import Settings
from dashboards.text import plain
from orchestrator.home import Trial
from orchestrator.report import Report, dark_of
from orchestrator.report.figures import Figure
from orchestrator.search import stored_id

RUNNING = "RUNNING"
CUT_OFF = "cut off"


@final
@dataclass(frozen=True)
class Look:
    """A sweep as one browser looks at it now.

    Args:
        settings: what the page was started with.
        home: the home that the sweep is in.
        reader: the sweep's reader.
        snapshot: what the sweep was at the beginning of this refresh.
    """

    settings: Settings
    home: Home
    reader: SweepReader
    snapshot: Snapshot

    @cached_property
    def report(self) -> Report:
        """The sweep's report."""
        return self.reader.report(self.snapshot)

    @property
    def is_running(self) -> bool:
        """Whether some process drives the sweep."""
        return self.snapshot.standing.state == "running"

    def state_of(self, trial: Trial) -> str:
        """How a trial ended, or that it runs, or that its driver went away."""
        if trial.result is not None:
            return trial.result.state.value
        return RUNNING if self.is_running else CUT_OFF


def label_of(trial: Trial) -> str:
    """Name a trial for people."""
    config = trial.config
    if config.number is not None:
        return f"{config.study} {config.place}"
    return f"{config.study} seed {', '.join(map(str, config.seeds))} · {stored_id(trial)[:6]}"


def labels_of(trials: Sequence[Trial]) -> list[str]:
    """Name trials that are shown side by side; trials of one name, as those of one candidate, get their seeds."""
    labels = [label_of(trial) for trial in trials]
    times = Counter(labels)
    return [
        label if times[label] == 1 else f"{label} seed {', '.join(map(str, trial.config.seeds))}"
        for label, trial in zip(labels, trials, strict=True)
    ]


def draw(figure: Figure) -> None:
    """Draw a figure in the colours of the browser's ground."""
    if figure.title:
        st.markdown(f"**{plain(figure.title)}**")
    made = figure.to_plotly()
    if st.context.theme.type == "dark":
        made = _recoloured(made, dark_of())
    made["layout"] = made["layout"] | {"height": figure.height}
    st.plotly_chart(made, theme=None, key=figure.key, config={"displaylogo": False, "displayModeBar": False})
    if figure.caption:
        st.caption(plain(figure.caption, 1_000))


def draw_pairs(figures: Sequence[Figure]) -> None:
    """Draw figures two by two where the page is wide enough."""
    for start in range(0, len(figures), 2):
        for column, figure in zip(st.columns(2), figures[start : start + 2], strict=False):
            with column:
                draw(figure)


def _recoloured(value: object, colours: dict[str, str]) -> dict[str, object]:
    def swap(node: object) -> object:
        if isinstance(node, dict):
            return {key: swap(each) for key, each in node.items()}
        if isinstance(node, list):
            return [swap(each) for each in node] if node and not isinstance(node[0], int | float) else node
        return colours.get(node, node) if isinstance(node, str) else node

    swapped = swap(value)
    assert isinstance(swapped, dict)
    return swapped


def open_trial(trial_id: str) -> None:
    """Turn this browser to a trial; called before the next refresh."""
    st.session_state["trial"] = trial_id
    st.session_state["view"] = "Trial"
