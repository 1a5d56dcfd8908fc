"""What each arm's search would have found with fewer trials or in less time, at the same k and hours for every arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from orchestrator.report.schema import Best, SearchTrial, StudyReport, Tuning
from orchestrator.spec import Objective
from orchestrator.statistics import ExpectedBest, best_by_time, expected_best

MAX_POINTS = 32


def tunings_of(studies: Sequence[StudyReport], objective: Objective) -> Mapping[str, Tuning]:
    """Estimate the arms of one workload together.

    An arm that has no search of its own, or no answer yet, is left out.
    """
    sign = 1.0 if objective.mode == "min" else -1.0
    answers = {study.arm: [trial for trial in study.search if trial.is_answer] for study in studies if not study.source}
    known = {arm: trials for arm, trials in answers.items() if trials}
    if not known:
        return {}
    most = min(map(len, known.values()))
    counts = sorted({max(1, round(most * (i + 1) / MAX_POINTS)) for i in range(MAX_POINTS)})
    longest = min(sum(trial.seconds for trial in trials) for trials in known.values())
    times = [longest * (i + 1) / MAX_POINTS for i in range(MAX_POINTS)] if longest > 0.0 else []
    return {arm: _tuning(trials, counts, times, sign) for arm, trials in known.items()}


def _tuning(trials: Sequence[SearchTrial], counts: Sequence[int], times: Sequence[float], sign: float) -> Tuning:
    values = [math.inf if trial.value is None else sign * trial.value for trial in trials]
    costs = [trial.seconds for trial in trials]
    return Tuning(
        num_answers=len(trials),
        by_trials=tuple(_best(k, expected_best(values, k), sign) for k in counts),
        with_replacement=tuple(sign * expected_best(values, k, "with replacement").mean for k in counts),
        by_seconds=tuple(
            _best(time, best, sign) for time, best in zip(times, best_by_time(values, costs, times), strict=True)
        ),
    )


def _best(x: float, best: ExpectedBest, sign: float) -> Best:
    return Best(x=x, mean=sign * best.mean, low=sign * best.low, median=sign * best.median, high=sign * best.high)
