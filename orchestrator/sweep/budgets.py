"""What is left of a sweep's budgets: counted from its trials alone, so that no crash and no resume makes it more.

The wall clock of a sweep is the time in which its trials ran, over all its runs: an interrupted night and the next
one add up, the day between them does not count.
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
        seconds: of wall clock in which it ran.
        num_trials: that ended.
        gpu_seconds: GPUs times seconds.
    """

    seconds: float
    num_trials: int
    gpu_seconds: float


@final
@dataclass(frozen=True)
class Usage:
    """What is used of one budget.

    Args:
        budget: its key in the spec.
        used: seconds, trials or GPU-hours.
        limit: in the same unit.
        sentence: both in words.
    """

    budget: str
    used: float
    limit: float
    sentence: str


@final
@dataclass(frozen=True)
class _Running:
    began_at: float
    gpu: float


@final
class Budgets:
    """A sweep's budgets while it runs; every event and every answer costs the same, however many trials there are.

    Args:
        spec: of the sweep.
        trials: as they are on file when this run begins.
        clock: seconds from any moment; only differences count.
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
        # Of those that run: how many GPUs they hold, and the sum of each one's GPUs times when it began.
        self._gpus = 0.0
        self._gpu_began = 0.0

    def on_started(self, config: TrialConfig, seconds_before: float = 0.0) -> None:
        """Take note that a trial runs.

        Args:
            config: of the trial.
            seconds_before: how long earlier attempts ran, as the checkpoint it goes on from says.
        """
        self.on_stopped(config)
        self._running[config.trial_id] = running = _Running(self._clock() - seconds_before, config.share.gpu)
        self._gpus += running.gpu
        self._gpu_began += running.gpu * running.began_at

    def on_stopped(self, config: TrialConfig) -> None:
        """Take note that a trial no longer runs and has no result: it was lost and runs again, or was cut off."""
        running = self._running.pop(config.trial_id, None)
        if running is not None:
            self._gpus -= running.gpu
            self._gpu_began -= running.gpu * running.began_at
        if not self._running:
            self._gpus = self._gpu_began = 0.0  # what rounding has left of fractions

    def on_ended(self, config: TrialConfig, result: TrialResult) -> None:
        """Take note of how a trial ended, whatever its state."""
        self.on_stopped(config)
        self._num_ended += 1
        self._gpu_seconds += gpu_seconds(config, result)

    @property
    def spent(self) -> Spent:
        """What the sweep has used so far, running trials included."""
        now = self._clock()
        on_gpus = self._gpus * now - self._gpu_began
        return Spent(self._before.seconds + now - self._began_at, self._num_ended, self._gpu_seconds + on_gpus)

    def reached(self) -> str | None:
        """Tell whether a budget of the whole sweep is used up.

        Returns:
            A sentence that says which, and how far the sweep is; None: there is some left of each.
        """
        found = next((usage for usage in usages(self._budget, self.spent) if usage.used >= usage.limit), None)
        if found is None:
            return None
        name, limit = _name_and_limit(self._budget, found.budget)
        return f"the {name} budget of {limit} is used up: {self._num_ended} of {self._num_planned} trials ended"

    def may_start(self) -> bool:
        """Tell whether one more trial may start; those that run are as good as ended in the budget of trials."""
        limit = self._budget.trials
        return self.reached() is None and (limit is None or self._num_ended + len(self._running) < limit)

    def overdue(self, trial_id: str) -> bool:
        """Tell whether a trial that runs is over the budget of one trial."""
        limit = self._budget.per_trial
        return limit is not None and trial_id in self._running and self._elapsed(trial_id) >= limit.seconds

    def timed_out(self, trial_id: str, ended_at: float) -> TrialResult:
        """Make the result of a trial that is overdue.

        Args:
            trial_id: of one that runs.
            ended_at: Unix time in seconds.

        Returns:
            A FAIL with ``timeout``.
        """
        elapsed = self._elapsed(trial_id)
        message = f"ended after {duration_text(elapsed)}: budget.per_trial is {self._budget.per_trial}"
        return TrialResult.lost(trial_id, message, ended_at - elapsed, ended_at, "timeout")

    def seconds_left(self) -> float | None:
        """Tell when the budgets of wall clock and GPU-hours will be used up at this pace.

        Returns:
            Seconds from now, at least 0; None where no budget is running down.
        """
        spent, left = self.spent, []
        if self._budget.wall_clock is not None:
            left.append(self._budget.wall_clock.seconds - spent.seconds)
        if self._budget.gpu_hours is not None and self._gpus > 0:
            left.append((self._budget.gpu_hours * SECONDS_PER_HOUR - spent.gpu_seconds) / self._gpus)
        return max(0.0, min(left)) if left else None

    def _elapsed(self, trial_id: str) -> float:
        return self._clock() - self._running[trial_id].began_at


def spent(trials: Iterable[Trial], running: Mapping[str, float] | None = None, now: float = 0.0) -> Spent:
    """Count what a sweep has used, from its files.

    Args:
        trials: that were begun.
        running: ids of those that run now, and when they began in Unix time; those without a result that are not
            in it count nothing.
        now: Unix time.

    Returns:
        The counts.
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
    """GPUs times seconds of a trial that ended; a clock that was set back counts as no time."""
    return max(0.0, result.ended_at - result.started_at) * config.share.gpu


def union_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Measure how much time is in at least one interval.

    Args:
        intervals: begin and end; one that ends before it begins is empty.

    Returns:
        Seconds.

    >>> union_seconds([(0, 2), (1, 3), (10, 11), (10, 10.5), (5, 4)])
    4.0
    """
    total, until = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def usages(budget: BudgetOptions, spent: Spent) -> tuple[Usage, ...]:
    """Say how much is used of each budget of a whole sweep.

    Args:
        budget: what the spec allows.
        spent: what is used.

    Returns:
        One for each budget that there is.
    """
    found: list[tuple[str, float, float, str]] = []
    if budget.wall_clock is not None:
        limit = budget.wall_clock.seconds
        found.append(("wall_clock", spent.seconds, limit, duration_text(spent.seconds)))
    if budget.gpu_hours is not None:
        hours = spent.gpu_seconds / SECONDS_PER_HOUR
        found.append(("gpu_hours", hours, budget.gpu_hours, f"{hours:.3g}"))
    if budget.trials is not None:
        found.append(("trials", float(spent.num_trials), float(budget.trials), str(spent.num_trials)))
    return tuple(
        Usage(key, used, limit, f"{told} of the {name} budget of {of} used ({used / limit:.0%})")
        for key, used, limit, told in found
        for name, of in [_name_and_limit(budget, key)]
    )


def planned(spec: SweepSpec, phases: Iterable[Phase] = PHASES) -> int:
    """Count the trials of a sweep.

    Args:
        spec: of the sweep.
        phases: which to count.

    Returns:
        The number.
    """
    return sum(num_planned(spec, *study, phase) for study in spec.studies for phase in phases)


def shortfalls(
    spec: SweepSpec, seconds: float | None, gpu_hours: float | None, trial_seconds: float | None
) -> Iterator[str]:
    """Say which budgets a sweep is likely to exceed.

    Args:
        spec: of the sweep.
        seconds: estimate of its wall clock; None: not known.
        gpu_hours: estimate; None: not known.
        trial_seconds: estimate for its longest trial; None: not known.

    Yields:
        A sentence each.
    """
    budget = spec.budget
    if budget.wall_clock is not None and seconds is not None and seconds > budget.wall_clock.seconds:
        yield f"budget.wall_clock is {budget.wall_clock}, the estimate is {duration_text(seconds)}: it will end early"
    if budget.gpu_hours is not None and gpu_hours is not None and gpu_hours > budget.gpu_hours:
        yield f"budget.gpu_hours is {budget.gpu_hours:g}, the estimate is {gpu_hours:.3g}: it will end early"
    if budget.trials is not None and budget.trials < planned(spec):
        search, confirm = planned(spec, ["search"]), planned(spec, ["confirm"])
        lacking = "confirm will not run" if budget.trials <= search else "confirm will not be complete"
        yield f"budget.trials is {budget.trials}, {search} of search and {confirm} of confirm are planned: {lacking}"
    if budget.per_trial is not None and trial_seconds is not None and trial_seconds > budget.per_trial.seconds:
        yield (
            f"budget.per_trial is {budget.per_trial}, the longest trial may take {duration_text(trial_seconds)}: it "
            "would end as FAIL"
        )


def _name_and_limit(budget: BudgetOptions, key: str) -> tuple[str, str]:
    return {
        "wall_clock": ("wall-clock", str(budget.wall_clock)),
        "gpu_hours": ("GPU-hours", f"{budget.gpu_hours or 0.0:g}"),
        "trials": ("trials", str(budget.trials)),
    }[key]
