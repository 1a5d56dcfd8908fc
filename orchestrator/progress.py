"""Where a sweep stands: counted from its trials, while it runs and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from orchestrator.results import Trial, TrialState
from orchestrator.space import num_points
from orchestrator.spec import Phase, SweepSpec


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
        best: best objective so far; None where nothing is COMPLETE.
    """

    study: str
    phase: Phase
    num_planned: int
    num_done: int
    num_running: int
    num_failed: int
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


def count(
    spec: SweepSpec, trials: Iterable[Trial], running: frozenset[str], seconds: float, done_before: int
) -> Progress:
    """Count where a sweep stands.

    Args:
        spec: of the sweep.
        trials: every trial that was begun.
        running: ids of those that run now.
        seconds: how long this run of the sweep has lasted.
        done_before: how many seeds had been trained before it.

    Returns:
        The counts and the time left.
    """
    by_study: dict[tuple[str, Phase], list[Trial]] = {}
    for trial in trials:
        by_study.setdefault((trial.config.study, trial.config.phase), []).append(trial)
    phases: tuple[Phase, ...] = ("search", "confirm")
    studies = tuple(
        _study(spec, workload, arm, phase, by_study.get((f"{workload}/{arm}", phase), []), running)
        for phase in phases
        for workload, arm in spec.studies
    )
    seeds_of: dict[Phase, int] = {"search": len(spec.search.seeds), "confirm": 1}
    seeds_done = sum(study.num_done * seeds_of[study.phase] for study in studies) - done_before
    seeds_left = sum((study.num_planned - study.num_done) * seeds_of[study.phase] for study in studies)
    left = seconds / seeds_done * max(seeds_left, 0) if seeds_done > 0 else None
    return Progress(studies, spec.search.objective.metric, left)


def _study(
    spec: SweepSpec, workload: str, arm: str, phase: Phase, trials: list[Trial], running: frozenset[str]
) -> StudyProgress:
    ended = [trial.result for trial in trials if trial.result is not None]
    values = [result.value for result in ended if result.value is not None]
    best = (min if spec.search.objective.mode == "min" else max)(values) if values else None
    return StudyProgress(
        study=f"{workload}/{arm}",
        phase=phase,
        num_planned=num_planned(spec, workload, arm, phase, sum(result.is_no_answer for result in ended)),
        num_done=len(ended),
        num_running=sum(trial.trial_id in running for trial in trials if trial.result is None),
        num_failed=sum(result.state is TrialState.FAIL for result in ended),
        best=best,
    )
