"""Where a sweep stands: counted trial by trial, while it runs and after."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import final

from orchestrator.home.records import Trial, TrialConfig, TrialResult, TrialState
from orchestrator.search.candidates import settings_of
from orchestrator.search.counts import num_planned, num_seeds
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
            (f"{workload}/{arm}", phase): _Tally(
                functools.partial(num_planned, spec, workload, arm, phase), num_seeds(spec, arm, phase)
            )
            for phase in PHASES
            for workload, arm in spec.studies
        }
        self._settings: dict[str, _Settings] = {arm: _Settings() for arm in spec.arms if spec.is_shared(arm)}

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
        tally.num_pruned += result.state is TrialState.PRUNED
        settings = self._settings.get(config.arm) if config.phase == "search" else None
        if settings is not None:
            settings.end(config, result)
            for workload in self._spec.workloads:
                self._studies[f"{workload}/{config.arm}", "search"].replace(settings.num_no_answer)
            value = settings.mean(config, len(self._spec.search.seeds))
        else:
            if result.is_no_answer:
                tally.replace(tally.num_no_answer + 1)
            value = result.value
        if value is not None:
            tally.best = value if tally.best is None else self._better(tally.best, value)

    def drop(self, config: TrialConfig) -> None:
        """Uncount a trial that was planned and will not run."""
        self.drop_from(config.workload, config.arm, config.phase)

    def drop_from(self, workload: str, arm: str, phase: Phase, num_trials: int = 1) -> None:
        """Uncount trials that were planned and will not run.

        Args:
            workload: label.
            arm: label.
            phase: of the trials.
            num_trials: how many.
        """
        self._studies[f"{workload}/{arm}", phase].drop(num_trials)

    def plan_confirm(self, num_candidates: Mapping[tuple[str, str], int]) -> None:
        """Plan the confirm trials of so many candidates, where a setting was chosen for several reasons.

        Args:
            num_candidates: workload and arm -> how many go to confirm.
        """
        for (workload, arm), num in num_candidates.items():
            most = num_planned(self._spec, workload, arm, "confirm")
            self.drop_from(workload, arm, "confirm", most - num * len(self._spec.confirm_seeds))

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
        tallies = self._studies.values()
        done = sum(tally.num_done * tally.num_seeds for tally in tallies) - num_seeds_before
        open_ = sum((tally.num_planned - tally.num_done) * tally.num_seeds for tally in tallies)
        left = seconds / done * max(open_, 0) if seconds is not None and done > 0 else None
        return Progress(studies, self._spec.search.objective.metric, left)

    def _of(self, config: TrialConfig) -> _Tally:
        return self._studies[config.study, config.phase]


@final
class _Tally:
    """One phase of one study."""

    def __init__(self, plan: Callable[[int], int], num_seeds: int) -> None:
        self._plan = plan
        self.num_seeds = num_seeds
        self.num_no_answer = 0
        self._num_dropped = 0
        self.num_planned = plan(0)
        self.running: set[str] = set()
        self.num_done = 0
        self.num_failed = 0
        self.num_pruned = 0
        self.best: float | None = None

    def replace(self, num_no_answer: int) -> None:
        self.num_no_answer = num_no_answer
        self._count()

    def drop(self, num_trials: int) -> None:
        self._num_dropped += num_trials
        self._count()

    def _count(self) -> None:
        self.num_planned = self._plan(self.num_no_answer) - self._num_dropped

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


@final
class _Settings:
    """The settings of one shared search, as far as counting goes."""

    def __init__(self) -> None:
        self._values: dict[tuple[int | None, str], list[float]] = {}
        self._no_answer: set[int | None] = set()
        self._answers: set[int | None] = set()

    def end(self, config: TrialConfig, result: TrialResult) -> None:
        if result.value is not None:
            self._values.setdefault((config.number, config.workload), []).append(result.value)
        if result.failure is not None:
            (self._no_answer if result.is_no_answer else self._answers).add(config.number)

    @property
    def num_no_answer(self) -> int:
        """Settings that failed without telling anything: another takes the place of each."""
        return len(self._no_answer - self._answers)

    def mean(self, config: TrialConfig, num_seeds: int) -> float | None:
        """The objective of a setting on a workload; None until it has all its seeds."""
        values = self._values.get((config.number, config.workload), [])
        return sum(values) / num_seeds if len(values) == num_seeds else None


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
    trials = tuple(trials)
    for trial in trials:
        if trial.result is not None:
            tallies.end(trial.config, trial.result)
            if since is not None and trial.result.ended_at < since:
                num_seeds_before += len(trial.config.seeds)
        elif since is not None:
            tallies.begin(trial.config)
    for setting in (setting for of in settings_of(spec, trials).values() for setting in of):
        if setting.state in {"FAIL", "PRUNED"}:
            for unit in setting.units:
                if unit.trial is None:
                    tallies.drop_from(unit.workload, setting.arm, "search")
    if is_over:
        tallies.close()
    return tallies.progress(None if since is None else now - since, num_seeds_before)
