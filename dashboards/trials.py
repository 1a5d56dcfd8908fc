"""All trials of a sweep, filtered, and the learning curves of those that were chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboards.figures import learning_figure
from dashboards.look import CUT_OFF, RUNNING, Look, draw, label_of, labels_of, open_trial
from dashboards.reader import find_trial
from dashboards.text import clip
from orchestrator.home import Trial, TrialState
from orchestrator.report import value_text
from orchestrator.search import steps_to_target, stored_id
from orchestrator.spec import PHASES

MAX_CHOSEN = 8
CHOSEN = "chosen"
SHOWN = "shown_ids"
TABLE = "trials_table"


def show(look: Look) -> None:
    """Show the table and the curves."""
    trials = look.snapshot.record.trials
    kept = _filtered(look, trials)
    st.caption(f"{len(kept):,} of {len(trials):,} trials. A click on a row draws its learning curve below.")
    st.session_state[SHOWN] = [stored_id(trial) for trial in kept]
    st.dataframe(
        _columns(look, kept),
        key=TABLE,
        hide_index=True,
        on_select=_choose,
        selection_mode="single-row",
        height=min(420, 38 + 35 * max(1, len(kept))),
    )
    _curves(look)


def matches(trial: Trial, state: str, words: str) -> bool:
    """Tell whether a trial has all the words in its study, id, state, values or failure; case does not count."""
    if not words.strip():
        return True
    failure = trial.result.failure if trial.result is not None else None
    parts: list[object] = [label_of(trial), stored_id(trial), state, trial.config.phase]
    parts += [f"{name}={value}" for name, value in trial.config.values.items()]
    parts += [failure.kind, failure.message] if failure is not None else []
    text = " ".join(map(str, parts)).lower()
    return all(word in text for word in words.lower().split())


def _filtered(look: Look, trials: Sequence[Trial]) -> list[Trial]:
    spec = look.snapshot.record.spec
    options: dict[str, Sequence[str]] = {
        "workload": list(spec.workloads),
        "arm": list(spec.arms),
        "phase": list(PHASES),
        "state": [RUNNING, *TrialState, CUT_OFF],
    }
    wanted = {
        name: _pick(column, name, each)
        for column, (name, each) in zip(st.columns([2, 2, 2, 3]), options.items(), strict=True)
    }
    words = st.text_input("Text", key="filter_text", placeholder="id, value or error; all words must be there")
    kept = []
    for trial in trials:
        config, state = trial.config, look.state_of(trial)
        of = {"workload": config.workload, "arm": config.arm, "phase": config.phase, "state": state}
        if all(not chosen or of[name] in chosen for name, chosen in wanted.items()) and matches(trial, state, words):
            kept.append(trial)
    return sorted(kept, key=_order)


def _pick(column: DeltaGenerator, name: str, options: Sequence[str]) -> list[str]:
    chosen = column.pills(name.capitalize(), options, selection_mode="multi", key=f"filter_{name}", wrap=True)
    return list(chosen)


def _order(trial: Trial) -> tuple[str, bool, float, str]:
    number = trial.config.number
    return trial.config.study, number is None, math.inf if number is None else number, stored_id(trial)


def _columns(look: Look, trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """Lay the trials out by column; what a user wrote goes into cells as text, and cut."""
    metric = look.snapshot.record.spec.search.objective.metric
    names = list(dict.fromkeys(name for trial in trials for name in trial.config.values))
    columns: dict[str, list[Any]] = {
        "trial": labels_of(trials),
        "phase": [trial.config.phase for trial in trials],
        "state": [look.state_of(trial) for trial in trials],
        metric: [None if trial.result is None else trial.result.value for trial in trials],
        "steps to target": [_finite(steps_to_target(trial)) for trial in trials],
        "seconds": [_seconds(trial) for trial in trials],
    }
    for name in names:
        columns[name] = [value_text(trial.config.values.get(name, "")) for trial in trials]
    columns["error"] = [_error(trial) for trial in trials]
    columns["id"] = [stored_id(trial) for trial in trials]
    return columns


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _seconds(trial: Trial) -> float | None:
    return None if trial.result is None else round(sum(seed.seconds for seed in trial.result.seeds), 3)


def _error(trial: Trial) -> str:
    failure = None if trial.result is None else trial.result.failure
    return "" if failure is None else clip(f"{failure.kind}: {failure.message}")


def _choose() -> None:
    """Add the row that was clicked to the chosen ones, the eldest going where there are too many."""
    ids, rows = st.session_state.get(SHOWN, []), st.session_state[TABLE].selection.rows
    chosen = list(st.session_state.get(CHOSEN, []))
    for row in rows:
        if row < len(ids) and ids[row] not in chosen:
            chosen.append(ids[row])
    st.session_state[CHOSEN] = chosen[-MAX_CHOSEN:]


def _curves(look: Look) -> None:
    trials = look.snapshot.record.trials
    found = {trial_id: find_trial(trials, trial_id) for trial_id in st.session_state.get(CHOSEN, [])}
    chosen = {trial_id: trial for trial_id, trial in found.items() if trial is not None}
    if not chosen:
        return
    labels = dict(zip(chosen, labels_of(list(chosen.values())), strict=True))
    st.subheader("Learning curves", anchor="curves")
    left, right = st.columns([3, 1])
    with left:
        for trial_id, label in labels.items():
            st.button(f"Open {label}", key=f"open_{trial_id}", on_click=open_trial, args=(trial_id,))
    with right:
        st.button("Clear", on_click=_clear)
    curves = {label: look.reader.history(trial_id) for trial_id, label in labels.items()}
    metrics = sorted({name for rows in curves.values() for row in rows for name in row.metrics})
    if not metrics:
        st.info("Nothing has been measured in these trials yet.")
        return
    preferred = metrics.index("train_loss") if "train_loss" in metrics else 0
    metric = st.selectbox("Metric", metrics, index=preferred, key="curve_metric")
    figure = learning_figure(curves, metric, "learning-curves")
    if figure is not None:
        draw(figure)


def _clear() -> None:
    st.session_state[CHOSEN] = []
