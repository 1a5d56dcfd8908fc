"""What a whole sweep comes to, in a sentence that takes no statistics to read."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from orchestrator.report.comparisons import PRIMARY_KIND
from orchestrator.report.schema import Comparison, JointReport, Report, StudyReport, SweepStage, Verdict
from orchestrator.report.wording import number, percent, smallest
from orchestrator.spec import BASELINE

# From this ratio on a sentence says "2 times", below it "40 % more".
TIMES = 1.95
# More names than these are counted instead.
MAX_NAMES = 4
UNDECIDED = {
    Verdict.NOT_ENOUGH_SEEDS: "has too few seeds to tell",
    Verdict.PENDING: "has no verdict yet",
    Verdict.REFUSED: "is not compared",
}


def headline(report: Report | JointReport) -> str:
    """Say what a report comes to, sweep by sweep: page, Markdown and terminal all begin or end with this.

    Each change in it is an interval of the report, and each verdict one of its verdicts.
    """
    if isinstance(report, Report):
        return _of_sweep(report)
    return " ".join(f"{each.sweep.name}: {_of_sweep(each)}" for each in report.sweeps)


def _of_sweep(report: Report) -> str:
    claims = [comparison for comparison in report.comparisons if comparison.is_primary]
    told = list(_claims(report, claims) if claims else _without_claim(report))
    if report.sweep.ended_early:
        told.append(f"The sweep ended early: {report.sweep.ended_early}")
    return " ".join(f"{sentence}." for sentence in told)


def _without_claim(report: Report) -> Iterator[str]:
    """Say why nothing is claimed, and what there is instead."""
    if not report.sweep.confirm_seeds:
        yield "No claim: this sweep only searches, and what it found was chosen on the seeds that it was measured on"
    elif any(study.kind != BASELINE for study in report.studies):
        yield f"No claim: the sweep has no arm of kind {PRIMARY_KIND}, and what it compares is exploratory"
    else:
        yield "Only the baseline is in this sweep, so nothing is compared"
        found = [told for study in report.studies if (told := _reached(study))]
        if found:
            yield f"It reached its target on {_join(found)}"


def _reached(study: StudyReport) -> str:
    answers = [run for run in study.best.confirm if run.is_answer] if study.best is not None else []
    num_reached = sum(run.outcome == "reached" for run in answers)
    return f"{num_reached} of {len(answers)} seeds ({study.workload})" if answers else ""


def _claims(report: Report, claims: Sequence[Comparison]) -> Iterator[str]:
    verdicts, reasons = {each.verdict for each in claims}, {each.reason for each in claims}
    if verdicts == {Verdict.REFUSED} and len(reasons) == 1:
        yield f"No claim is made: {reasons.pop()}"
    elif verdicts == {Verdict.PENDING} and report.sweep.standing is not SweepStage.FINISHED:
        yield f"No answer yet: {report.sweep.standing}"
    else:
        for arm in arms_asked_about(report.sweep.description, list(dict.fromkeys(each.arm for each in claims))):
            yield from _of_arm(report, arm, [each for each in claims if each.arm == arm])


def arms_asked_about(question: str, arms: Sequence[str]) -> list[str]:
    """Order arms so that those come first that a sweep's question names.

    >>> arms_asked_about("Is one rule enough?", ["tuned", "rule"])
    ['rule', 'tuned']
    """
    words = set(re.findall(r"\w+", question.lower()))
    return sorted(arms, key=lambda arm: arm.lower() not in words)


def _of_arm(report: Report, arm: str, claims: Sequence[Comparison]) -> Iterator[str]:
    unit = _unit(report)
    by_verdict = {verdict: [each for each in claims if each.verdict is verdict] for verdict in Verdict}
    faster, slower = by_verdict[Verdict.FASTER], by_verdict[Verdict.SLOWER]
    judged = [each for each in claims if each.p is not None and each.verdict is not Verdict.NOT_ENOUGH_SEEDS]
    clauses = []
    if faster:
        clauses.append(f"needs fewer steps than the baseline on {_places(faster, claims, unit)}")
    elif len(judged) > len(slower) or len(judged) > 1:
        clauses.append(f"shows no gain on {_none_of(judged, claims, unit)}")
    if slower:
        clauses.append(f"needs more steps on {_join([_changed(each) for each in slower])}")
    if by_verdict[Verdict.LEARNING_RATE]:
        clauses.append(f"differs on {_names(by_verdict[Verdict.LEARNING_RATE])} only as learning rates do")
    # Of several arms each row of the verdict table says it.
    is_alone = all(each.arm == arm for each in report.comparisons if each.is_primary)
    if is_alone and (sight := _sight(by_verdict[Verdict.NO_DIFFERENCE], claims)):
        clauses.append(sight)
    if never := [each for each in by_verdict[Verdict.NO_DIFFERENCE] if each.effect is None]:
        clauses.append(f"reaches the target on {_names(never)} as little as the baseline does")
    for verdict, words in UNDECIDED.items():
        if by_verdict[verdict]:
            clauses.append(f"{words} on {_names(by_verdict[verdict])}")
    if clock := _on_the_clock(report, judged, is_faster=bool(faster)):
        clauses.append(clock)
    yield f"{arm} {'; '.join(clauses)}"
    yield from _beside_controls(report, arm)


def _unit(report: Report) -> str:
    """Call the workloads architectures where no two of them have the same kind of model."""
    workloads = report.sweep.spec["workloads"]
    assert isinstance(workloads, dict)
    models = [each["model"]["name"] for each in workloads.values()]  # type: ignore[index,call-overload]
    return "architectures" if len(set(models)) == len(models) else "workloads"


def _places(found: Sequence[Comparison], claims: Sequence[Comparison], unit: str) -> str:
    told = _join([_changed(each) for each in found])
    return told if len(claims) == 1 else f"{len(found)} of {len(claims)} {unit}: {told}"


def _none_of(judged: Sequence[Comparison], claims: Sequence[Comparison], unit: str) -> str:
    if len(claims) == 1:
        return judged[0].workload
    return f"any of {len(judged)} {unit}" if len(judged) == len(claims) else _names(judged)


def _names(found: Sequence[Comparison]) -> str:
    names = [each.workload for each in found]
    return _join(names) if len(names) <= MAX_NAMES else f"{len(names)} others"


def _changed(comparison: Comparison) -> str:
    found = comparison.interval
    told = "" if found is None else _span(found.low, found.high, "")
    return f"{comparison.workload} ({told})" if told else comparison.workload


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _span(low: float, high: float, what: str) -> str:
    """Write the range of a ratio; empty where it says nothing.

    >>> _span(0.8, 0.95, "steps"), _span(0.9, 1.05, "steps"), _span(1.1, 3.0, "steps")
    ('5 % to 20 % fewer steps', '10 % fewer to 5 % more steps', '1.10 to 3 times the steps')
    >>> _span(1.2, float("inf"), "steps"), _span(0.0, 0.8, ""), _span(0.9, float("inf"), "steps")
    ('at least 20 % more steps', 'at least 20 % fewer', '')
    >>> _span(0.93, 2.91, "steps")
    '0.930 to 2.91 times the steps'
    """
    of = f" {what}" if what else ""
    if (low < 1.0 < high) and (low == 0.0 or math.isinf(high)):
        return ""
    if high <= 1.0:
        least, most = percent(1.0 - high), percent(1.0 - low)
        return f"at least {least} fewer{of}" if low == 0.0 else f"{_range(least, most)} fewer{of}"
    if math.isinf(high):
        return f"at least {_more(low, of)}"
    if low < 1.0 and high < TIMES:
        return f"{percent(1.0 - low)} fewer to {_more(high, of)}"
    if high < TIMES:
        return f"{_range(percent(low - 1.0), percent(high - 1.0))} more{of}"
    return f"{_range(number(low), number(high))} times{f' the{of}' if what else ' as many'}"


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _more(ratio: float, of: str) -> str:
    if ratio < TIMES:
        return f"{percent(ratio - 1.0)} more{of}"
    return f"{number(ratio)} times{f' the{of}' if of else ' as many'}"


def _on_the_clock(report: Report, judged: Sequence[Comparison], *, is_faster: bool) -> str:
    """Say what the arm costs in seconds, as the range of all its intervals.

    Where they say nothing together, those speak that lie on one side; empty where none does.
    """
    places = {(each.workload, each.arm) for each in judged}
    found = [
        (each, each.interval)
        for each in report.comparisons
        if each.metric == "seconds_to_target" and each.against == BASELINE and each.interval is not None
        if (each.workload, each.arm) in places
    ]
    if not found:
        return ""
    high = max(each.high for _, each in found)
    # Fewer steps pay only where they are not paid for in seconds.
    but = "but " * (is_faster and high > 1.0)
    if span := _span(min(each.low for _, each in found), high, "seconds"):
        return f"{but}takes {span} to the target"
    sides = [[(c, each) for c, each in found if each.low > 1.0], [(c, each) for c, each in found if each.high < 1.0]]
    told = [
        f"{_span(min(each.low for _, each in side), max(each.high for _, each in side), 'seconds')} on "
        f"{_names([comparison for comparison, _ in side])}"
        for side in sides
        if side
    ]
    return f"{but}takes {' and '.join(told)}" if told else ""


def _sight(found: Sequence[Comparison], claims: Sequence[Comparison]) -> str:
    """Say what would have been seen where nothing was."""
    known = [(each, each.effect) for each in found if each.effect is not None]
    seen = sorted((effect.smallest, smallest(effect)) for _, effect in known if smallest(effect))
    blind = [each for each, effect in known if not smallest(effect)]
    told = []
    if seen:
        where = "" if len(claims) == 1 else f" on {_names([each for each, _ in known if each not in blind])}"
        told.append(f"from {_range(seen[0][1], seen[-1][1])} on a difference would most likely have shown{where}")
    if blind:
        told.append(f"too many runs miss the target to see one on {_names(blind)}")
    return "; ".join(told)


def _beside_controls(report: Report, arm: str) -> Iterator[str]:
    found = [
        each
        for each in report.comparisons
        if each.arm == arm and each.against != BASELINE and each.metric == "steps_to_target" and each.p is not None
    ]
    if found:
        counts = Counter(each.verdict for each in found)
        told = [f"{verdict} in {counts[verdict]}" for verdict in (Verdict.FASTER, Verdict.SLOWER) if counts[verdict]]
        rest = len(found) - counts[Verdict.FASTER] - counts[Verdict.SLOWER]
        told += [f"no difference seen in {rest}"] if rest else []
        yield f"Of {len(found)} comparisons with its controls, which are no claims: {', '.join(told)}"
