"""One search: the candidates of one arm, on one workload or on all of them, each run once per workload and seed.

A candidate is a set of values; a trial is one run of a candidate, on one workload and one seed. A search's own sampler
proposes candidates (:mod:`orchestrator.search.proposals`). This module runs each of them, looks at its results in a
fixed order, whatever order they come in, and says what the candidate came to. The first result in that order that
settles a candidate does so: a run that failed, or that a scheduler ended, or the one with which it lost
to the best candidate. Runs behind that one are not begun, are ended, or do not count. So a candidate comes to the same
with one worker or with many.

The sweep's files are the truth. After a crash a search is brought level with them, and what was cut off runs again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, final

from orchestrator.home import HistoryRow, Trial, TrialConfig, TrialResult, TrialState
from orchestrator.search.candidates import run_order, search_config, training_of
from orchestrator.search.costs import Pair, baseline_costs, log_ratio_of, mean_values
from orchestrator.search.early_stopping import Stopping
from orchestrator.search.journal import CandidateOutcome
from orchestrator.search.proposals import Point, Proposals
from orchestrator.search.settling import aggregate_over, has_lost_to, never, settle
from orchestrator.search.warm_start import given_points
from orchestrator.spec import ALL, BASELINE, Arm, Json, SweepSpec, Workload
from orchestrator.spec.options import TeleportOptions, WilcoxonOptions

if TYPE_CHECKING:
    import optuna


@final
class _Candidate:
    """A candidate that has not ended.

    Args:
        number: of its proposal.
        run_ids: trial ids of its runs, in the order in which they are looked at.
        configs: the runs; empty until the first of them is handed out.
    """

    def __init__(self, number: int, values: dict[str, Json], run_ids: Sequence[str]) -> None:
        self.number = number
        self.values = values
        self.run_ids = run_ids
        self.configs: Sequence[TrialConfig] = ()
        self.results: dict[int, TrialResult] = {}
        self.handed_out: set[int] = set()
        # Of a search over all workloads: logarithm of the cost of the candidate to beat over the baseline's, pair by
        # pair; None where there is no such candidate.
        self.leader: list[float] | None = None
        self.is_begun = False
        self.num_looked_at = 0

    @property
    def num_wanted(self) -> int:
        """Runs up to the first that did not end well; nothing behind that one can count any more."""
        bad = (place for place, result in self.results.items() if result.state is not TrialState.COMPLETE)
        return min(bad, default=len(self.run_ids) - 1) + 1

    def left(self) -> Iterator[int]:
        """Places of the runs that are still to be handed out."""
        known = self.handed_out | self.results.keys()
        return (place for place in range(self.num_wanted) if place not in known)


@final
class Study:
    """The search of one arm, on one workload or, where ``workload`` is ``*``, over all of them.

    A search waits for those whose results it builds on: a control for the search of the arm that it follows, and a
    search over all workloads for every baseline's.

    Args:
        spec: of the sweep.
        workload: label, or ``*``.
        arm: label.
        storage: from :func:`orchestrator.search.journal.open_journal`.
        results: the search results that are on file, by trial id.
        points: candidates to propose first, in this order.
        replicate: which of the arm's independent searches it is, from 0.
    """

    def __init__(
        self,
        spec: SweepSpec,
        workload: str,
        arm: str,
        storage: optuna.storages.BaseStorage,
        results: Mapping[str, TrialResult],
        points: Sequence[Point] = (),
        replicate: int = 0,
    ) -> None:
        self.spec = spec
        self.workload = workload
        self.arm = arm
        self.replicate = replicate
        self.name = spec.search_of(workload, arm, replicate)
        self._storage = storage
        self._results = results
        self._is_shared = workload == ALL
        self._pairs = run_order(spec, workload, replicate)
        self._proposals = Proposals(spec, (workload, arm), self.name, storage, points, self._run_ids)
        self._stopping: Stopping | None = None
        self._baselines: dict[str, TrialConfig] = {}
        self._costs: dict[Pair, float] = {}
        self._settings: TeleportOptions | None = None
        self._open: dict[int, _Candidate] = {}
        # Where each run that was handed out, or is on file, belongs: number of the candidate and place in it.
        self._places: dict[str, tuple[int, int]] = {}
        # Candidates that ran in full, of a search over all workloads: number -> aggregate, and ratio pair by pair.
        self._raced: dict[int, tuple[float, list[float]]] = {}
        self._dropped: list[TrialConfig] = []
        self._has_nothing_to_run = False
        self.num_handed_out = 0
        self.is_waiting = bool(self.waits_for)
        if not self.is_waiting:
            self._take_up()

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Names of the searches that must be over first."""
        source = self.spec.sources.get(self.arm)
        baselines = [f"{label}/{BASELINE}" for label in self.spec.workloads] if self._is_shared else []
        return (*baselines, *([] if source is None else [self._search_of(source)]))

    @property
    def num_planned(self) -> int:
        """Candidates of this search in all."""
        return self._proposals.num_planned

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to hand out, unless a candidate that runs must be replaced."""
        if self.is_waiting:
            return False
        if self._has_nothing_to_run:
            return True
        is_anything_left = any(True for candidate in self._open.values() for _ in candidate.left())
        return self._proposals.is_exhausted and not is_anything_left

    @property
    def is_over(self) -> bool:
        """Whether every candidate has ended."""
        return self.is_exhausted and not self._open

    def begin(self, best: Mapping[tuple[str, str], Sequence[Trial]]) -> str:
        """End the wait: build on what the searches have found that this one waits for.

        Args:
            best: the best candidates of each workload and arm, the best first.

        Returns:
            Why there is nothing to run, in a sentence; empty where there is.
        """
        self.is_waiting = False
        if self._is_shared:
            untuned = [label for label in self.spec.workloads if not best[label, BASELINE]]
            if untuned:
                self._has_nothing_to_run = True
                return f"{self.name} has nothing to compare with: no trial of {untuned[0]}/{BASELINE} ended well"
            baselines = {label: best[label, BASELINE][0] for label in self.spec.workloads}
            self._baselines = {label: trial.config for label, trial in baselines.items()}
            self._costs = baseline_costs(self.spec, baselines)
        source = self.spec.sources.get(self.arm)
        if source is not None:
            chosen = best[next(iter(self.spec.workloads)) if self._is_shared else self.workload, source]
            chosen = tuple(trial for trial in chosen if trial.config.replicate == self.replicate)
            if not chosen:
                self._has_nothing_to_run = True
                return f"{self.name} has no settings to take: no trial of {self._search_of(source)} ended well"
            self._settings = chosen[0].config.method.teleport
        self._take_up()
        return ""

    def _search_of(self, arm: str) -> str:
        """Name the search of another arm whose settings this one takes."""
        return f"{self.workload}/{arm}" if self._is_shared else self.spec.search_of(self.workload, arm, self.replicate)

    def propose(self) -> TrialConfig | None:
        """Hand out the next run.

        A run that an earlier one of the same candidate may still spare waits while there is anything else to run.

        Returns:
            Its configuration; None where there is none, or the search waits for runs to end.
        """
        if self.is_waiting or self._has_nothing_to_run:
            return None
        while (config := self._next_run(may_be_spared=False)) is None:
            proposal = self._proposals.propose()
            if proposal is None:
                config = self._next_run(may_be_spared=True)
                break
            self._enter(*proposal)
        self.num_handed_out += config is not None
        return config

    def judge(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> int | None:
        """Look at new rows of a run.

        Args:
            config: that this study handed out.
            rows: in order; of a run that goes on from a checkpoint, first those that it keeps.

        Returns:
            How many of these rows the run keeps, where it is to end; None where it goes on.
        """
        number, place = self._places[config.trial_id]
        candidate = self._open.get(number)
        if candidate is None or place >= candidate.num_wanted:
            return len(rows) if any(row.step for row in rows) else None
        return None if self._stopping is None else self._stopping.judge(number, config, rows)

    def tell(self, result: TrialResult) -> None:
        """Say how a run ended; saying it again changes nothing, nor does it once its candidate has ended."""
        number, place = self._places[result.trial_id]
        candidate = self._open.get(number)
        if candidate is not None and place not in candidate.results:
            self._take(candidate, place, result)
            self._advance(candidate)

    def take_dropped(self) -> Sequence[TrialConfig]:
        """Hand over the runs that were planned and will not be handed out; each once."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def _take_up(self) -> None:
        """Bring the search level with the journal and the files."""
        found = self._proposals.take_up()
        if self.spec.search.scheduler.rungs:
            seeds = self.spec.search.seeds_of(self.replicate)
            self._stopping = Stopping(self.spec, self.workload, seeds, self.name, self._storage)
        for number, values, run_ids in found:
            self._enter(number, values, run_ids)

    def _enter(self, number: int, values: dict[str, Json], run_ids: Sequence[str]) -> None:
        """Open a candidate, with what is on file of it."""
        candidate = _Candidate(number, values, run_ids)
        self._open[number] = candidate
        for place, trial_id in enumerate(run_ids):
            self._places[trial_id] = (number, place)
            if trial_id in self._results:
                self.num_handed_out += 1
                self._take(candidate, place, self._results[trial_id])
        self._advance(candidate)

    def _take(self, candidate: _Candidate, place: int, result: TrialResult) -> None:
        wanted = candidate.num_wanted
        candidate.results[place] = result
        if self._stopping is not None:
            self._stopping.on_run_ended(candidate.number, result)
        # What was to come behind a run that has just failed will not.
        if candidate.num_wanted < wanted:
            self._drop(candidate, range(candidate.num_wanted, wanted))

    def _drop(self, candidate: _Candidate, places: range) -> None:
        known = candidate.handed_out | candidate.results.keys()
        left = [place for place in places if place not in known]
        self._dropped += [self._config(candidate, place) for place in left]
        candidate.handed_out.update(left)

    def _next_run(self, *, may_be_spared: bool) -> TrialConfig | None:
        for candidate in self._open.values():
            place = next(candidate.left(), None) if candidate.is_begun else None
            if place is not None and (may_be_spared or self._is_due(candidate, place)):
                if self._stopping is not None and place > candidate.num_looked_at:
                    continue  # a curve is judged seed after seed
                candidate.handed_out.add(place)
                return self._config(candidate, place)
        return None

    def _is_due(self, candidate: _Candidate, place: int) -> bool:
        scheduler = self.spec.search.scheduler
        if not isinstance(scheduler, WilcoxonOptions) or candidate.leader is None:
            return True
        return place < max(scheduler.min_pairs, candidate.num_looked_at + 1)

    def _begin(self, candidate: _Candidate) -> None:
        """Find the candidate to beat, the best of those whose end the proposal was made with.

        These have ended when a proposal is made. One that has lost its result's file since runs again first.
        """
        last = candidate.number - self.spec.search.concurrency
        if next(iter(self._open)) > last:
            known = [(aggregate, other) for other, (aggregate, _) in self._raced.items() if other <= last]
            candidate.leader = self._raced[min(known)[1]][1] if known else None
            candidate.is_begun = True

    def _advance(self, candidate: _Candidate) -> None:
        """Look at the runs that have ended, in order, up to the one that settles the candidate."""
        if not candidate.is_begun:
            self._begin(candidate)
        if not candidate.is_begun:
            return
        results = [candidate.results.get(place) for place in range(len(candidate.run_ids))]
        lost = partial(self._has_lost, candidate) if self._is_shared else never
        state, candidate.num_looked_at = settle(results, lost, start=candidate.num_looked_at)
        if state is TrialState.COMPLETE:
            self._close(candidate, CandidateOutcome(state, self._values(candidate)))
        elif state is not None:
            last = candidate.results[candidate.num_looked_at - 1]
            if last.state is TrialState.COMPLETE:
                curve = dict(enumerate(self._log_ratios(candidate)))
                self._close(candidate, CandidateOutcome(state, curve=curve))
            else:
                self._close(candidate, CandidateOutcome(state, failed=last))

    def _log_ratios(self, candidate: _Candidate, num_runs: int | None = None) -> list[float]:
        """Compare the first runs of a candidate of a shared search, or all that were looked at, with the baselines."""
        num_runs = candidate.num_looked_at if num_runs is None else num_runs
        pairs = enumerate(self._pairs[:num_runs])
        objective = self.spec.search.objective
        return [log_ratio_of(objective, candidate.results[place], self._costs[pair]) for place, pair in pairs]

    def _has_lost(self, candidate: _Candidate, num_runs: int) -> bool:
        return has_lost_to(self.spec, self._pairs, candidate.leader, self._log_ratios(candidate, num_runs))

    def _close(self, candidate: _Candidate, outcome: CandidateOutcome) -> None:
        del self._open[candidate.number]
        self._drop(candidate, range(candidate.num_looked_at, candidate.num_wanted))
        if self._is_shared and outcome.state is TrialState.COMPLETE:
            self._raced[candidate.number] = (outcome.values[0], self._log_ratios(candidate))
        if self._stopping is not None:
            self._stopping.end(candidate.number, outcome)
        self._proposals.end(candidate.number, outcome)
        # One that waited may end at once, and let the next one begin.
        for waiting in [other for other in self._open.values() if not other.is_begun]:
            if not waiting.is_begun:
                self._advance(waiting)

    def _values(self, candidate: _Candidate) -> tuple[float, ...]:
        """The value of each objective, of a candidate that ran in full."""
        if self._is_shared:
            return (aggregate_over(self.spec, self._pairs, self._log_ratios(candidate)),)
        return mean_values([candidate.results[place] for place in range(len(self._pairs))])

    def _config(self, candidate: _Candidate, place: int) -> TrialConfig:
        if not candidate.configs:
            candidate.configs = self._configs(candidate.values, candidate.number)
        return candidate.configs[place]

    def _run_ids(self, values: dict[str, Json], number: int) -> list[str]:
        return [config.trial_id for config in self._configs(values, number)]

    def _configs(self, values: dict[str, Json], number: int) -> list[TrialConfig]:
        """Make the runs of a candidate, in the order in which they are looked at."""
        template = self.spec.space(self.workload, self.arm)
        method = Arm.model_validate(template[1].concretise(values))
        if self._settings is not None:
            method = method.following(self._settings)
        if self._is_shared:
            trained = {label: training_of(self.spec, one, values) for label, one in self._baselines.items()}
        else:
            trained = {self.workload: Workload.model_validate(template[0].concretise(values))}
        return [
            search_config(self.spec, pair, self.arm, trained[pair[0]], method, values, number, self.replicate)
            for pair in self._pairs
        ]


def plan_studies(
    spec: SweepSpec,
    storage: optuna.storages.BaseStorage,
    results: Mapping[str, TrialResult],
    points: Mapping[str, Sequence[Point]] | None = None,
) -> list[Study]:
    """Open every search of a sweep.

    Args:
        spec: of the sweep.
        storage: from :func:`orchestrator.search.journal.open_journal`.
        results: the search results on file, by trial id.
        points: what each search proposes after the points that the spec gives it, by its name.
    """
    given, more = given_points(spec), points or {}
    return [
        Study(spec, workload, arm, storage, results, _joined(given, more, f"{workload}/{arm}"), replicate)
        for workload, arm in spec.searches
        for replicate in range(spec.search.replicates)
    ]


def _joined(given: Mapping[str, Sequence[Point]], more: Mapping[str, Sequence[Point]], study: str) -> list[Point]:
    first = given.get(study, ())
    return [*first, *(point for point in more.get(study, ()) if point not in first)]
