"""The report's tables as plain strings: one source for the page, the Markdown and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.schema import Comparison, Price, Report, Verdict
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


def page_verdict_rows(reports: Sequence[Report]) -> tuple[Header, Rows]:
    """Make the verdict table of a page.

    Args:
        reports: of the sweeps on it; where there are several, the first column says which.

    Returns:
        The header, and a row per comparison.
    """
    if len(reports) == 1:
        return verdict_rows(reports[0])
    rows = [(report.sweep.name, *row) for report in reports for row in verdict_rows(report)[1]]
    return ("sweep", *VERDICT_HEADER), rows


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
    header: Header = ("workload", "arm", "metric", "change", "95 % interval", "p (raw)", "medians")
    rows: Rows = [
        (
            c.workload,
            c.arm,
            UNITS[c.metric],
            change(c.effect),
            interval(c),
            p_value(c.p),
            f"{number(c.effect.baseline_median)} → {number(c.effect.arm_median)}",
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


def phase_rows(report: Report) -> tuple[Header, Rows]:
    """Make the table of what the time of a teleport goes into.

    Args:
        report: of a sweep.

    Returns:
        The header and a row per arm that teleports; empty where the results are from before this was kept.
    """
    phases = list(dict.fromkeys(name for price in _prices(report) for name in price.seconds_by_phase))
    header: Header = ("workload", "arm", *(f"{phase} (s)" for phase in phases))
    rows: Rows = [
        (study.workload, study.arm, *(number(study.price.seconds_by_phase.get(phase, 0.0)) for phase in phases))
        for study in report.studies
        if study.price is not None and any(study.price.seconds_by_phase.values())
    ]
    return header, rows


def _prices(report: Report) -> list[Price]:
    return [study.price for study in report.studies if study.price is not None]


def matrix_rows(reports: Sequence[Report]) -> tuple[Header, Rows]:
    """Make the table of arms by workloads: steps to target against the baseline of the same workload.

    Args:
        reports: of the sweeps on the page.

    Returns:
        The header, with a column per workload, and a row per arm; no row where there is one workload alone.
    """
    cells: dict[str, dict[str, str]] = {}
    places: dict[str, None] = {}
    for report in reports:
        for comparison in verdicts(report):
            place = f"{report.sweep.name}: {comparison.workload}" if len(reports) > 1 else comparison.workload
            places[place] = None
            cells.setdefault(comparison.arm, {})[place] = _cell(comparison)
    header: Header = ("arm", *places)
    if len(places) < 2:
        return header, []
    return header, [(arm, *(found.get(place, "") for place in places)) for arm, found in cells.items()]


def _cell(comparison: Comparison) -> str:
    if comparison.effect is None:
        return str(comparison.verdict)
    told = f"{change(comparison.effect)} {interval(comparison)}"
    return f"{told} {comparison.verdict}" if comparison.is_primary else told
