"""Budgets: what a sweep has used of them, and what is left.

Both are counted from the trials alone, so that no crash and no resume makes a budget larger. The wall clock of a sweep
is the time during which its trials ran, over all its runs: two interrupted nights add up, the day between them does not
count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

from orchestrator.home import Trial, TrialConfig, TrialResult
from orchestrator.search import num_planned
from orchestrator.spec import PHASES, BudgetOptions, Phase, SweepSpec, duration_text

SECONDS_PER_HOUR = 3_600.0


@final
@dataclass(frozen=True)
class Spent:
    """What a sweep has used.

    Args:
        seconds: wall-clock time during which it ran.
        num_trials: number of trials that ended.
        gpu_seconds: GPUs times the seconds for which trials held them.
    """

    seconds: float
    num_trials: int
    gpu_seconds: float


@final
@dataclass(frozen=True)
class Usage:
    """How much is used of one budget of a sweep.

    Args:
        title: the budget and its limit in words, such as ``the trials budget of 10``.
        used: seconds, trials or GPU-hours.
        limit: in the same unit.
        told: what is used, in words.
    """

    title: str
    used: float
    limit: float
    told: str

    @property
    def sentence(self) -> str:
        """What is used, in a sentence."""
        return f"{self.told} of {self.title} used ({self.used / self.limit:.0%})"


@final
@dataclass(frozen=True)
class _Running:
    began_at: float
    gpu: float


@final
class Budgets:
    """A sweep's budgets while it runs; no call takes longer where there are more trials.

    Args:
        spec: of the sweep.
        trials: on file when this run begins.
        clock: tells seconds; only differences count.
    """

    def __init__(
        self, spec: SweepSpec, trials: Iterable[Trial], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._budget = spec.budget
        self._num_planned = planned(spec)
        self._clock = clock
        self._before = spent(trials)
        self._began_at = clock()
        self._num_ended = self._before.num_trials
        self._gpu_seconds = self._before.gpu_seconds
        self._running: dict[str, _Running] = {}
        # Over the trials that run: the sum of their GPUs, and the sum of their GPUs times the time at which they began.
        self._gpus = 0.0
        self._gpu_began = 0.0

    def on_started(self, config: TrialConfig, seconds_before: float = 0.0) -> None:
        """Take note that a trial runs, and for how many seconds earlier attempts ran, by its checkpoint."""
        self.on_stopped(config)
        self._running[config.trial_id] = running = _Running(self._clock() - seconds_before, config.share.gpu)
        self._gpus += running.gpu
        self._gpu_began += running.gpu * running.began_at

    def on_stopped(self, config: TrialConfig) -> None:
        """Take note that a trial no longer runs and has no result: it runs again, or was cut off."""
        running = self._running.pop(config.trial_id, None)
        if running is not None:
            self._gpus -= running.gpu
            self._gpu_began -= running.gpu * running.began_at
        if not self._running:
            self._gpus = self._gpu_began = 0.0  # rounding may have left something of fractions

    def on_ended(self, config: TrialConfig, result: TrialResult) -> None:
        """Take note that a trial ended, in whatever state."""
        self.on_stopped(config)
        self._num_ended += 1
        self._gpu_seconds += gpu_seconds(config, result)

    @property
    def spent(self) -> Spent:
        """What the sweep has used so far; trials that run count."""
        now = self._clock()
        on_gpus = self._gpus * now - self._gpu_began
        return Spent(self._before.seconds + now - self._began_at, self._num_ended, self._gpu_seconds + on_gpus)

    def reached(self) -> str | None:
        """Say which budget of the whole sweep is used up, and how far the sweep is; None where none is used up."""
        found = next((usage for usage in usages(self._budget, self.spent) if usage.used >= usage.limit), None)
        if found is None:
            return None
        return f"{found.title} is used up: {self._num_ended} of {self._num_planned} trials ended"

    def may_start(self) -> bool:
        """Tell whether one more trial may start; trials that run count as ended in the budget of trials."""
        limit = self._budget.trials
        return self.reached() is None and (limit is None or self._num_ended + len(self._running) < limit)

    def overdue(self, trial_id: str) -> bool:
        """Tell whether a trial that runs is over the budget of one trial."""
        limit = self._budget.per_trial
        return limit is not None and trial_id in self._running and self._elapsed(trial_id) >= limit.seconds

    def timed_out(self, trial_id: str, ended_at: float) -> TrialResult:
        """Make the FAIL of a trial that is overdue, which ended at some Unix time."""
        elapsed = self._elapsed(trial_id)
        message = f"ended after {duration_text(elapsed)}: budget.per_trial is {self._budget.per_trial}"
        return TrialResult.lost(trial_id, message, ended_at - elapsed, ended_at, "timeout")

    def _elapsed(self, trial_id: str) -> float:
        return self._clock() - self._running[trial_id].began_at


def spent(trials: Iterable[Trial], running: Mapping[str, float] | None = None, now: float = 0.0) -> Spent:
    """Count what a sweep has used, from its files.

    Args:
        trials: all trials that were begun.
        running: id of a trial that runs -> Unix time when it began; other trials without a result do not count.
        now: Unix time.
    """
    running = running or {}
    intervals, num_ended, on_gpus = [], 0, 0.0
    for trial in trials:
        if trial.result is not None:
            intervals.append((trial.result.started_at, trial.result.ended_at))
            num_ended += 1
            on_gpus += gpu_seconds(trial.config, trial.result)
        elif trial.trial_id in running:
            began_at = running[trial.trial_id]
            intervals.append((began_at, now))
            on_gpus += max(0.0, now - began_at) * trial.config.share.gpu
    return Spent(union_seconds(intervals), num_ended, on_gpus)


def gpu_seconds(config: TrialConfig, result: TrialResult) -> float:
    """Give GPUs times seconds of a trial that ended; a clock that was set back counts as no time."""
    return max(0.0, result.ended_at - result.started_at) * config.share.gpu


def union_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Measure how many seconds lie in at least one interval; one that ends before it begins is empty.

    >>> union_seconds([(0, 2), (1, 3), (10, 11), (10, 10.5), (5, 4)])
    4.0
    """
    total, until = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def usages(budget: BudgetOptions, spent: Spent) -> tuple[Usage, ...]:
    """Say how much is used of each budget of the whole sweep that the spec has."""
    found = []
    if budget.wall_clock is not None:
        title, limit = f"the wall-clock budget of {budget.wall_clock}", budget.wall_clock.seconds
        found.append(Usage(title, spent.seconds, limit, duration_text(spent.seconds)))
    if budget.gpu_hours is not None:
        title, hours = f"the GPU-hours budget of {budget.gpu_hours:g}", spent.gpu_seconds / SECONDS_PER_HOUR
        found.append(Usage(title, hours, budget.gpu_hours, f"{hours:.3g}"))
    if budget.trials is not None:
        title, num = f"the trials budget of {budget.trials}", spent.num_trials
        found.append(Usage(title, num, budget.trials, str(num)))
    return tuple(found)


def planned(spec: SweepSpec, phases: Iterable[Phase] = PHASES) -> int:
    """Count the trials of some phases of a sweep."""
    return sum(num_planned(spec, *study, phase) for study in spec.studies for phase in phases)


def shortfalls(
    spec: SweepSpec, seconds: float | None, gpu_hours: float | None, trial_seconds: float | None
) -> Iterator[str]:
    """Say which budgets a sweep is likely to exceed, a sentence each.

    Args:
        spec: of the sweep.
        seconds: estimate of its wall-clock time; None where it is not known.
        gpu_hours: estimate of its GPU-hours; None where they are not known.
        trial_seconds: estimate for its longest trial; None where it is not known.
    """
    budget = spec.budget
    if budget.wall_clock is not None and seconds is not None and seconds > budget.wall_clock.seconds:
        told = f"budget.wall_clock is {budget.wall_clock} and the estimate is {duration_text(seconds)}"
        yield f"{told}, so the sweep will end early"
    if budget.gpu_hours is not None and gpu_hours is not None and gpu_hours > budget.gpu_hours:
        told = f"budget.gpu_hours is {budget.gpu_hours:g} and the estimate is {gpu_hours:.3g}"
        yield f"{told}, so the sweep will end early"
    if budget.trials is not None and budget.trials < planned(spec):
        search, confirm = planned(spec, ["search"]), planned(spec, ["confirm"])
        last = "confirm" if confirm else "the search"
        lacking = f"{last} will not {'run' if confirm and budget.trials <= search else 'be complete'}"
        told = f"budget.trials is {budget.trials} and the spec plans {search} search and {confirm} confirm trials"
        yield f"{told}, so {lacking}"
    if budget.per_trial is not None and trial_seconds is not None and trial_seconds > budget.per_trial.seconds:
        yield (
            f"budget.per_trial is {budget.per_trial} and the longest trial may take {duration_text(trial_seconds)}, so "
            "it would end as FAIL"
        )
