"""Where a sweep stands: counted trial by trial, while it runs and after."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from orchestrator.errors import UserError
from orchestrator.home import (
    SweepOutcome,
    SweepPaths,
    SweepRecord,
    Trial,
    TrialConfig,
    TrialResult,
    TrialState,
    held_since,
    read_record,
    sweep_names,
)
from orchestrator.search import Candidates, num_configurations, num_planned, run_order
from orchestrator.spec import PHASES, Phase, SweepSpec
from orchestrator.sweep.budgets import Usage, spent, usages

CRASH_TOLERANCE = 0.1


def end_of(record: SweepRecord) -> SweepOutcome:
    """Judge a sweep that is over.

    Args:
        record: all of it; its trials may be without curves.

    Returns:
        How it ended.
    """
    failures = tuple(_failures(record))
    return SweepOutcome(status="FAILED" if failures else "FINISHED", failures=failures, ended_early=record.ended_early)


def in_words(end: SweepOutcome) -> Literal["finished", "ended early", "failed"]:
    """Name an end for people; a sweep that failed has failed, also where it ended early."""
    if end.status == "FAILED":
        return "failed"
    return "ended early" if end.ended_early else "finished"


def _failures(record: SweepRecord) -> Iterator[str]:
    """Say what makes a sweep count as failed: a crash in confirm, many in search, or an arm without a result.

    A configuration that diverges, or takes too long, is an answer of the search, not a failure of the sweep; nor is
    a study that a budget left without one.

    Yields:
        A sentence for each failure.
    """
    crashed = [trial for trial in record.trials if _has_crashed(trial)]
    confirm = [trial for trial in crashed if trial.config.phase == "confirm"]
    if confirm:
        yield f"{len(confirm)} confirm trials crashed"
    num_search = sum(trial.config.phase == "search" for trial in record.trials)
    num_crashed = len(crashed) - len(confirm)
    if num_crashed > CRASH_TOLERANCE * num_search:
        yield f"{num_crashed} of {num_search} search trials crashed"
    merged = Candidates.of(record).merged
    for workload, arm in record.spec.studies:
        study = [
            trial.result for trial in merged if trial.config.study == f"{workload}/{arm}" and trial.result is not None
        ]
        is_cut_short = bool(record.ended_early) and len(study) < num_configurations(record.spec, workload, arm)
        if not is_cut_short and not any(result.state is TrialState.COMPLETE for result in study):
            yield f"{workload}/{arm} has no trial that ended well"


def _has_crashed(trial: Trial) -> bool:
    return trial.result is not None and trial.result.is_no_answer


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
class TrialCounts:
    """Counts a sweep's trials as they begin and end, so that telling where it stands costs nothing of their number.

    Args:
        spec: of the sweep.
    """

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._better = min if spec.search.objective.mode == "min" else max
        self._studies = {
            (f"{workload}/{arm}", phase): _StudyCounts(num_planned(spec, workload, arm, phase))
            for phase in PHASES
            for workload, arm in spec.studies
        }
        self._searches = {spec.search_of(workload, arm): _CandidateCounts(spec) for workload, arm in spec.studies}

    def begin(self, config: TrialConfig) -> None:
        """Count a trial that runs."""
        self._of(config).running.add(config.trial_id)

    def take_back(self, config: TrialConfig) -> None:
        """Uncount a trial that no longer runs and has not ended either."""
        self._of(config).running.discard(config.trial_id)

    def end(self, config: TrialConfig, result: TrialResult) -> None:
        """Count a trial that has ended."""
        counts = self._of(config)
        counts.running.discard(config.trial_id)
        counts.num_done += 1
        counts.num_failed += result.state is TrialState.FAIL
        counts.num_pruned += result.state is TrialState.PRUNED
        value = result.value
        if config.phase == "search":
            value = self._end_of_search(config, result)
        if value is not None:
            counts.best = value if counts.best is None else self._better(counts.best, value)

    def _end_of_search(self, config: TrialConfig, result: TrialResult) -> float | None:
        """Count a trial for its candidate; the mean of the candidate's seeds on this workload once it has them all."""
        candidates = self._searches[self._spec.search_of(config.workload, config.arm)]
        before = candidates.num_no_answer
        candidates.end(config, result)
        if candidates.num_no_answer != before:
            for workload, arm in self._spec.studies:
                if self._spec.search_of(workload, arm) == self._spec.search_of(config.workload, config.arm):
                    earlier, now = (
                        num_planned(self._spec, workload, arm, "search", num)
                        for num in (before, candidates.num_no_answer)
                    )
                    self._studies[f"{workload}/{arm}", "search"].num_planned += now - earlier
        return candidates.mean(config)

    def drop(self, config: TrialConfig) -> None:
        """Uncount a trial that was planned and will not run."""
        self.drop_from(config.workload, config.arm, config.phase)

    def drop_from(self, workload: str, arm: str, phase: Phase, num_trials: int = 1) -> None:
        """Uncount trials that were planned and will not run."""
        self._studies[f"{workload}/{arm}", phase].num_planned -= num_trials

    def plan_confirm(self, num_candidates: Mapping[tuple[str, str], int]) -> None:
        """Plan the confirm trials of so many candidates, where one was chosen for several reasons.

        Args:
            num_candidates: workload and arm -> how many go to confirm.
        """
        for (workload, arm), num in num_candidates.items():
            most = num_planned(self._spec, workload, arm, "confirm")
            self.drop_from(workload, arm, "confirm", most - num * len(self._spec.confirm_seeds))

    def close(self) -> None:
        """Plan no more than has ended: what was given up by then is no part of the sweep."""
        for counts in self._studies.values():
            counts.num_planned = counts.num_done

    def progress(self, seconds: float | None = None, num_before: int = 0) -> Progress:
        """Tell where the sweep stands.

        Args:
            seconds: how long this run of the sweep has lasted; None: nothing is said of the time left.
            num_before: how many trials had ended before it.
        """
        studies = tuple(counts.progress(study, phase) for (study, phase), counts in self._studies.items())
        done = sum(counts.num_done for counts in self._studies.values()) - num_before
        left = sum(counts.num_planned - counts.num_done for counts in self._studies.values())
        seconds_left = seconds / done * max(left, 0) if seconds is not None and done > 0 else None
        return Progress(studies, self._spec.search.objective.metric, seconds_left)

    def _of(self, config: TrialConfig) -> _StudyCounts:
        return self._studies[config.study, config.phase]


@final
class _StudyCounts:
    """The trials of one phase of one study."""

    def __init__(self, num_planned: int) -> None:
        self.num_planned = num_planned
        self.running: set[str] = set()
        self.num_done = 0
        self.num_failed = 0
        self.num_pruned = 0
        self.best: float | None = None

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
class _CandidateCounts:
    """The candidates of one search, as far as counting goes."""

    def __init__(self, spec: SweepSpec) -> None:
        self._order = {pair: place for place, pair in enumerate(run_order(spec))}
        self._num_seeds = len(spec.search.seeds)
        self._values: dict[tuple[int | None, str], list[float]] = {}
        # Number of a candidate that failed -> place of the run that settles it, and whether that told nothing.
        self._failed: dict[int | None, tuple[int, bool]] = {}

    def end(self, config: TrialConfig, result: TrialResult) -> None:
        if result.value is not None:
            self._values.setdefault((config.number, config.workload), []).append(result.value)
        if result.failure is not None:
            failed = (self._order[config.workload, config.seeds[0]], result.is_no_answer)
            self._failed[config.number] = min(failed, self._failed.get(config.number, failed))

    @property
    def num_no_answer(self) -> int:
        """Candidates that failed without telling anything: another takes the place of each."""
        return sum(is_no_answer for _, is_no_answer in self._failed.values())

    def mean(self, config: TrialConfig) -> float | None:
        """The objective of a candidate on a workload; None until it has all its seeds."""
        values = self._values.get((config.number, config.workload), [])
        return sum(values) / self._num_seeds if len(values) == self._num_seeds else None


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
    counts = TrialCounts(spec)
    num_before = 0
    trials = tuple(trials)
    for trial in trials:
        if trial.result is not None:
            counts.end(trial.config, trial.result)
            num_before += since is not None and trial.result.ended_at < since
        elif since is not None:
            counts.begin(trial.config)
    for workload, arm in Candidates(spec, trials).given_up:
        counts.drop_from(workload, arm, "search")
    if is_over:
        counts.close()
    return counts.progress(None if since is None else now - since, num_before)


@final
@dataclass(frozen=True)
class Unread:
    """A sweep that ``list`` cannot read.

    Args:
        name: of the sweep.
        reason: why not, and what to do.
        state: in the place of a :class:`Standing`'s.
    """

    name: str
    reason: str
    state: Literal["unreadable"] = "unreadable"


@final
@dataclass(frozen=True)
class Standing:
    """Where a sweep stands, for ``status`` and ``list``.

    Args:
        name: of the sweep.
        state: ``running``, ``finished``, ``ended early``, ``failed`` (it ended, with failures) or ``interrupted``.
        progress: its counts.
        ended_early: the budget that ended it before its last trial, in a sentence; empty: none did.
        usages: what is used of each of its budgets; what a running trial did before it was cut off is not in it.
    """

    name: str
    state: str
    progress: Progress
    ended_early: str = ""
    usages: tuple[Usage, ...] = ()


def standing(paths: SweepPaths) -> Standing:
    """Tell where a sweep stands, also while another process runs it.

    Args:
        paths: of a sweep that was begun.

    Returns:
        Its state and counts.
    """
    return standing_of(paths, read_record(paths, with_history=False))


def standing_of(paths: SweepPaths, record: SweepRecord) -> Standing:
    """Tell where a sweep stands that was read already.

    Args:
        paths: of the sweep.
        record: what is stored; its trials need no curves.

    Returns:
        Its state and counts.
    """
    since, now = held_since(paths), time.time()
    end = paths.read_outcome()
    is_over = since is None and end is not None and not end.ended_early
    progress = count(record.spec, record.trials, since=since, now=now, is_over=is_over)
    begun = (trial.trial_id for trial in record.trials if since is not None and trial.result is None)
    began_at = {trial_id: paths.began_at(trial_id) for trial_id in begun}
    used = usages(record.spec.budget, spent(record.trials, began_at, now))
    return Standing(paths.name, _state(since is not None, end), progress, record.ended_early, used)


def standings(home: Path) -> list[Standing | Unread]:
    """Tell where each sweep of a home stands.

    Args:
        home: directory that holds the sweeps.

    Returns:
        Their states by name; what is wrong with one is no matter of the others.
    """
    found: list[Standing | Unread] = []
    for name in sweep_names(home):
        try:
            found.append(standing(SweepPaths(home, name)))
        except (UserError, OSError) as error:
            found.append(Unread(name, str(error)))
    return found


def _state(is_running: bool, end: SweepOutcome | None) -> str:
    if is_running:
        return "running"
    return "interrupted" if end is None else in_words(end)
