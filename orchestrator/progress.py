"""Where a sweep stands: counted trial by trial, while it runs and after."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

from orchestrator.results import Trial, TrialConfig, TrialResult, TrialState
from orchestrator.space import num_points
from orchestrator.spec import PHASES, Phase, SweepSpec


@final
@dataclass(frozen=True)
class StudyProgress:
    """One phase of one study.

    Args:
        study: ``workload/arm``.
        phase: search or confirm.
        num_planned: trials in all.
        num_done: trials that ended, in whatever state.
        num_running: trials that run now.
        num_failed: of those that ended, how many are FAIL.
        num_pruned: of those that ended, how many were stopped early.
        best: best objective so far; None where nothing is COMPLETE.
    """

    study: str
    phase: Phase
    num_planned: int
    num_done: int
    num_running: int
    num_failed: int
    num_pruned: int
    best: float | None


@final
@dataclass(frozen=True)
class Progress:
    """A whole sweep.

    Args:
        studies: search of every study, then confirm of every study.
        objective: name of the metric that ``best`` is of.
        seconds_left: estimate from the pace so far; None where nothing has ended yet.
    """

    studies: tuple[StudyProgress, ...]
    objective: str
    seconds_left: float | None

    @property
    def num_planned(self) -> int:
        """Trials in all."""
        return sum(study.num_planned for study in self.studies)

    @property
    def num_done(self) -> int:
        """Trials that ended."""
        return sum(study.num_done for study in self.studies)

    @property
    def num_running(self) -> int:
        """Trials that run now."""
        return sum(study.num_running for study in self.studies)

    @property
    def num_failed(self) -> int:
        """Trials that are FAIL."""
        return sum(study.num_failed for study in self.studies)

    @property
    def is_finished(self) -> bool:
        """Whether every planned trial ended."""
        return self.num_done >= self.num_planned


def num_planned(spec: SweepSpec, workload: str, arm: str, phase: Phase, num_failed: int = 0) -> int:
    """Count the trials that a study has in a phase; a space, or a grid in it, that holds fewer has fewer.

    Args:
        spec: of the sweep.
        workload: label.
        arm: label.
        phase: search or confirm.
        num_failed: search trials of it that gave no answer and are replaced, up to ``search.max_replaced``.

    Returns:
        The number of trials.
    """
    size = num_points((spec.workloads[workload], spec.arms[arm]), spec.search.sampler)
    num_search = int(min(spec.search.trials, size))
    if phase == "search":
        return int(min(num_search + min(num_failed, spec.search.num_replaceable), size))
    return min(spec.confirm.top_k, num_search) * len(spec.confirm_seeds)


@final
class Tallies:
    """Counts a sweep's trials as they begin and end, so that telling where it stands costs nothing of their number.

    Args:
        spec: of the sweep.
    """

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._better = min if spec.search.objective.mode == "min" else max
        self._studies = {
            (f"{workload}/{arm}", phase): _Tally(functools.partial(num_planned, spec, workload, arm, phase))
            for phase in PHASES
            for workload, arm in spec.studies
        }

    def begin(self, config: TrialConfig) -> None:
        """Count a trial that runs."""
        self._of(config).running.add(config.trial_id)

    def take_back(self, config: TrialConfig) -> None:
        """Uncount a trial that no longer runs and has not ended either."""
        self._of(config).running.discard(config.trial_id)

    def end(self, config: TrialConfig, result: TrialResult) -> None:
        """Count a trial that has ended."""
        tally = self._of(config)
        tally.running.discard(config.trial_id)
        tally.num_done += 1
        tally.num_failed += result.state is TrialState.FAIL
        if result.is_no_answer:
            tally.replace()
        tally.num_pruned += result.state is TrialState.PRUNED
        if result.value is not None:
            tally.best = result.value if tally.best is None else self._better(tally.best, result.value)

    def drop(self, config: TrialConfig) -> None:
        """Uncount a trial that was planned and will not run."""
        self._of(config).drop()

    def close(self) -> None:
        """Plan no more than has ended: what a race has dropped by then is no part of the sweep."""
        for tally in self._studies.values():
            tally.num_planned = tally.num_done

    def progress(self, seconds: float | None = None, num_seeds_before: int = 0) -> Progress:
        """Tell where the sweep stands.

        Args:
            seconds: how long this run of the sweep has lasted; None: nothing is said of the time left.
            num_seeds_before: how many seeds had been trained before it.

        Returns:
            The counts and the time left.
        """
        studies = tuple(tally.progress(study, phase) for (study, phase), tally in self._studies.items())
        num_seeds: dict[Phase, int] = {"search": len(self._spec.search.seeds), "confirm": 1}
        done = sum(study.num_done * num_seeds[study.phase] for study in studies) - num_seeds_before
        open_ = sum((study.num_planned - study.num_done) * num_seeds[study.phase] for study in studies)
        left = seconds / done * max(open_, 0) if seconds is not None and done > 0 else None
        return Progress(studies, self._spec.search.objective.metric, left)

    def _of(self, config: TrialConfig) -> _Tally:
        return self._studies[config.study, config.phase]


@final
class _Tally:
    """One phase of one study."""

    def __init__(self, plan: Callable[[int], int]) -> None:
        self._plan = plan
        self._num_no_answer = 0
        self._num_dropped = 0
        self.num_planned = plan(0)
        self.running: set[str] = set()
        self.num_done = 0
        self.num_failed = 0
        self.num_pruned = 0
        self.best: float | None = None

    def replace(self) -> None:
        self._num_no_answer += 1
        self._count()

    def drop(self) -> None:
        self._num_dropped += 1
        self._count()

    def _count(self) -> None:
        self.num_planned = self._plan(self._num_no_answer) - self._num_dropped

    def progress(self, study: str, phase: Phase) -> StudyProgress:
        return StudyProgress(
            study=study,
            phase=phase,
            num_planned=self.num_planned,
            num_done=self.num_done,
            num_running=len(self.running),
            num_failed=self.num_failed,
            num_pruned=self.num_pruned,
            best=self.best,
        )


def count(
    spec: SweepSpec, trials: Iterable[Trial], *, since: float | None = None, now: float = 0.0, is_over: bool = False
) -> Progress:
    """Count where a sweep stands from its files.

    Args:
        spec: of the sweep.
        trials: every trial that was begun.
        since: Unix time since when a process has driven the sweep, so that what has not ended runs; None: none does.
        now: Unix time.
        is_over: whether everything that was wanted has ended.

    Returns:
        The counts, and the time left where the sweep is driven.
    """
    tallies = Tallies(spec)
    num_seeds_before = 0
    for trial in trials:
        if trial.result is not None:
            tallies.end(trial.config, trial.result)
            if since is not None and trial.result.ended_at < since:
                num_seeds_before += len(trial.config.seeds)
        elif since is not None:
            tallies.begin(trial.config)
    if is_over:
        tallies.close()
    return tallies.progress(None if since is None else now - since, num_seeds_before)
