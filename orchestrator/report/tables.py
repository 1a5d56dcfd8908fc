"""The report's tables as plain strings: one source for the page, the Markdown and the terminal."""

from __future__ import annotations

from orchestrator.report.schema import Comparison, Price, Report, SearchTrial, Study, Verdict
from orchestrator.report.wording import MISSING, UNITS, change, interval, number, p_value, percent
from orchestrator.spec import BASELINE

# Enough to see whether a teleport is more than its control; report.json has every metric.
CONTROL_METRICS = ("steps_to_target", "seconds_to_target", "test_accuracy")

Header = tuple[str, ...]
Rows = list[tuple[str, ...]]

VERDICT_HEADER = (
    "workload",
    "arm",
    "verdict",
    "steps to target",
    "95 % interval",
    "p (Holm)",
    "median steps",
    "reached",
    "pairs",
)


def verdict_rows(report: Report) -> tuple[Header, Rows]:
    """Make the verdict table: every arm against the baseline on steps to target.

    Args:
        report: of a sweep.

    Returns:
        The header, and a row per comparison; a verdict that is exploratory says so.
    """
    return VERDICT_HEADER, [_verdict_row(c) for c in verdicts(report)]


def verdicts(report: Report) -> list[Comparison]:
    """List what the verdict table shows: every arm against the baseline on steps to target."""
    return [c for c in report.comparisons if c.metric == "steps_to_target" and c.against == BASELINE]


def verdict_words(comparison: Comparison) -> str:
    """Write a verdict with what it needs beside it.

    Args:
        comparison: of a report.

    Returns:
        The verdict; its reason where it is none; ``(exploratory)`` where it is no claim.
    """
    words = str(comparison.verdict)
    if comparison.verdict in {Verdict.REFUSED, Verdict.PENDING, Verdict.NOT_ENOUGH_SEEDS} and comparison.reason:
        words += f": {comparison.reason}"
    return words if comparison.is_primary else f"{words} (exploratory)"


def _verdict_row(comparison: Comparison) -> tuple[str, ...]:
    effect = comparison.effect
    total = comparison.num_pairs
    medians = f"{number(effect.baseline_median)} → {number(effect.arm_median)}" if effect else MISSING
    reached = (
        f"{total - comparison.num_baseline_misses}/{total} → {total - comparison.num_arm_misses}/{total}"
        if total
        else MISSING
    )
    return (
        comparison.workload,
        comparison.arm,
        verdict_words(comparison),
        change(effect) if effect else MISSING,
        interval(comparison),
        _p(comparison),
        medians,
        reached,
        f"{total}/{comparison.num_planned_pairs}",
    )


def _p(comparison: Comparison) -> str:
    """Adjusted for the family of claims; what is no claim has its own, and says so."""
    if comparison.is_primary or comparison.p is None:
        return p_value(comparison.p_adjusted)
    return f"{p_value(comparison.p)} raw"


def exploratory_rows(report: Report) -> tuple[Header, Rows]:
    """Make the table of the comparisons that are no claims.

    Args:
        report: of a sweep.

    Returns:
        The header and rows; those on steps to target, which the verdict table has, are left out.
    """
    header: Header = ("workload", "arm", "metric", "change", "95 % interval", "p (raw)", "medians", "arm is better on")
    rows: Rows = [
        (
            c.workload,
            c.arm,
            UNITS[c.metric],
            change(c.effect),
            interval(c),
            p_value(c.p),
            f"{number(c.effect.baseline_median)} → {number(c.effect.arm_median)}",
            f"{percent(c.effect.probability_of_improvement)} of {c.num_pairs} seeds",
        )
        for c in report.comparisons
        if c.effect is not None and c.metric != "steps_to_target" and c.against == BASELINE
    ]
    return header, rows


def control_rows(report: Report) -> tuple[Header, Rows]:
    """Make the table of teleport arms against their controls and rivals: is it more than a larger step?

    Args:
        report: of a sweep.

    Returns:
        The header and a row per pair of arms and metric; all are exploratory.
    """
    header: Header = ("workload", "arm", "against", "metric", "change", "95 % interval", "p (raw)", "medians", "pairs")
    rows: Rows = [
        (
            c.workload,
            c.arm,
            c.against,
            UNITS[c.metric],
            change(c.effect, c.against),
            interval(c),
            p_value(c.p),
            f"{number(c.effect.baseline_median)} → {number(c.effect.arm_median)}",
            f"{c.num_pairs}/{c.num_planned_pairs}",
        )
        for c in report.comparisons
        if c.effect is not None and c.against != BASELINE and c.metric in CONTROL_METRICS
    ]
    return header, rows


def price_rows(report: Report) -> tuple[Header, Rows]:
    """Make the table of what each arm cost.

    Args:
        report: of a sweep.

    Returns:
        The header and a row per confirmed study.
    """
    header: Header = (
        "workload",
        "arm",
        "seconds a run",
        "teleport seconds",
        "teleport share",
        "gradients a run",
        "teleports",
        "outcomes",
        "gain of ‖g‖²",
        "largest loss drift",
        "baseline by then",
    )
    rows: Rows = [
        (
            study.workload,
            study.arm,
            number(price.seconds),
            number(price.teleport_seconds) if price.num_teleports else MISSING,
            percent(price.teleport_share, 1) if price.num_teleports else MISSING,
            number(price.gradient_evaluations, 4),
            f"{price.num_teleports:,}" if price.num_teleports else MISSING,
            ", ".join(f"{name} {count:,}" for name, count in price.outcomes.items()) or MISSING,
            MISSING if price.gain is None else f"×{number(price.gain)}",
            _drift(price),
            MISSING if study.equal_time is None else number(study.equal_time.baseline),
        )
        for study in report.studies
        if (price := study.price) is not None
    ]
    return header, rows


def _drift(price: Price) -> str:
    probe = "" if price.max_probe_drift is None else f" (probe {number(price.max_probe_drift)})"
    return f"{number(price.max_loss_drift)}{probe}"


def layer_rows(report: Report) -> tuple[Header, Rows]:
    """Make the table of null spaces by layer.

    Args:
        report: of a sweep.

    Returns:
        The header and a row per layer of each arm that teleports.
    """
    header: Header = ("workload", "arm", "layer", "inputs", "mean rank", "mean null space", "moved", "why not")
    rows: Rows = [
        (
            study.workload,
            study.arm,
            layer.name,
            f"{layer.d_in:,}",
            number(layer.mean_rank),
            number(layer.mean_null_dim),
            f"{layer.moved:,} of {study.price.num_teleports:,}",
            layer.reason or "",
        )
        for study in report.studies
        if study.price is not None
        for layer in study.price.layers
    ]
    return header, rows


def value_text(value: object) -> str:
    """Write a value of a configuration: floats short, the rest as it is."""
    return number(value, 4) if isinstance(value, float) else str(value)


def search_rows(report: Report, workload: str, arm: str) -> tuple[Header, Rows]:
    """Make the table of one study's search, best first.

    Args:
        report: of a sweep.
        workload: label.
        arm: label.

    Returns:
        The header, with a column per parameter, and a row per trial.
    """
    study = report.study(workload, arm)
    names = list(dict.fromkeys(name for trial in study.search for name in trial.values))
    ranks = {candidate.trial_id: candidate.rank for candidate in study.candidates}
    sign = 1.0 if report.sweep.objective.mode == "min" else -1.0
    header: Header = ("#", "state", report.sweep.objective.metric, "median steps to target", *names, "trial")
    ordered = sorted(
        study.search,
        key=lambda trial: (
            ranks.get(trial.trial_id, len(study.search) + 1),
            trial.value is None,
            sign * trial.value if trial.value is not None else -trial.share,
        ),
    )
    rows: Rows = [
        (
            str(trial.number),
            _state(trial) + (f" · confirmed ({ranks[trial.trial_id]})" if trial.trial_id in ranks else ""),
            number(trial.value, 4),
            number(trial.steps_to_target),
            *(value_text(trial.values[name]) if name in trial.values else "" for name in names),
            trial.trial_id,
        )
        for trial in ordered
    ]
    return header, rows


def _state(trial: SearchTrial) -> str:
    """Its state, and where it was stopped."""
    return f"{trial.state} at {percent(trial.share)}" if trial.state == "PRUNED" else trial.state


def other_rows(study: Study) -> tuple[Header, Rows]:
    """Make the table of the candidates that were confirmed beside the champion.

    Args:
        study: with several candidates.

    Returns:
        The header and a row per candidate, the champion first; why one was dropped, where one was.
    """
    has_dropped = any(candidate.dropped for candidate in study.candidates)
    header: Header = ("rank in search", "trial", "median steps", "reached", *(("",) if has_dropped else ()))
    rows: Rows = []
    for candidate in study.candidates:
        runs = [run for run in candidate.confirm if run.is_answer]
        hits = sum(run.outcome == "reached" for run in runs)
        median = number(candidate.median_steps_to_target)
        why = (candidate.dropped,) if has_dropped else ()
        rows.append((str(candidate.rank), candidate.trial_id, median, f"{hits}/{len(runs)}", *why))
    return header, rows
