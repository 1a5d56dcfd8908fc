"""The answer in one sentence per workload: what the primary verdicts say, and no more."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.report.comparisons import PRIMARY_KIND
from orchestrator.report.schema import Answer, Comparison, ConfirmCandidate, Effect, Interval, StudyReport, Verdict
from orchestrator.report.wording import change, interval_kind, metric_words, number, p_text, percent, smallest
from orchestrator.report.wording import interval as interval_text
from orchestrator.spec import BASELINE, Target


def answers_of(
    studies: Sequence[StudyReport],
    comparisons: Sequence[Comparison],
    targets: dict[str, Target],
    *,
    has_confirm: bool = True,
) -> tuple[Answer, ...]:
    """Put each workload's primary verdicts into one sentence."""
    found = []
    for workload, target in targets.items():
        primary = [c for c in comparisons if c.workload == workload and c.is_primary]
        if primary:
            verdicts = (_sentence(c, target) + _health(c) + _on_the_clock(c, comparisons) for c in primary)
            sentence = " ".join(verdicts) + _about(primary)
        elif not has_confirm:
            sentence = (
                "This sweep is a plain search without a confirm phase, so it makes no claim: what it found best was "
                "chosen on the seeds that it was measured on."
            )
        elif any(study.kind != "baseline" for study in studies):
            sentence = f"No arm of kind {PRIMARY_KIND} is in this sweep: what it compares is exploratory."
        else:
            found_best = [study.best for study in studies if study.workload == workload and study.best is not None]
            told = [_confirmed(best, target) for best in found_best if any(run.is_answer for run in best.confirm)]
            sentence = " ".join(["Only the baseline is in this sweep: nothing is compared.", *told])
        found.append(Answer(workload=workload, sentence=sentence))
    return tuple(found)


def _confirmed(best: ConfirmCandidate, target: Target) -> str:
    """Say how far the best configuration came on the confirm seeds."""
    answers = [run for run in best.confirm if run.is_answer]
    num_reached = sum(run.outcome == "reached" for run in answers)
    return (
        f"Its best configuration reached a {metric_words(target.metric)} of {target.value:g} on {num_reached} of "
        f"{len(answers)} confirm seeds, after a median of {number(best.median_steps_to_target)} steps."
    )


def _sentence(comparison: Comparison, target: Target) -> str:
    arm = comparison.arm
    if comparison.verdict is Verdict.REFUSED:
        return f"{arm} is not compared with the baseline: {comparison.reason}."
    aim = f"{metric_words(target.metric)} of {target.value:g}"
    if comparison.verdict is Verdict.NO_DIFFERENCE and comparison.effect is None:
        return (
            f"Neither {arm} nor the baseline reaches a {aim} on any of {comparison.num_pairs} paired seeds: there is "
            "nothing to compare; a nearer target or a longer run would tell."
        )
    if comparison.verdict is Verdict.NOT_ENOUGH_SEEDS:
        return f"Not enough seeds to say whether {arm} reaches a {aim} in fewer steps: {comparison.reason}."
    if comparison.verdict is Verdict.PENDING or comparison.effect is None or comparison.interval is None:
        return f"{arm}: no verdict yet, {comparison.reason}."
    effect, interval = comparison.effect, comparison.interval
    seeds = f"{comparison.num_pairs} paired seeds{_of_searches(comparison)}"
    found = f"{interval_kind(comparison)} {interval_text(comparison)}, {p_text(comparison.p_adjusted)}"
    if comparison.verdict is Verdict.NO_DIFFERENCE:
        return (
            f"No detectable difference between {arm} and the baseline in steps to a {aim} over {seeds} ({found}); "
            f"{_sight(effect, comparison)}."
        )
    if comparison.verdict is Verdict.LEARNING_RATE:
        return (
            f"No difference beyond the learning rate between {arm} and the baseline in steps to a {aim} over {seeds}: "
            f"each at its own best rate they differ by {change(effect)} ({found}), but {_rates(comparison)} they do "
            "not differ that way at both."
        )
    word = "fewer" if comparison.verdict is Verdict.FASTER else "more"
    return (
        f"{arm} is {comparison.verdict} in steps: it takes {_amount(effect, interval, word)} to a {aim} than the "
        f"baseline ({found}, {seeds}{_misses(comparison)})."
    )


def _of_searches(comparison: Comparison) -> str:
    """Say where the compared settings come from, where that is more than one search."""
    num = comparison.num_replicates
    return f" and {num} independent searches" if num > 1 else ""


def _about(comparisons: Sequence[Comparison]) -> str:
    """Say once what verdicts are about: the settings that one search found, or the method as it is searched for."""
    judged = [each for each in comparisons if each.p is not None]
    if not judged or any(each.num_replicates > 1 for each in judged):
        return ""
    return (
        " This is about the settings that one search found, not about the method: another search may find others, and "
        "its luck is in no interval here (search.replicates)."
    )


def _rates(comparison: Comparison) -> str:
    rates = [f"{rate:.3g}" for rate in (comparison.baseline_rate, comparison.rate) if rate is not None]
    return f"at equal rates ({' and '.join(rates)})" if rates else "at equal points"


def _health(comparison: Comparison) -> str:
    return f" {comparison.health[0].upper()}{comparison.health[1:]}." if comparison.health else ""


def _on_the_clock(comparison: Comparison, comparisons: Sequence[Comparison]) -> str:
    """Say what fewer steps come to in seconds, since whoever asks whether it pays must read both."""
    if comparison.verdict not in {Verdict.FASTER, Verdict.SLOWER, Verdict.NO_DIFFERENCE, Verdict.LEARNING_RATE}:
        return ""
    for other in comparisons:
        is_seconds = other.metric == "seconds_to_target" and other.arm == comparison.arm and other.against == BASELINE
        if is_seconds and other.workload == comparison.workload and other.effect is not None:
            return f" Seconds on the optimizer clock: {change(other.effect)} {interval_text(other)} (exploratory)."
    return ""


def _amount(effect: Effect, interval: Interval, word: str) -> str:
    """Say how many steps fewer or more; the interval's near end speaks where the estimate is 0 or infinite."""
    if word == "fewer":
        if effect.estimate > 0.0:
            return f"{percent(1.0 - effect.estimate)} fewer steps"
        return f"at least {percent(1.0 - interval.high)} fewer steps"
    if math.isinf(effect.estimate):
        return f"at least {percent(interval.low - 1.0)} more steps"
    return f"{percent(effect.estimate - 1.0)} more steps"


def _sight(effect: Effect, comparison: Comparison) -> str:
    seen = smallest(effect)
    if not seen:
        return "with these misses no effect, however large, would have been seen" + _misses(comparison)
    return f"these seeds would have shown a difference of {seen} in 4 of 5 such sweeps" + _misses(comparison)


def _misses(comparison: Comparison) -> str:
    if not comparison.num_baseline_misses and not comparison.num_arm_misses:
        return ""
    total, of = comparison.num_pairs * comparison.num_replicates, "seeds" if comparison.num_replicates == 1 else "runs"
    return (
        f"; target missed on {comparison.num_baseline_misses} of {total} {of} by the baseline and on "
        f"{comparison.num_arm_misses} by {comparison.arm}"
    )
