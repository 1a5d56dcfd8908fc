"""What stands beside the effects, as tables: how often an arm is better, by how much on average, over all workloads."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.schema import Comparison, Effect, Interval, Report
from orchestrator.report.tables import CONTROL_METRICS, Header, Rows, verdicts
from orchestrator.report.wording import MISSING, UNITS, effect_change, interval_kind, number, p_value, percent
from orchestrator.spec import BASELINE

LOG_RANK = "p (log-rank, raw)"


def further_rows(report: Report) -> tuple[Header, Rows]:
    """Make the table of other estimates of the same differences; all are exploratory.

    Args:
        report: of a sweep.

    Returns:
        The header and a row per comparison that has an effect, steps to target included; the mean has a column only
        where the sweep has seeds enough for one, the other arm only where it is not always the baseline.
    """
    shown = [
        c for c in report.comparisons if c.effect is not None and (c.against == BASELINE or c.metric in CONTROL_METRICS)
    ]
    has_rivals = any(c.against != BASELINE for c in shown)
    has_mean = any(c.effect is not None and c.effect.mean is not None for c in shown)
    header: Header = (
        *("workload", "arm", *(("against",) if has_rivals else ())),
        *("metric", "arm is better on", "95 % interval", LOG_RANK),
        *(("mean change, 95 % interval",) if has_mean else ()),
    )
    rows: Rows = [
        (
            c.workload,
            c.arm,
            *((c.against,) if has_rivals else ()),
            UNITS[c.metric],
            f"{percent(c.effect.probability_of_improvement)} of {c.num_pairs} seeds",
            _shares(c.effect.probability_interval),
            p_value(c.p_log_rank),
            *((_mean(c.effect),) if has_mean else ()),
        )
        for c in shown
        if c.effect is not None
    ]
    return header, rows


def _shares(found: Interval | None) -> str:
    return MISSING if found is None else f"[{percent(found.low)}, {percent(found.high)}]"


def _mean(effect: Effect) -> str:
    if effect.mean is None or effect.mean_interval is None:
        return MISSING
    mean, low, high = (
        effect_change(value, effect.scale)
        for value in (effect.mean, effect.mean_interval.low, effect.mean_interval.high)
    )
    return f"{mean} [{low}, {high}]"


def profile_rows(report: Report) -> tuple[Header, Rows]:
    """Make the table of the arms over all workloads; it is exploratory.

    Args:
        report: of a sweep.

    Returns:
        The header, with a column per workload, and a row per metric and arm; no row where there are no profiles.
    """
    workloads = report.profiles[0].workloads if report.profiles else ()
    header: Header = ("metric", "arm", "score", *(f"{workload}, of the best" for workload in workloads))
    rows: Rows = [
        (
            UNITS[profile.metric],
            profile.arm,
            percent(profile.score),
            *("missed" if ratio == float("inf") else f"×{number(ratio)}" for ratio in profile.ratios),
        )
        for profile in report.profiles
    ]
    return header, rows


def interval_note(reports: Sequence[Report]) -> str:
    """Say which intervals a verdict table has.

    Args:
        reports: of the sweeps on the page.

    Returns:
        A sentence or two; empty where no claim has an interval.
    """
    claims = [(report, c) for report in reports for c in verdicts(report) if c.is_primary and c.interval is not None]
    kinds = list(dict.fromkeys(interval_kind(c) for _, c in claims))
    if not kinds:
        return ""
    whose = [_whose(claims, kind, len(reports) > 1) for kind in kinds] if len(kinds) > 1 else ["each claim"]
    told = "; ".join(f"{kind} for {claim}" for kind, claim in zip(kinds, whose, strict=True))
    at_once = ", so that all of them hold at once in 95 % of sweeps" if told.startswith("simultaneous") else ""
    others = any(not c.is_primary and c.interval is not None for report in reports for c in verdicts(report))
    alone = "; 95 % by itself for what is exploratory" if others else ""
    return f"Interval: {told}{at_once if len(kinds) == 1 else ''}{alone}."


def _whose(claims: Sequence[tuple[Report, Comparison]], kind: str, has_sweeps: bool) -> str:
    return ", ".join(
        f"{f'{report.sweep.name}/' if has_sweeps else ''}{c.workload}/{c.arm}"
        for report, c in claims
        if interval_kind(c) == kind
    )
