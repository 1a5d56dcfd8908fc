"""Which configurations the search sends to confirm: by its own results alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

from orchestrator.results import SweepRecord, Trial, TrialState
from orchestrator.statistics import censored_median

Champions = dict[tuple[str, str], tuple[Trial, ...]]


def champions(record: SweepRecord) -> Champions:
    """Choose the top k of each study.

    The first of each is its champion: it alone is compared in the report. The others are confirmed and shown, but
    choosing among them by their confirm results would bias the claim as the search's winner is biased.

    Args:
        record: a sweep whose search may still run.

    Returns:
        ``(workload, arm)`` of every study -> the first ``confirm.top_k`` of :func:`ranked`.
    """
    return {study: trials[: record.spec.confirm.top_k] for study, trials in ranked(record).items()}


def ranked(record: SweepRecord) -> Champions:
    """Order the search trials of each study, the best first.

    Args:
        record: a sweep whose search may still run.

    Returns:
        ``(workload, arm)`` of every study -> its COMPLETE search trials: by objective, ties by median steps to
        target, then by number. Where there are several objectives the Pareto front comes first, then the front of
        the rest, and so on, each in this order of the first objective. Empty where none is COMPLETE.
    """
    spec = record.spec
    found: dict[tuple[str, str], list[Trial]] = {study: [] for study in spec.studies}
    for trial in record.trials:
        study = (trial.config.workload, trial.config.arm)
        if trial.config.phase == "search" and study in found and is_complete(trial):
            found[study].append(trial)
    signs = [1.0 if objective.mode == "min" else -1.0 for objective in spec.search.objectives]
    by_first = {study: sorted(trials, key=lambda trial: _order(trial, signs[0])) for study, trials in found.items()}
    return {study: tuple(_by_front(trials, signs)) for study, trials in by_first.items()}


def _by_front(trials: list[Trial], signs: list[float]) -> Iterator[Trial]:
    """Peel off Pareto fronts; one objective has fronts of equals, which are in order already.

    Yields:
        The trials, in the order given within a front.
    """
    if len(signs) == 1:
        yield from trials
        return
    left = [(trial, _losses(trial, signs)) for trial in trials]
    while left:
        # Nothing dominates what is before it in this order, so a front is found in one pass.
        front: list[tuple[float, ...]] = []
        for _, losses in sorted(left, key=lambda one: one[1]):
            if not any(_dominates(other, losses) for other in front):
                front.append(losses)
        members = set(front)
        yield from (trial for trial, losses in left if losses in members)
        left = [(trial, losses) for trial, losses in left if losses not in members]


def _losses(trial: Trial, signs: list[float]) -> tuple[float, ...]:
    assert trial.result is not None
    return tuple(sign * value for sign, value in zip(signs, trial.result.values, strict=True))


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def is_complete(trial: Trial) -> bool:
    """Tell whether a trial ended well and has a value."""
    result = trial.result
    return result is not None and result.state is TrialState.COMPLETE and result.value is not None


def stored_id(trial: Trial) -> str:
    """Tell the id under which a trial is on file.

    It is the hash of the configuration as that was when the trial ran. The hash of the same configuration today
    differs where the catalogue has gained a setting since, and a report of an old sweep must still find what
    belongs together.

    Args:
        trial: of any phase.

    Returns:
        The id of its result; of its configuration where it has not ended.
    """
    return trial.trial_id if trial.result is None else trial.result.trial_id


def steps_to_target(trial: Trial) -> float:
    """Take the median steps to target over a trial's seeds.

    Args:
        trial: of any phase.

    Returns:
        The median, infinite as soon as half the seeds miss; infinite where no seed ran.
    """
    seeds = trial.result.seeds if trial.result is not None else ()
    steps = [math.inf if seed.steps_to_target is None else float(seed.steps_to_target) for seed in seeds]
    return censored_median(steps) if steps else math.inf


def _order(trial: Trial, sign: float) -> tuple[float, float, int, str]:
    assert trial.result is not None
    assert trial.result.value is not None
    number = trial.config.number
    return sign * trial.result.value, steps_to_target(trial), -1 if number is None else number, stored_id(trial)
