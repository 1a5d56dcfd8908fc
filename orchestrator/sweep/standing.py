"""Says where a sweep stands while it runs and after; its trials are counted one by one."""

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
from orchestrator.search import Candidates, Confirmation, num_candidates, num_planned, run_order
from orchestrator.spec import PHASES, Phase, SweepSpec
from orchestrator.sweep.budgets import Usage, spent, usages

CRASH_TOLERANCE = 0.1


def end_of(record: SweepRecord) -> SweepOutcome:
    """Judge how a sweep ended that is over; its trials need no curves."""
    failures = tuple(_failures(record))
    return SweepOutcome(status="FAILED" if failures else "FINISHED", failures=failures, ended_early=record.ended_early)


def in_words(end: SweepOutcome) -> Literal["finished", "ended early", "failed"]:
    """Name an end for people; a sweep with failures has failed, also where it ended early."""
    if end.status == "FAILED":
        return "failed"
    return "finished" if end.is_whole else "ended early"


def _failures(record: SweepRecord) -> Iterator[str]:
    """Say what makes a sweep count as failed: crashes in confirm, many in search, or an arm without a result.

    A candidate that diverges or takes too long is an answer of the search and no failure. Nor does a study fail
    that a budget left without a result.
    """
    crashed = [trial for trial in record.trials if trial.result is not None and trial.result.is_no_answer]
    confirm = [trial for trial in crashed if trial.config.phase == "confirm"]
    if confirm:
        yield f"{len(confirm)} confirm trials crashed"
    num_search = sum(trial.config.phase == "search" for trial in record.trials)
    num_crashed = len(crashed) - len(confirm)
    if num_crashed > CRASH_TOLERANCE * num_search:
        yield f"{num_crashed} of {num_search} search trials crashed"
    merged = Candidates.of(record).merged
    for workload, arm in record.spec.studies:
        own = (trial.result for trial in merged if trial.config.study == f"{workload}/{arm}")
        states = [result.state for result in own if result is not None]
        is_cut_short = bool(record.ended_early) and len(states) < num_candidates(record.spec, workload, arm)
        if not is_cut_short and TrialState.COMPLETE not in states:
            yield f"{workload}/{arm} has no trial that ended well"


@final
@dataclass(frozen=True)
class StudyProgress:
    """Counts of one phase of one study.

    Args:
        study: ``workload/arm``.
        phase: search or confirm.
        num_planned: trials in all.
        num_done: trials that ended, in whatever state.
        num_running: trials that run now.
        num_failed: trials that ended as FAIL.
        num_pruned: trials that were stopped early.
        best: best objective of a candidate so far; None where none is COMPLETE, and in confirm, which chooses nothing.
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
    """Counts of a whole sweep.

    Args:
        studies: the search of every study, then confirm of every study; a phase without trials is left out.
        objective: name of the metric of ``best``.
        seconds_left: estimate by the pace so far; None where nothing has ended yet.
    """

    studies: tuple[StudyProgress, ...]
    objective: str
    seconds_left: float | None

    @property
    def num_planned(self) -> int:
        """Number of all trials."""
        return sum(study.num_planned for study in self.studies)

    @property
    def num_done(self) -> int:
        """Number of trials that ended."""
        return sum(study.num_done for study in self.studies)

    @property
    def num_running(self) -> int:
        """Number of trials that run now."""
        return sum(study.num_running for study in self.studies)

    @property
    def num_failed(self) -> int:
        """Number of trials that ended as FAIL."""
        return sum(study.num_failed for study in self.studies)

    @property
    def is_finished(self) -> bool:
        """Whether every planned trial ended."""
        return self.num_done >= self.num_planned


@final
class TrialCounts:
    """Counts the trials of a sweep as they begin and end; no call takes longer where there are more trials.

    Args:
        spec: of the sweep.
        since: Unix time from which trials that end tell the pace; None where no process drives the sweep.
    """

    def __init__(self, spec: SweepSpec, since: float | None = None) -> None:
        self._spec = spec
        self._since = since
        self._num_timed = 0
        # Workers take a while to start before the first trial begins, and that tells nothing of those to come.
        self._first_began_at: float | None = None
        self._better = min if spec.search.objective.mode == "min" else max
        self._studies = {
            (f"{workload}/{arm}", phase): _StudyCounts(num_planned(spec, workload, arm, phase))
            for phase in PHASES
            for workload, arm in spec.studies
        }
        self._searches = {
            spec.search_of(workload, arm, replicate): _CandidateCounts(spec, workload, replicate)
            for workload, arm in spec.searches
            for replicate in range(spec.search.replicates)
        }

    def begin(self, config: TrialConfig) -> None:
        """Count a trial that runs."""
        self._of(config).running.add(config.trial_id)

    def take_back(self, config: TrialConfig) -> None:
        """Uncount a trial that no longer runs and has not ended."""
        self._of(config).running.discard(config.trial_id)

    def end(self, config: TrialConfig, result: TrialResult) -> None:
        """Count a trial that has ended."""
        counts = self._of(config)
        counts.running.discard(config.trial_id)
        counts.num_done += 1
        counts.num_failed += result.state is TrialState.FAIL
        counts.num_pruned += result.state is TrialState.PRUNED
        if self._since is not None and result.ended_at >= self._since:
            self._num_timed += 1
            # A trial that goes on from a checkpoint counts as begun before this run.
            began_at = max(self._since, result.started_at)
            self._first_began_at = min(began_at, self._first_began_at or began_at)
        value = self._end_of_search(config, result) if config.phase == "search" else None
        if value is not None:
            counts.best = value if counts.best is None else self._better(counts.best, value)

    def _end_of_search(self, config: TrialConfig, result: TrialResult) -> float | None:
        """Count a search trial for its candidate.

        Returns:
            The mean objective of the candidate on this workload; None until it has all its seeds.
        """
        candidates = self._searches[self._spec.search_of(config.workload, config.arm, config.replicate)]
        before = candidates.num_no_answer
        candidates.end(config, result)
        for workload, arm in self._spec.studies if candidates.num_no_answer != before else ():
            if self._searches[self._spec.search_of(workload, arm, config.replicate)] is candidates:
                earlier, now = (
                    num_planned(self._spec, workload, arm, "search", num) for num in (before, candidates.num_no_answer)
                )
                self._studies[f"{workload}/{arm}", "search"].num_planned += now - earlier
        return candidates.mean(config)

    def drop(self, workload: str, arm: str, phase: Phase, num_trials: int = 1) -> None:
        """Uncount trials that were planned and will not run."""
        self._studies[f"{workload}/{arm}", phase].num_planned -= num_trials

    def plan_confirm(self, num_trials: Mapping[tuple[str, str], int]) -> None:
        """Plan so many confirm trials of each workload and arm, once the search has told how many there are."""
        for workload, arm in self._spec.studies:
            self._studies[f"{workload}/{arm}", "confirm"].num_planned = num_trials.get((workload, arm), 0)

    def close(self) -> None:
        """Plan only the trials that have ended: the sweep is over, and what it gave up is no part of it."""
        for counts in self._studies.values():
            counts.num_planned = counts.num_done

    def progress(self, now: float = 0.0) -> Progress:
        """Tell where the sweep stands at a Unix time.

        The time left is that of the trials to come at the pace since the first trial began. A trial that runs counts as
        half done: where many run at once, the first one to end would otherwise tell a pace that is far too slow.
        """
        # A spec may leave a phase out.
        known = {key: counts for key, counts in self._studies.items() if counts.num_planned or counts.num_done}
        studies = tuple(counts.progress(study, phase) for (study, phase), counts in known.items())
        half = sum(len(counts.running) for counts in self._studies.values()) / 2
        left = sum(counts.num_planned - counts.num_done for counts in self._studies.values()) - half
        seconds_left = None
        if self._first_began_at is not None:
            seconds_left = (now - self._first_began_at) / (self._num_timed + half) * max(left, 0.0)
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
        num_running = len(self.running)
        ended = self.num_done, num_running, self.num_failed, self.num_pruned
        return StudyProgress(study, phase, self.num_planned, *ended, self.best)


@final
class _CandidateCounts:
    """Counts the candidates of one search by their trials."""

    def __init__(self, spec: SweepSpec, workload: str, replicate: int) -> None:
        self._order = {pair: place for place, pair in enumerate(run_order(spec, workload, replicate))}
        self._num_seeds = len(spec.search.seeds)
        self._values: dict[tuple[int | None, str], list[float]] = {}
        # Number of a failed candidate -> place of the run that settles it, and whether that run gave no answer.
        self._failed: dict[int | None, tuple[int, bool]] = {}

    def end(self, config: TrialConfig, result: TrialResult) -> None:
        if result.value is not None:
            self._values.setdefault((config.number, config.workload), []).append(result.value)
        if result.failure is not None:
            failed = (self._order[config.workload, config.seeds[0]], result.is_no_answer)
            self._failed[config.number] = min(failed, self._failed.get(config.number, failed))

    @property
    def num_no_answer(self) -> int:
        """Number of candidates that failed without telling anything; each is replaced."""
        return sum(is_no_answer for _, is_no_answer in self._failed.values())

    def mean(self, config: TrialConfig) -> float | None:
        """Give the mean objective of a candidate on a workload; None until it has all its seeds."""
        values = self._values.get((config.number, config.workload), [])
        return sum(values) / self._num_seeds if len(values) == self._num_seeds else None


def count(
    spec: SweepSpec, trials: Iterable[Trial], *, since: float | None = None, now: float = 0.0, is_over: bool = False
) -> Progress:
    """Count where a sweep stands from its files, with the time left while a process drives it.

    Args:
        spec: of the sweep.
        trials: all trials that were begun.
        since: Unix time when the process that drives the sweep began, so that trials that have not ended run; None
            where no process drives it.
        now: Unix time.
        is_over: whether everything that was wanted has ended.
    """
    counts = TrialCounts(spec, since)
    trials = tuple(trials)
    for trial in trials:
        if trial.result is not None:
            counts.end(trial.config, trial.result)
        elif since is not None:
            counts.begin(trial.config)
    candidates = Candidates(spec, trials)
    for workload, arm in candidates.given_up:
        counts.drop(workload, arm, "search")
    if any(trial.config.phase == "confirm" for trial in trials):
        counts.plan_confirm(Confirmation(candidates).num_planned)
    if is_over:
        counts.close()
    return counts.progress(now)


@final
@dataclass(frozen=True)
class Unread:
    """A sweep that ``list`` cannot read.

    Args:
        name: of the sweep.
        reason: why it cannot be read, and what to do.
        state: stands where a :class:`Standing` has its state.
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
        ended_early: a sentence on the budget that ended it before its last trial; empty where none did.
        usages: what is used of each of its budgets, without what running trials did before they were cut off.
        ended_by_user: ids of the trials that ``teleport stop --trial`` has ended.
    """

    name: str
    state: str
    progress: Progress
    ended_early: str = ""
    usages: tuple[Usage, ...] = ()
    ended_by_user: tuple[str, ...] = ()


def standing(paths: SweepPaths, record: SweepRecord | None = None) -> Standing:
    """Tell where a sweep stands, also while another process runs it.

    Args:
        paths: of a sweep that was begun.
        record: what is stored of it, without curves, where the caller has read it already.
    """
    record = record or read_record(paths, with_history=False)
    since, now = held_since(paths), time.time()
    end = paths.read_outcome()
    is_over = since is None and end is not None and end.is_whole
    progress = count(record.spec, record.trials, since=since, now=now, is_over=is_over)
    begun = (trial.trial_id for trial in record.trials if since is not None and trial.result is None)
    began_at = {trial_id: paths.began_at(trial_id) for trial_id in begun}
    used = usages(record.spec.budget, spent(record.trials, began_at, now))
    state = "running" if since is not None else "interrupted" if end is None else in_words(end)
    by_user = tuple(one.trial_id for one in record.trials if one.result is not None and one.result.by_user)
    return Standing(paths.name, state, progress, record.ended_early, used, by_user)


def standings(home: Path) -> list[Standing | Unread]:
    """Tell where each sweep of a home stands, by name; one that cannot be read does not hide the others."""
    found: list[Standing | Unread] = []
    for name in sweep_names(home):
        try:
            found.append(standing(SweepPaths(home, name)))
        except (UserError, OSError) as error:
            found.append(Unread(name, str(error)))
    return found
