"""One trial: how it ended, its curves, what each of its teleports did, its run in MLflow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st

from dashboards.figures import learning_figure
from dashboards.look import Look, draw_pairs, label_of
from dashboards.reader import find_trial
from dashboards.runs import finder_of
from dashboards.text import block, plain, table
from orchestrator.errors import nearest
from orchestrator.home import HistoryRow, SeedResult, TeleportSummary, Trial
from orchestrator.report import number, value_text
from orchestrator.search import stored_id
from orchestrator.spec import dump_yaml

MAX_ROWS = 200


def show(look: Look) -> None:
    """Show the trial that is asked for."""
    wanted = st.session_state["trial"]
    if not wanted:
        st.info("Choose a row in the table of trials, or give an id.")
        return
    trials = look.snapshot.record.trials
    trial = find_trial(trials, wanted.strip())
    if trial is None:
        known = nearest(wanted, [stored_id(each) for each in trials]) if trials else "there is none yet"
        st.warning(plain(f"No trial {wanted!r} in {look.reader.paths.name}; {known}", 400))
        return
    _heading(look, trial)
    _failure(trial)
    rows = look.reader.history(stored_id(trial))
    _results(trial)
    drawn = (learning_figure({label_of(trial): rows}, metric, f"trial-{metric}") for metric in _curves(rows))
    draw_pairs([figure for figure in drawn if figure is not None])
    _teleports(trial, rows)
    with st.expander("Configuration"):
        settings = trial.config.model_dump(mode="json", include={"training", "method", "values"}, exclude_none=True)
        st.code(dump_yaml(settings), language="yaml", wrap_lines=True)


def _curves(rows: Sequence[HistoryRow]) -> list[str]:
    """Name the curves that say how training went."""
    found = dict.fromkeys(name for row in rows for name in row.metrics)
    return [name for name in found if name.startswith(("train_", "validation_")) or name == "grad_norm"]


def _heading(look: Look, trial: Trial) -> None:
    config, result = trial.config, trial.result
    words = [config.phase, look.state_of(trial)]
    if result is not None:
        words.append(f"ended {datetime.fromtimestamp(result.ended_at, UTC):%Y-%m-%d %H:%M} UTC")
        if result.value is not None:
            words.append(f"{config.objective.metric} {number(result.value, 4)}")
        if result.machine is not None:
            words.append(f"{result.machine.host}, {result.machine.device}")
    st.subheader(plain(label_of(trial)), anchor="trial")
    st.html(block(" · ".join(words)))
    link = finder_of(look.settings).find(look.snapshot.record, stored_id(trial), is_ended=result is not None)
    if link is None:
        st.caption("Looking for its run in MLflow …")
        return
    if link.url:
        st.link_button("Open in MLflow", link.url)
    if link.note:
        st.caption(plain(link.note, 500))
    if config.values:
        st.html(table(("parameter", "value"), [(name, value_text(value)) for name, value in config.values.items()]))


def _failure(trial: Trial) -> None:
    failure = None if trial.result is None else trial.result.failure
    if failure is None:
        return
    st.error(plain(f"{failure.kind}: {failure.message}", 600))
    if failure.traceback:
        with st.expander("Traceback"):
            st.code(failure.traceback, language=None, wrap_lines=True)


def _results(trial: Trial) -> None:
    if trial.result is None or not trial.result.seeds:
        return
    header = ("seed", "outcome", "steps", "steps to target", "seconds to target", "seconds", "of these teleports")
    st.html(table(header, [_seed_row(seed) for seed in trial.result.seeds], right=range(2, 7)))


def _seed_row(seed: SeedResult) -> tuple[str, ...]:
    return (
        str(seed.seed),
        seed.outcome,
        f"{seed.num_steps:,} of {seed.budget_steps:,}",
        number(seed.steps_to_target),
        number(seed.seconds_to_target),
        number(seed.seconds),
        number(seed.teleport_seconds),
    )


def _teleports(trial: Trial, rows: tuple[HistoryRow, ...]) -> None:
    log = teleport_log(rows)
    summaries = {
        seed.seed: seed.teleports for seed in (trial.result.seeds if trial.result else ()) if seed.teleports is not None
    }
    if not log and not summaries:
        return
    st.subheader("Teleports", anchor="teleports")
    for seed, summary in summaries.items():
        st.html(block(f"seed {seed}: {_summary(summary)}"))
        layers = [
            (layer.name, str(layer.d_in), number(layer.mean_rank), number(layer.mean_null_dim), str(layer.moved),
             layer.reason or "")
            for layer in summary.layers
        ]  # fmt: skip
        if layers:
            with st.expander(f"Layers, seed {seed}"):
                st.html(
                    table(("layer", "inputs", "mean rank", "mean null dim", "moved", "why not"), layers, range(1, 5))
                )
    if log:
        shown = log[-MAX_ROWS:]
        st.caption(
            f"Each row sums up the teleports since the evaluation before: the last {len(shown)} of {len(log):,} rows."
        )
        header = ("seed", "step", "teleports so far", "seconds so far", "gain of ‖g‖²", "loss drift", "probe drift")
        st.html(table(header, shown, right=range(7)))


def teleport_log(rows: tuple[HistoryRow, ...]) -> list[tuple[str, ...]]:
    """List seed, step, teleports and their seconds so far, gain and drifts of each evaluation after a teleport."""
    found: list[tuple[str, ...]] = []
    before = dict.fromkeys((row.seed for row in rows), 0)
    for row in rows:
        if row.num_teleports > before[row.seed]:
            of = row.metrics.get
            drifts = (number(of("teleport_loss_drift")), number(of("teleport_probe_drift")))
            counts = (str(row.seed), f"{row.step:,}", f"{row.num_teleports:,}", number(row.teleport_seconds))
            found.append((*counts, number(of("teleport_gain")), *drifts))
        before[row.seed] = row.num_teleports
    return found


def _summary(summary: TeleportSummary) -> str:
    outcomes = json.dumps(summary.outcomes)[1:-1].replace('"', "") or "none tried"
    drift = f", largest loss drift {number(summary.max_loss_drift)}" if summary.max_loss_drift is not None else ""
    gain = f", mean gain of ‖g‖² {number(summary.mean_gain)}" if summary.mean_gain is not None else ""
    return f"{summary.count:,} teleports ({outcomes}){gain}{drift}"
