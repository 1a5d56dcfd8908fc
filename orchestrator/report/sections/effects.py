"""The tables of comparisons: verdicts, arms by workloads, and what is exploratory."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.caveats import caveats_of
from orchestrator.report.schema import Comparison, Effect, Interval, JointReport, Report, Verdict, reports_of
from orchestrator.report.sections.section import Rows, Section
from orchestrator.report.wording import (
    MISSING,
    change,
    effect_change,
    interval,
    interval_kind,
    interval_text,
    number,
    p_value,
    percent,
    ratio_change,
    unit_of,
)
from orchestrator.spec import BASELINE

# These suffice to see whether a teleport does more than its control; report.json has every metric.
CONTROL_METRICS = ("steps_to_target", "seconds_to_target")
VERDICT_COLUMNS = (
    *("workload", "arm", "verdict", "steps to target", "95 % interval"),
    *("keep in mind", "median steps", "reached", "p (Holm)"),
)
NO_CLAIM = "Exploratory: many comparisons are looked at, and their p-values are not adjusted for that."


def verdict_section(report: Report | JointReport) -> Section:
    """Every arm against the baseline on steps to target; the first column names the sweep where there are several."""
    reports = reports_of(report)
    has_rates = any(comparison.rate is not None for each in reports for comparison in verdicts(each))
    header = (
        *VERDICT_COLUMNS,
        *(("learning rate",) if has_rates else ()),
    )
    rows: Rows = [
        (each.sweep.name, *_verdict_row(each, comparison), *((_rates(comparison),) if has_rates else ()))[
            len(reports) == 1 :
        ]
        for each in reports
        for comparison in verdicts(each)
    ]
    sentences = [
        "Each arm is compared with the baseline on the same seeds, which no search has seen.",
        interval_note(reports),
        *_grid_note(reports),
        *_estimator_note(reports),
        "The search alone decided which configuration stands for an arm. Where a cell has an arrow, the baseline's "
        "value stands before it and the arm's after it.",
    ]
    if isinstance(report, JointReport):
        sentences.append(
            "Each comparison stays within its own sweep. p is adjusted by Holm over all "
            f"{report.num_primary} primary comparisons of these sweeps, so a verdict here may be weaker than in the "
            "sweep's own report."
        )
    title = "Verdicts on steps to target"
    several = ("sweep",) if len(reports) > 1 else ()
    return Section("verdicts", "answer", title, " ".join(filter(None, sentences)), (*several, *header), rows)


def _estimator_note(reports: Sequence[Report]) -> Sequence[str]:
    """Say how the change, its interval and its test are made."""
    shown = [comparison for report in reports for comparison in verdicts(report)]
    has_crossed = any(comparison.num_replicates > 1 for comparison in shown)
    exact = (
        "The change is the Hodges-Lehmann estimate of the ratio. The interval is exact: it holds the effects that the "
        "verdict's own signed-rank test does not reject. A run that misses its target is censored, never dropped."
    )
    crossed = (
        "The change is the geometric mean over independent searches and seeds. The interval and the verdict's own test "
        "are Student's, with the luck of both in them. A run that misses its target counts as twice its budget."
    )
    has_exact = any(comparison.num_replicates == 1 for comparison in shown)
    if has_crossed and has_exact:
        return (f"With several searches: {crossed}", f"With one search: {exact}")
    return (crossed,) if has_crossed else (exact,)


def earlier_section(report: Report) -> Section:
    """What the sweep claimed before it was extended."""
    rows: Rows = [
        (
            f"{stage.num_trials} trials, {len(stage.confirm_seeds)} seeds"
            + (f", {stage.num_replicates} searches" if stage.num_replicates > 1 else ""),
            *_verdict_row(report, comparison),
        )
        for stage in report.earlier
        for comparison in stage.comparisons
    ]
    note = (
        "The sweep was extended after these claims could be read. What was added makes claims of its own, on fresh "
        "seeds; Holm's rule counts all of them together, so that looking twice costs what it must."
    )
    title = "Claims before the sweep was extended"
    return Section("earlier", "answer", title, note, ("before", *VERDICT_COLUMNS), rows)


def _grid_note(reports: Sequence[Report]) -> Sequence[str]:
    """Say at which learning rates the arms are compared."""
    has_grid = [any(study.grid for study in report.studies) for report in reports]
    if all(has_grid):
        return (
            "Every arm ran on one grid of learning rates, and each is compared at its best one. Where these differ, a "
            "claim needs more than the test (Effect at every learning rate).",
        )
    if any(
        len(report.arms) > 1 and any(study.best and study.best.confirm for study in report.studies)
        for report in reports
    ):
        return (
            "Each arm ran at the learning rate that its own search found, so the luck of that search is in the "
            "verdict.",
        )
    return ()


def verdicts(report: Report) -> list[Comparison]:
    """List every arm against the baseline on steps to target."""
    return [c for c in report.comparisons if c.metric == "steps_to_target" and c.against == BASELINE]


def verdict_words(comparison: Comparison) -> str:
    """Write a verdict; where nothing was decided, the reason follows it."""
    words = str(comparison.verdict)
    if comparison.verdict in {Verdict.REFUSED, Verdict.PENDING, Verdict.NOT_ENOUGH_SEEDS} and comparison.reason:
        words += f": {comparison.reason}"
    return words


def _verdict_row(report: Report, comparison: Comparison) -> tuple[str, ...]:
    effect, total = comparison.effect, comparison.num_pairs
    runs = total * comparison.num_replicates
    hits = (f"{runs - misses}/{runs}" for misses in (comparison.num_baseline_misses, comparison.num_arm_misses))
    return (
        comparison.workload,
        comparison.arm,
        verdict_words(comparison),
        change(effect) if effect else MISSING,
        interval(comparison),
        "; ".join(caveats_of(report, comparison)),
        _medians(effect) if effect else MISSING,
        " → ".join(hits) if total else MISSING,
        _p(comparison),
    )


def _rates(comparison: Comparison) -> str:
    if comparison.rate is None or comparison.baseline_rate is None:
        return MISSING
    return f"{number(comparison.baseline_rate, 3)} → {number(comparison.rate, 3)}"


def rate_section(report: Report) -> Section:
    """Every arm against the baseline at every learning rate of the confirm grid."""
    rows: Rows = [
        (
            *(each.workload, each.arm, number(point.rate, 3)),
            MISSING if point.estimate is None else ratio_change(point.estimate),
            MISSING if point.interval is None else interval_text(point.interval, "ratio"),
            f"{point.num_pairs - point.num_baseline_misses}/{point.num_pairs} → "
            f"{point.num_pairs - point.num_arm_misses}/{point.num_pairs}",
            " and ".join(who for who, rate in _best_at(each) if rate == point.rate),
        )
        for each in verdicts(report)
        for point in each.at_points
        if point.rate is not None
    ]
    note = (
        "Both arms at the same learning rate, on the same seeds. Each interval is by itself and not adjusted for the "
        "other rates: exploratory. A claim compares each arm at its own best rate. Where these differ, it is made only "
        "if the arms differ the same way at both of them, or by more than a peak between two rates can hide."
    )
    header = ("workload", "arm", "learning rate", "steps to target", "95 % interval", "reached", "best of")
    return Section("rates", "exploratory", "Effect at every learning rate", note, header, rows)


def _best_at(comparison: Comparison) -> tuple[tuple[str, float | None], ...]:
    return (comparison.against, comparison.baseline_rate), (comparison.arm, comparison.rate)


def _p(comparison: Comparison) -> str:
    """Write the adjusted p of a claim, or the raw p of an exploratory comparison."""
    if comparison.is_primary or comparison.p is None:
        return p_value(comparison.p_adjusted)
    return f"{p_value(comparison.p)} raw"


def _medians(effect: Effect) -> str:
    return f"{number(effect.baseline_median)} → {number(effect.arm_median)}"


def interval_note(reports: Sequence[Report]) -> str:
    """Say which intervals the verdict table has; empty where no claim has one."""
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


def matrix_section(reports: Sequence[Report]) -> Section:
    """Arms by workloads: steps to target against the baseline of the same workload; needs two workloads."""
    cells: dict[str, dict[str, str]] = {}
    places: dict[str, None] = {}
    for report in reports:
        for comparison in verdicts(report):
            place = f"{report.sweep.name}: {comparison.workload}" if len(reports) > 1 else comparison.workload
            places[place] = None
            cells.setdefault(comparison.arm, {})[place] = _cell(comparison)
    rows: Rows = [(arm, *(found.get(place, "") for place in places)) for arm, found in cells.items()]
    note = (
        "Change in steps to target from the baseline of the same workload, with the interval of the verdicts. A cell "
        "without a verdict is exploratory."
    )
    return Section("matrix", "answer", "Arms by workloads", note, ("arm", *places), rows if len(places) > 1 else [])


def _cell(comparison: Comparison) -> str:
    if comparison.effect is None:
        return str(comparison.verdict)
    told = f"{change(comparison.effect)} {interval(comparison)}"
    return f"{told} {comparison.verdict}" if comparison.is_primary else told


def exploratory_section(report: Report) -> Section:
    """Arms against the baseline on every metric but steps to target."""
    rows: Rows = [
        (
            *(c.workload, c.arm, unit_of(c.metric), change(c.effect)),
            *(interval(c), p_value(c.p), _medians(c.effect)),
        )
        for c in report.comparisons
        if c.effect is not None and c.metric != "steps_to_target" and c.against == BASELINE
    ]
    header = ("workload", "arm", "metric", "change", "95 % interval", "p (raw)", "medians")
    return Section("metrics", "exploratory", "Other metrics", NO_CLAIM, header, rows)


def further_section(report: Report) -> Section:
    """Other estimates of the same differences: how often an arm is better, and from 20 seeds on by how much."""
    shown = [(c, c.effect) for c in report.comparisons if c.effect is not None and _is_shown(c)]
    has_rivals = any(c.against != BASELINE for c, _ in shown)
    has_mean = any(effect.mean is not None for _, effect in shown)
    header = (
        *("workload", "arm", *(("against",) if has_rivals else ())),
        *("metric", "arm is better on", "95 % interval", "p (log-rank, raw)"),
        *(("mean change, 95 % interval",) if has_mean else ()),
    )
    rows: Rows = [
        (
            *(c.workload, c.arm, *((c.against,) if has_rivals else ())),
            *(unit_of(c.metric), f"{percent(effect.probability_of_improvement)} of {c.num_pairs} seeds"),
            *(_shares(effect.probability_interval), p_value(c.p_log_rank)),
            *((_mean(effect),) if has_mean else ()),
        )
        for c, effect in shown
    ]
    note = (
        "Exploratory. The share of seeds on which the arm is better counts ties half and has Clopper and Pearson's "
        "interval. The log-rank test swaps the arms within pairs."
        + " The mean change has a BCa bootstrap interval."
        * has_mean
    )
    title = "How often better" + ", and by how much on average" * has_mean
    return Section("further", "exploratory", title, note, header, rows)


def _is_shown(comparison: Comparison) -> bool:
    return comparison.against == BASELINE or _is_of_controls(comparison.metric)


def _is_of_controls(metric: str) -> bool:
    return metric in CONTROL_METRICS or metric.startswith("test_")


def _shares(found: Interval | None) -> str:
    return MISSING if found is None else f"[{percent(found.low)}, {percent(found.high)}]"


def _mean(effect: Effect) -> str:
    if effect.mean is None or effect.mean_interval is None:
        return MISSING
    ends = (effect.mean, effect.mean_interval.low, effect.mean_interval.high)
    mean, low, high = (effect_change(value, effect.scale) for value in ends)
    return f"{mean} [{low}, {high}]"


def profile_section(report: Report) -> Section:
    """The arms over all workloads of the sweep."""
    workloads = report.profiles[0].workloads if report.profiles else ()
    rows: Rows = [
        (
            *(unit_of(profile.metric), profile.arm, percent(profile.score)),
            *("missed" if ratio == float("inf") else f"×{number(ratio)}" for ratio in profile.ratios),
        )
        for profile in report.profiles
    ]
    note = (
        "Exploratory. A column has each arm's median over that of the best arm on the same workload; ×1 is the best. "
        "The score is the share of workloads on which the arm is within a factor of the best, averaged over the "
        "factors from 1 to 4."
    )
    header = ("metric", "arm", "score", *(f"{workload}, of the best" for workload in workloads))
    return Section("profiles", "exploratory", "Over all workloads", note, header, rows)


def control_section(report: Report) -> Section:
    """Teleport arms against their controls and rivals."""
    rows: Rows = [
        (
            *(c.workload, c.arm, c.against, unit_of(c.metric), change(c.effect, c.against)),
            *(interval(c), p_value(c.p), _medians(c.effect), f"{c.num_pairs}/{c.num_planned_pairs}"),
        )
        for c in report.comparisons
        if c.effect is not None and c.against != BASELINE and _is_of_controls(c.metric)
    ]
    note = (
        "Exploratory. A gain over the baseline may come from a larger step or larger weights alone. Changes are from "
        "the arm in the column 'against'."
    )
    header = ("workload", "arm", "against", "metric", "change", "95 % interval", "p (raw)", "medians", "pairs")
    title = "Teleport against its controls and rivals"
    return Section("controls", "exploratory", title, note, header, rows)
