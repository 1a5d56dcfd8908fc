"""Which configurations the search sends to confirm: by its own results alone."""

from __future__ import annotations

import math

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
        ``(workload, arm)`` of every study -> its at most ``confirm.top_k`` best COMPLETE search trials: by
        objective, ties by median steps to target, then by number. Empty where none is COMPLETE.
    """
    spec = record.spec
    found: dict[tuple[str, str], list[Trial]] = {study: [] for study in spec.studies}
    for trial in record.trials:
        study = (trial.config.workload, trial.config.arm)
        if trial.config.phase == "search" and study in found and is_complete(trial):
            found[study].append(trial)
    sign = 1.0 if spec.search.objective.mode == "min" else -1.0
    return {
        study: tuple(sorted(trials, key=lambda trial: _order(trial, sign))[: spec.confirm.top_k])
        for study, trials in found.items()
    }


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
