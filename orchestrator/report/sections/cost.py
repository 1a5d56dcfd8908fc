"""The tables of what the arms cost and what their teleports did."""

from __future__ import annotations

from orchestrator.report.schema import Price, Report
from orchestrator.report.sections.section import Rows, Section
from orchestrator.report.wording import MISSING, number, percent


def price_section(report: Report) -> Section:
    """What each confirmed arm cost."""
    header = (
        *("workload", "arm", "seconds a run", "teleport seconds", "teleport share", "gradients a run", "teleports"),
        *("outcomes", "gain of ‖g‖²", "largest loss drift", "baseline by then"),
    )
    rows: Rows = []
    for study in report.studies:
        if (price := study.price) is not None:
            then = study.equal_time
            told = (number(price.seconds), *_teleport_cost(price), MISSING if then is None else number(then.baseline))
            rows.append((study.workload, study.arm, *told))
    note = (
        "Medians over the confirm runs of each arm. Seconds are on the optimizer clock: forward, backward, optimizer "
        "and teleport, without evaluation and logging. A double backward counts as the gradients it costs. 'Baseline "
        "by then' is the target's metric under the baseline at the second at which the arm reached its target, on the "
        "same seeds; where it is at or beyond the target, the baseline was there first."
    )
    return Section("price", "cost", "What it cost", note, header, rows)


def _teleport_cost(price: Price) -> tuple[str, ...]:
    has_any = bool(price.num_teleports)
    probe = "" if price.max_probe_drift is None else f" (probe {number(price.max_probe_drift)})"
    return (
        number(price.teleport_seconds) if has_any else MISSING,
        percent(price.teleport_share, 1) if has_any else MISSING,
        number(price.gradient_evaluations, 4),
        f"{price.num_teleports:,}" if has_any else MISSING,
        ", ".join(f"{name} {count:,}" for name, count in price.outcomes.items()) or MISSING,
        MISSING if price.gain is None else f"×{number(price.gain)}",
        f"{number(price.max_loss_drift)}{probe}",
    )


def phase_section(report: Report) -> Section:
    """What the time of the teleports goes into."""
    priced = [(study, study.price.seconds_by_phase) for study in report.studies if study.price is not None]
    phases = list(dict.fromkeys(name for _, seconds in priced for name in seconds))
    rows: Rows = [
        (study.workload, study.arm, *(number(seconds.get(phase, 0.0)) for phase in phases))
        for study, seconds in priced
        if any(seconds.values())
    ]
    header = ("workload", "arm", *(f"{phase} (s)" for phase in phases))
    note = "Seconds of all confirm runs together."
    return Section("phases", "cost", "What the teleports' time goes into", note, header, rows)


def layer_section(report: Report) -> Section:
    """The null space of each layer under each arm that teleports."""
    rows: Rows = [
        (
            *(study.workload, study.arm, layer.name, f"{layer.d_in:,}"),
            *(number(layer.mean_rank), number(layer.mean_null_dim)),
            *(f"{layer.moved:,} of {study.price.num_teleports:,}", layer.reason or ""),
        )
        for study in report.studies
        if study.price is not None
        for layer in study.price.layers
    ]
    header = ("workload", "arm", "layer", "inputs", "mean rank", "mean null space", "moved", "why not")
    note = "Means over the teleports of the confirm runs. 'Moved' counts the teleports that moved the layer."
    return Section("layers", "cost", "Null space by layer", note, header, rows)
