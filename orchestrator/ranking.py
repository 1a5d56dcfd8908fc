"""How a study's search trials are ordered by one objective, and the small questions that this asks of a trial."""

from __future__ import annotations

import math
from collections.abc import Iterable

from orchestrator.home.records import Trial, TrialState
from orchestrator.spec import Mode
from orchestrator.statistics import censored_median


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


def by_value(trials: Iterable[Trial], mode: Mode) -> list[Trial]:
    """Order trials by their objective, ties by median steps to target, then by number.

    Args:
        trials: COMPLETE, of one study's search.
        mode: of the objective.

    Returns:
        The trials, the best first.
    """
    sign = 1.0 if mode == "min" else -1.0

    def order(trial: Trial) -> tuple[float, float, int, str]:
        assert trial.result is not None
        assert trial.result.value is not None
        number = trial.config.number
        return sign * trial.result.value, steps_to_target(trial), -1 if number is None else number, stored_id(trial)

    return sorted(trials, key=order)
