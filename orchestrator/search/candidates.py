"""What each candidate of a search cost, on every workload and seed.

A candidate is a set of values that the search proposes once. It runs on every search seed of its workload, with
``search.scope: shared`` on those of every workload. Each of these pairs of workload and seed is a *run*: a trial on
file. :class:`Candidates` gathers the runs of a sweep. Nothing of it is stored, because all of it follows from the
trials' files.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self, final

from orchestrator.home import SweepRecord, Trial, TrialConfig, TrialResult, TrialState, objective_value
from orchestrator.search.costs import (
    Pair,
    aggregate_of,
    baseline_costs,
    log_ratio_of,
    mean_values,
    steps_to_target,
)
from orchestrator.search.settling import has_lost_to, settle
from orchestrator.spec import (
    ALL,
    BASELINE,
    LR_FACTOR,
    Aggregate,
    Arm,
    Json,
    Mode,
    Objective,
    SharedScope,
    SweepSpec,
    Workload,
    digest,
)


def run_order(spec: SweepSpec, workload: str = ALL, replicate: int = 0) -> tuple[Pair, ...]:
    """Order the pairs of workload and seed on which each candidate of one search runs.

    On one workload the seeds have the order of the spec. Over all workloads the pairs are shuffled by the search's
    seed, and the workloads take turns, so that every workload is among the first pairs.
    """
    if workload != ALL:
        return tuple((workload, seed) for seed in spec.search.seeds_of(replicate))
    drawn = random.Random(int(digest([spec.search.seed, "race"], 8), 16))
    seeds = {label: drawn.sample(spec.search.seeds, len(spec.search.seeds)) for label in spec.workloads}
    labels = list(spec.workloads)
    return tuple(
        (label, seeds[label][turn])
        for turn in range(len(spec.search.seeds))
        for label in drawn.sample(labels, len(labels))
    )


def training_id(training: Workload) -> str:
    """Identify a workload with every value fixed; where its data lies does not count."""
    return digest(training.identifying_values())


def training_of(spec: SweepSpec, baseline: TrialConfig, values: Mapping[str, Json]) -> Workload:
    """Make what a workload trains under a candidate of a shared search.

    Common parameters come from the candidate's values, all others from the workload's tuned baseline. The learning
    rate is multiplied by the candidate's factor where it has one.
    """
    data = spec.workloads[baseline.workload].concretise({**baseline.values, **values})
    factor = values.get(LR_FACTOR)
    if isinstance(factor, int | float):
        tuned = Workload.model_validate(data).optimizer.model_dump()["lr"]
        data["optimizer"]["lr"] = tuned * factor
    return Workload.model_validate(data)


def search_config(
    spec: SweepSpec,
    pair: Pair,
    arm: str,
    training: Workload,
    method: Arm,
    values: dict[str, Json],
    number: int,
    replicate: int = 0,
) -> TrialConfig:
    """Make the run of a candidate on one pair of workload and seed."""
    return TrialConfig(
        workload=pair[0],
        arm=arm,
        phase="search",
        seeds=(pair[1],),
        training=training,
        method=method,
        objective=spec.search.objective,
        also=spec.search.also,
        values=values,
        number=number,
        replicate=replicate,
        share=spec.resources.share("search"),
        checkpoint_every=spec.checkpoint.every,
        system_metrics_every=spec.tracking.system_metrics_every,
    )


def is_complete(trial: Trial) -> bool:
    """Tell whether a trial ended well and has a value."""
    result = trial.result
    return result is not None and result.state is TrialState.COMPLETE and result.value is not None


def stored_id(trial: Trial) -> str:
    """Tell the id under which a trial is on file.

    That is the hash of its configuration as it was when the trial ran. Today's hash of the same configuration differs
    where an option has been added since, and a report of an old sweep must still find what belongs together.
    """
    return trial.trial_id if trial.result is None else trial.result.trial_id


def by_value(trials: Iterable[Trial], mode: Mode) -> list[Trial]:
    """Order COMPLETE trials by their objective, ties by median steps to target, then by number; the best first."""
    sign = 1.0 if mode == "min" else -1.0

    def order(trial: Trial) -> tuple[float, float, int, str]:
        assert trial.result is not None
        assert trial.result.value is not None
        number = trial.config.number
        return sign * trial.result.value, steps_to_target(trial), -1 if number is None else number, stored_id(trial)

    return sorted(trials, key=order)


CandidateState = Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING"]


@final
@dataclass(frozen=True)
class Run:
    """A candidate on one workload and seed.

    Args:
        workload: its label.
        seed: one of the search's seeds.
        objective: what the search improves.
        trial: the trial on file; None where it was never begun.
        baseline: what the workload's tuned baseline cost on this seed; None where there is no tuned baseline.
    """

    workload: str
    seed: int
    objective: Objective
    trial: Trial | None
    baseline: float | None

    @property
    def result(self) -> TrialResult | None:
        """How it ended; None where it has not, or was never begun."""
        return None if self.trial is None else self.trial.result

    @property
    def state(self) -> CandidateState | None:
        """How it ended, or that it runs; None where it was never begun."""
        if self.trial is None:
            return None
        return "RUNNING" if self.trial.result is None else self.trial.result.state.value

    @cached_property
    def log_ratio(self) -> float | None:
        """Logarithm of its cost over the baseline's, below 0 where it is cheaper; None where either is not known."""
        if self.result is None or self.baseline is None or self.result.state is not TrialState.COMPLETE:
            return None
        return log_ratio_of(self.objective, self.result, self.baseline)


@final
@dataclass(frozen=True)
class Candidate:
    """One candidate of a shared search.

    Args:
        arm: its label.
        number: its place among the proposals of its study.
        values: of the arm's parameters, the common ones, and ``lr_factor``.
        state: COMPLETE: every run has its cost. FAIL: one diverged, took too long or crashed. PRUNED: early stopping
            gave it up. RUNNING: its runs run, or are to run.
        runs: one for each workload and search seed, workload by workload.
        aggregation: how the spec aggregates ratios of costs.
    """

    arm: str
    number: int
    values: Mapping[str, Json]
    state: CandidateState
    runs: tuple[Run, ...]
    aggregation: Aggregate

    @property
    def aggregate(self) -> float | None:
        """Its value over all workloads, below 1 where it beats the baselines; None unless COMPLETE."""
        return self.over({run.workload for run in self.runs}) if self.state == "COMPLETE" else None

    @property
    def ending(self) -> TrialResult | None:
        """The result that made it FAIL; None where none did."""
        return first_failure(run.result for run in self.runs if run.result is not None)

    @property
    def method(self) -> Arm:
        """Its arm with every value fixed; at least one of its runs was begun."""
        return next(run.trial.config.method for run in self.runs if run.trial is not None)

    def over(self, workloads: Collection[str]) -> float | None:
        """Aggregate over some workloads; None where a run of theirs is not COMPLETE, or there is no baseline."""
        ratios: dict[str, list[float]] = defaultdict(list)
        for run in self.runs:
            if run.workload in workloads:
                if run.log_ratio is None:
                    return None
                ratios[run.workload].append(run.log_ratio)
        return aggregate_of(self.aggregation, ratios)

    def as_trial(self) -> Trial | None:
        """Give it as one trial, with the seeds of all its runs and the aggregate as its value; None while it runs."""
        known = [run.trial for run in self.runs if run.trial is not None]
        results = [trial.result for trial in known if trial.result is not None]
        if self.state == "RUNNING" or not results:
            return None
        ending = self.ending
        result = TrialResult(
            trial_id=results[0].trial_id,
            state=TrialState(self.state),
            value=self.aggregate,
            seeds=tuple(seed for each in results for seed in each.seeds),
            failure=None if ending is None else ending.failure,
            started_at=min(each.started_at for each in results),
            ended_at=max(each.ended_at for each in results),
        )
        return Trial(config=known[0].config, result=result)


def first_failure(results: Iterable[TrialResult]) -> TrialResult | None:
    """Find the run that decides how a candidate failed; None where none did.

    One that diverged or took too long comes before one that crashed, since that is an answer, then the earliest.
    """
    failed = [result for result in results if result.failure is not None]
    return min(failed, key=lambda one: (one.is_no_answer, one.ended_at, one.trial_id), default=None)


@final
@dataclass(frozen=True)
class Candidates:
    """The candidates of a sweep, made once and handed to all who choose among them or report them.

    A candidate's runs are looked at in a fixed order, up to the one that settles it: one that failed or was stopped,
    or the one with which it lost to the best of those that its proposal knew of. Runs behind that one do not count,
    whether they were begun or not, so that a candidate comes to the same with one worker or with many.

    Args:
        spec: the sweep's.
        trials: every trial of the sweep that was begun.
    """

    spec: SweepSpec
    trials: tuple[Trial, ...]

    @classmethod
    def of(cls, record: SweepRecord) -> Self:
        """Gather the candidates of a stored sweep."""
        return cls(record.spec, record.trials)

    @cached_property
    def baselines(self) -> dict[str, Trial]:
        """The tuned baseline of each workload, the best of its search; a workload is left out where none ended well."""
        best = {
            label: by_value(filter(is_complete, self.own.get((label, BASELINE), ())), self.spec.search.objective.mode)
            for label in self.spec.workloads
        }
        return {label: of[0] for label, of in best.items() if of}

    @cached_property
    def own(self) -> dict[tuple[str, str], list[Trial]]:
        """Workload and arm of each search that is not shared -> one search trial per candidate, its seeds merged."""
        found: dict[tuple[str, str], list[Trial]] = defaultdict(list)
        for (workload, arm, _, _), runs in self._runs_of_own().items():
            found[workload, arm].append(_merged_own(self.spec, runs))
        return found

    @cached_property
    def shared(self) -> dict[str, tuple[Candidate, ...]]:
        """The candidates of every shared search by their number; no arm where nothing is shared."""
        if not isinstance(self.spec.search.scope, SharedScope):
            return {}
        costs = baseline_costs(self.spec, self.baselines)
        return {arm: self._settled(arm, numbers, costs) for arm, numbers in self._begun().items()}

    @cached_property
    def shared_by_workload(self) -> dict[tuple[str, str], list[Trial]]:
        """Workload and arm of each shared search -> one search trial per candidate, its seeds merged, by number.

        A trial's seeds are those of the runs that have ended, its state is the candidate's, and its value the objective
        over the seeds. It goes by the id of the first run, so that what refers to it finds a trial on file.
        """
        return {
            (workload, arm): [self._merged_shared(candidate, workload) for candidate in of]
            for workload in self.baselines
            for arm, of in self.shared.items()
        }

    @cached_property
    def merged(self) -> tuple[Trial, ...]:
        """The sweep's trials with one search trial per candidate and workload: what reports of one workload read."""
        others = [trial for trial in self.trials if trial.config.phase != "search"]
        parts = (*self.own.values(), others, *self.shared_by_workload.values())
        return tuple(trial for of in parts for trial in of)

    @property
    def given_up(self) -> Iterator[tuple[str, str]]:
        """Workload and arm of each run that will not be begun, since its candidate has ended without it."""
        begun = self._begun()
        for candidate in (candidate for of in self.shared.values() for candidate in of):
            if candidate.state in {"FAIL", "PRUNED"}:
                known = begun[candidate.arm][candidate.number]
                yield from (
                    (workload, candidate.arm) for workload, seed in self._pairs if (workload, seed) not in known
                )
        for (workload, arm, _, _), runs in self._runs_of_own().items():
            result = _merged_own(self.spec, runs).result
            if result is not None and result.state is not TrialState.COMPLETE:
                yield from [(workload, arm)] * (len(self.spec.search.seeds) - len(runs))

    @cached_property
    def _pairs(self) -> tuple[Pair, ...]:
        return run_order(self.spec)

    def _runs_of_own(self) -> dict[tuple[str, str, int, int | None], list[Trial]]:
        """Workload, arm, replicate and number of each candidate -> its search trials."""
        runs: dict[tuple[str, str, int, int | None], list[Trial]] = defaultdict(list)
        for trial in self.trials:
            config = trial.config
            if config.phase == "search" and not self.spec.is_shared(config.arm):
                runs[config.workload, config.arm, config.replicate, config.number].append(trial)
        return runs

    def _begun(self) -> dict[str, dict[int, dict[Pair, Trial]]]:
        """Arm -> number of a candidate of its shared search -> its search trials."""
        begun: dict[str, dict[int, dict[Pair, Trial]]] = {arm: {} for arm in self.spec.arms if self.spec.is_shared(arm)}
        for trial in self.trials:
            config = trial.config
            if config.phase == "search" and config.arm in begun and config.number is not None:
                begun[config.arm].setdefault(config.number, {})[config.workload, config.seeds[0]] = trial
        return begun

    def _settled(
        self, arm: str, numbers: Mapping[int, Mapping[Pair, Trial]], costs: Mapping[Pair, float]
    ) -> tuple[Candidate, ...]:
        """Settle the candidates of one search by number: each meets the best of those that its proposal knew of."""
        assert isinstance(self.spec.search.scope, SharedScope)
        aggregation, objective = self.spec.search.scope.aggregate, self.spec.search.objective
        found: list[Candidate] = []
        for number, begun in sorted(numbers.items()):
            last = number - self.spec.search.concurrency
            complete = [one for one in found if one.number <= last and one.aggregate is not None]
            leader = min(complete, key=lambda one: (one.aggregate or 0.0, one.number), default=None)
            runs = {
                pair: Run(*pair, objective, begun.get(pair), costs.get(pair))
                for pair in ((workload, seed) for workload in self.spec.workloads for seed in self.spec.search.seeds)
            }
            state, num_counted = self._settle([runs[pair] for pair in self._pairs], leader)
            for pair in self._pairs[num_counted:] if state != "RUNNING" else ():
                runs[pair] = replace(runs[pair], trial=None)
            values = next(iter(begun.values())).config.values
            found.append(Candidate(arm, number, values, state, tuple(runs.values()), aggregation))
        return tuple(found)

    def _settle(self, runs: Sequence[Run], leader: Candidate | None) -> tuple[CandidateState, int]:
        """Give the state of a candidate whose runs stand in order, and how many of them count."""
        ahead = None
        if leader is not None:
            by_pair = {(run.workload, run.seed): run.log_ratio or 0.0 for run in leader.runs}
            ahead = [by_pair[pair] for pair in self._pairs]

        def has_lost(num_runs: int) -> bool:
            # Where the baseline is not known there is nothing to lose against.
            ratios = [run.log_ratio for run in runs[:num_runs] if run.log_ratio is not None]
            return len(ratios) == num_runs and has_lost_to(self.spec, self._pairs, ahead, ratios)

        state, num_counted = settle([run.result for run in runs], has_lost)
        return "RUNNING" if state is None else state.value, num_counted

    def _merged_shared(self, candidate: Candidate, workload: str) -> Trial:
        config, known_as = self._named(candidate, workload)
        plain = {name: getattr(config, name) for name in TrialConfig.model_fields}
        whole = TrialConfig(**{**plain, "seeds": self.spec.search.seeds})
        if candidate.state == "RUNNING":
            return Trial(config=whole)
        results = [(run.workload, run.result) for run in candidate.runs if run.result is not None]
        own = [result for label, result in results if label == workload]
        timed = own or [result for _, result in results]
        seeds = tuple(seed for result in own for seed in result.seeds)
        ending = candidate.ending if candidate.state == "FAIL" else None
        result = TrialResult(
            trial_id=known_as,
            state=TrialState(candidate.state),
            value=objective_value(self.spec.search.objective, seeds) if candidate.state == "COMPLETE" else None,
            seeds=seeds,
            failure=None if ending is None else ending.failure,
            started_at=min(result.started_at for result in timed),
            ended_at=max(result.ended_at for result in timed),
            machine=next((result.machine for result in own if result.machine is not None), None),
        )
        return Trial(config=whole, result=result)

    def _named(self, candidate: Candidate, workload: str) -> tuple[TrialConfig, str]:
        """The configuration of a candidate's first run on a workload, and its id on file.

        Where the candidate ended elsewhere before this workload's turn the configuration is made: it has used a trial
        of this arm's budget all the same.
        """
        for run in candidate.runs:
            if run.workload == workload and run.trial is not None:
                return run.trial.config, stored_id(run.trial)
        tuned = self.baselines[workload].config
        pair, training = (workload, self.spec.search.seeds[0]), training_of(self.spec, tuned, candidate.values)
        config = search_config(
            self.spec, pair, candidate.arm, training, candidate.method, dict(candidate.values), candidate.number
        )
        return config, config.trial_id


def _merged_own(spec: SweepSpec, runs: Sequence[Trial]) -> Trial:
    """Make one search trial of a candidate's runs, up to the one that settles it; one that is whole stays as it is."""
    if len(spec.search.seeds) == 1 or len(runs[0].config.seeds) > 1:
        return runs[0]
    by_seed = {run.config.seeds[0]: run for run in runs}
    seeds_in_order = spec.search.seeds_of(runs[0].config.replicate)
    config = runs[0].config.model_copy(update={"seeds": seeds_in_order})
    in_order = [by_seed.get(seed) for seed in seeds_in_order]
    state, num_counted = settle([None if run is None else run.result for run in in_order])
    if state is None:
        return Trial(config=config, history=tuple(row for one in runs for row in one.history))
    counted = [run for run in in_order[:num_counted] if run is not None]
    results = [run.result for run in counted if run.result is not None]
    values = mean_values(results) if state is TrialState.COMPLETE else ()
    result = TrialResult(
        trial_id=stored_id(counted[0]),
        state=state,
        value=values[0] if values else None,
        values=values if len(values) > 1 else (),
        seeds=tuple(seed for result in results for seed in result.seeds),
        failure=results[-1].failure,
        started_at=min(result.started_at for result in results),
        ended_at=max(result.ended_at for result in results),
        machine=next((result.machine for result in results if result.machine is not None), None),
    )
    return Trial(config=config, result=result, history=tuple(row for run in counted for row in run.history))
