"""Settings of a shared search, gathered from its units: what each cost on every workload and seed.

With ``search.scope: shared`` a trial of an arm's search is a *setting* that is run on every workload and search seed.
Each of these pairs is a *unit*: an ordinary trial on file, with one seed, the setting's ``number`` and its ``values``.
Two pure functions make of the units what everything else reads:

- :func:`settings_of`: the table of settings, with cost, baseline and state of every unit, aggregate and state of every
  setting. Whoever asks how a setting does across workloads reads this; :meth:`Setting.over` aggregates over some of
  them.
- :func:`gathered`: the same sweep with one search trial per setting and workload in place of the units, its seeds
  merged: what reports of one workload read.

Nothing here is stored: all of it follows from the trials' files.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, final

from orchestrator.home import SeedResult, SweepRecord, Trial, TrialConfig, TrialResult, TrialState, objective_value
from orchestrator.search.early_stopping import loses
from orchestrator.spec import (
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
from orchestrator.spec.options import WilcoxonOptions
from orchestrator.statistics import Cost, censored_median

Pair = tuple[str, int]


def race_order(spec: SweepSpec) -> tuple[Pair, ...]:
    """Order a setting's pairs of workload and seed: the same for every setting, shuffled by the search's seed.

    Args:
        spec: of the sweep.

    Returns:
        The pairs, the workloads taking turns, so that every workload is among the first.
    """
    drawn = random.Random(int(digest([spec.search.seed, "race"], 8), 16))
    seeds = {label: drawn.sample(spec.search.seeds, len(spec.search.seeds)) for label in spec.workloads}
    labels = list(spec.workloads)
    return tuple(
        (label, seeds[label][turn])
        for turn in range(len(spec.search.seeds))
        for label in drawn.sample(labels, len(labels))
    )


def training_of(spec: SweepSpec, baseline: TrialConfig, values: Mapping[str, Json]) -> Workload:
    """Make what a workload trains under a shared setting.

    Args:
        spec: of the sweep.
        baseline: configuration of the workload's tuned baseline.
        values: of the setting.

    Returns:
        The workload: common parameters from the setting, all others from the baseline, the learning rate times the
        setting's factor where it has one.
    """
    data = spec.workloads[baseline.workload].concretise({**baseline.values, **values})
    factor = values.get(LR_FACTOR)
    if isinstance(factor, int | float):
        tuned = Workload.model_validate(data).optimizer.model_dump()["lr"]
        data["optimizer"]["lr"] = tuned * factor
    return Workload.model_validate(data)


def unit_configs(
    spec: SweepSpec, baselines: Mapping[str, TrialConfig], arm: str, method: Arm, values: dict[str, Json], number: int
) -> dict[Pair, TrialConfig]:
    """Make the trials of a setting.

    Args:
        spec: of the sweep.
        baselines: workload -> configuration of its tuned baseline.
        arm: label.
        method: of the setting, every value fixed.
        values: of the setting.
        number: of the setting.

    Returns:
        Workload and seed -> configuration, workload by workload.
    """
    return {
        (workload, seed): TrialConfig(
            workload=workload,
            arm=arm,
            phase="search",
            seeds=(seed,),
            training=training,
            method=method,
            objective=spec.search.objective,
            values=values,
            number=number,
            share=spec.resources.share("search"),
            checkpoint_every=spec.checkpoint.every,
            system_metrics_every=spec.tracking.system_metrics_every,
        )
        for workload, baseline in baselines.items()
        for training in [training_of(spec, baseline, values)]
        for seed in spec.search.seeds
    }


def baselines_of(spec: SweepSpec, trials: Iterable[Trial]) -> dict[str, Trial]:
    """Find the tuned baselines: the best of each workload's baseline search.

    Args:
        spec: of the sweep.
        trials: of it.

    Returns:
        Workload -> search trial, in the order of the spec; a workload is left out where none ended well.
    """
    runs: dict[tuple[str, int | None], list[Trial]] = defaultdict(list)
    for trial in trials:
        config = trial.config
        if config.arm == BASELINE and config.phase == "search":
            runs[config.workload, config.number].append(trial)
    found: dict[str, list[Trial]] = {label: [] for label in spec.workloads}
    for (workload, _), of in runs.items():
        whole = _whole(spec, of)
        if workload in found and is_complete(whole):
            found[workload].append(whole)
    best = {label: by_value(each, spec.search.objective.mode) for label, each in found.items()}
    return {label: each[0] for label, each in best.items() if each}


def baseline_costs(spec: SweepSpec, baselines: Mapping[str, Trial]) -> dict[Pair, float]:
    """Read what the tuned baselines cost.

    Args:
        spec: of the sweep.
        baselines: from :func:`baselines_of`.

    Returns:
        Workload and seed -> cost, a miss as twice the budget.
    """
    return {
        (workload, seed.seed): run_cost(seed, spec.search.objective.metric).value
        for workload, trial in baselines.items()
        if trial.result is not None
        for seed in trial.result.seeds
    }


def is_complete(trial: Trial) -> bool:
    """Tell whether a trial ended well and has a value."""
    result = trial.result
    return result is not None and result.state is TrialState.COMPLETE and result.value is not None


def stored_id(trial: Trial) -> str:
    """Tell the id under which a trial is on file.

    It is the hash of the configuration as that was when the trial ran. The hash of the same configuration today
    differs where the catalogue has gained a setting since, and a report of an old sweep must still find what
    belongs together.

    Args:
        trial: of any phase.

    Returns:
        The id of its result; of its configuration where it has not ended.
    """
    return trial.trial_id if trial.result is None else trial.result.trial_id


def steps_to_target(trial: Trial) -> float:
    """Take the median steps to target over a trial's seeds.

    Args:
        trial: of any phase.

    Returns:
        The median, infinite as soon as half the seeds miss; infinite where no seed ran.
    """
    seeds = trial.result.seeds if trial.result is not None else ()
    steps = [math.inf if seed.steps_to_target is None else float(seed.steps_to_target) for seed in seeds]
    return censored_median(steps) if steps else math.inf


def by_value(trials: Iterable[Trial], mode: Mode) -> list[Trial]:
    """Order trials by their objective, ties by median steps to target, then by number.

    Args:
        trials: COMPLETE, of one study's search.
        mode: of the objective.

    Returns:
        The trials, the best first.
    """
    sign = 1.0 if mode == "min" else -1.0

    def order(trial: Trial) -> tuple[float, float, int, str]:
        assert trial.result is not None
        assert trial.result.value is not None
        number = trial.config.number
        return sign * trial.result.value, steps_to_target(trial), -1 if number is None else number, stored_id(trial)

    return sorted(trials, key=order)


SUFFIX = "_to_target"
# A clock that shows nothing has passed all the same.
LEAST_SPENT = 1e-9


def run_cost(seed: SeedResult, metric: str) -> Cost:
    """Tell what a run that ended well cost.

    Args:
        seed: the run.
        metric: steps, seconds or gradient evaluations to the target; seconds or gradient evaluations of the whole run.

    Returns:
        Its cost, at least that of one step: what is there before the first has cost nothing, and nothing has no ratio.
        A miss counts as twice its limit (:meth:`Cost.of_miss`).
    """
    limit, spent = run_limit(seed, metric), getattr(seed, metric)
    return Cost.of_miss(limit) if spent is None else Cost(max(float(spent), limit / seed.budget_steps), limit)


def run_limit(seed: SeedResult, metric: str) -> float:
    """Tell where a run is cut off; one that ended before, where it would have been.

    Args:
        seed: the run.
        metric: of :func:`run_cost`.

    Returns:
        The whole budget, in the metric's unit.
    """
    if metric == f"steps{SUFFIX}":
        return float(seed.budget_steps)
    spent: float = getattr(seed, metric.removesuffix(SUFFIX))
    return max(spent, LEAST_SPENT) * (seed.budget_steps / max(seed.num_steps, 1))


SettingState = Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING"]


@final
@dataclass(frozen=True)
class Unit:
    """A setting on one workload and seed.

    Args:
        workload: label.
        seed: of the search.
        objective: of the search.
        trial: on file; None: it was never begun.
        baseline: cost of the workload's tuned baseline on this seed; None: there is no tuned baseline.
    """

    workload: str
    seed: int
    objective: Objective
    trial: Trial | None
    baseline: float | None

    @property
    def result(self) -> TrialResult | None:
        """How it ended; None: it has not, or was never begun."""
        return None if self.trial is None else self.trial.result

    @property
    def state(self) -> SettingState | None:
        """How it ended, or that it runs; None: it was never begun."""
        if self.trial is None:
            return None
        return "RUNNING" if self.trial.result is None else self.trial.result.state.value

    @cached_property
    def cost(self) -> float | None:
        """The objective on this seed, a miss as twice the budget; None unless COMPLETE."""
        return None if self.result is None else cost_of(self.objective, self.result)

    @property
    def is_capped(self) -> bool:
        """Whether it missed its target, so that its cost is twice its budget."""
        result = self.result
        if result is None or result.state is not TrialState.COMPLETE:
            return False
        return self.objective.metric.endswith("_to_target") and result.seeds[0].steps_to_target is None

    @property
    def log_ratio(self) -> float | None:
        """Logarithm of its cost over the baseline's, below 0 where it is cheaper; None where either is not known."""
        if self.result is None or self.baseline is None or self.result.state is not TrialState.COMPLETE:
            return None
        return log_ratio_of(self.objective, self.result, self.baseline)


@final
@dataclass(frozen=True)
class Setting:
    """One setting of a shared search.

    Args:
        arm: label.
        number: in its study.
        values: of the arm's parameters, the common ones, and ``lr_factor``.
        state: COMPLETE: every unit has its cost. FAIL: one diverged, took too long or crashed. PRUNED: the race gave it
            up. RUNNING: its units run, or are to run.
        units: one for each workload and search seed, workload by workload.
        aggregation: of the spec.
    """

    arm: str
    number: int
    values: Mapping[str, Json]
    state: SettingState
    units: tuple[Unit, ...]
    aggregation: Aggregate

    @property
    def aggregate(self) -> float | None:
        """Its value: the aggregate over all workloads, below 1 where it beats the baselines; None unless COMPLETE."""
        return self.over({unit.workload for unit in self.units}) if self.state == "COMPLETE" else None

    @property
    def ending(self) -> TrialResult | None:
        """The unit's result that made it FAIL; None: none did."""
        return first_failure(unit.result for unit in self.units if unit.result is not None)

    def over(self, workloads: Collection[str]) -> float | None:
        """Aggregate over some workloads.

        Args:
            workloads: labels, at least one.

        Returns:
            The aggregate; None where a unit of theirs is not COMPLETE, or there is no baseline.
        """
        ratios: dict[str, list[float]] = defaultdict(list)
        for unit in self.units:
            if unit.workload in workloads:
                if unit.log_ratio is None:
                    return None
                ratios[unit.workload].append(unit.log_ratio)
        return aggregate_of(self.aggregation, ratios)

    def as_trial(self) -> Trial | None:
        """Give the setting as one trial: the seeds of all its units, and the aggregate as its value.

        Returns:
            The trial; None while it runs.
        """
        known = [unit.trial for unit in self.units if unit.trial is not None]
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

    def of(self, workload: str) -> tuple[Unit, ...]:
        """Its units on one workload, in the order of the search's seeds."""
        return tuple(unit for unit in self.units if unit.workload == workload)


def cost_of(objective: Objective, result: TrialResult) -> float | None:
    """Read what a trial of one seed cost.

    Args:
        objective: of the search, one whose ratio means something.
        result: of the trial.

    Returns:
        The objective, a miss as twice the budget, at least that of one step; None unless COMPLETE.
    """
    return run_cost(result.seeds[0], objective.metric).value if result.state is TrialState.COMPLETE else None


def log_ratio_of(objective: Objective, result: TrialResult, baseline: float) -> float:
    """Compare what a COMPLETE trial of one seed cost with the tuned baseline on the same seed.

    Args:
        objective: of the search.
        result: of the trial.
        baseline: the baseline's cost.

    Returns:
        Logarithm of the ratio: finite, since a miss counts as twice its budget on either side.
    """
    return math.log(run_cost(result.seeds[0], objective.metric).value / baseline)


def aggregate_of(aggregation: Aggregate, log_ratios: Mapping[str, Sequence[float]]) -> float:
    """Aggregate the ratios of a setting's costs to the baselines'.

    Args:
        aggregation: ``geometric_mean`` over all of them, or ``worst``: the largest over the workloads of the geometric
            mean over the seeds.
        log_ratios: workload -> their logarithms, at least one.

    Returns:
        The aggregate, a ratio.

    >>> round(aggregate_of("geometric_mean", {"a": [0.0, 0.0], "b": [math.log(4.0), 0.0]}), 6)
    1.414214
    >>> round(aggregate_of("worst", {"a": [0.0, 0.0], "b": [math.log(4.0), 0.0]}), 6)
    2.0
    """
    means = [sum(ratios) / len(ratios) for ratios in log_ratios.values()]
    if aggregation == "worst":
        return math.exp(max(means))
    num = sum(map(len, log_ratios.values()))
    return math.exp(sum(sum(ratios) for ratios in log_ratios.values()) / num)


def mean_values(results: Sequence[TrialResult]) -> tuple[float, ...]:
    """Average each objective over COMPLETE trials of one seed each."""
    known = [result.values or (result.value,) for result in results]
    return tuple(sum(value or 0.0 for value in values) / len(values) for values in zip(*known, strict=True))


def first_failure(results: Iterable[TrialResult]) -> TrialResult | None:
    """Find the unit that decides how a setting failed.

    Args:
        results: of a setting's units.

    Returns:
        One that diverged or took too long before one that crashed, since that is an answer, then the earliest; None:
        none failed.
    """
    failed = [result for result in results if result.failure is not None]
    return min(failed, key=lambda one: (one.is_no_answer, one.ended_at, one.trial_id), default=None)


def settings_of(spec: SweepSpec, trials: Sequence[Trial]) -> dict[str, tuple[Setting, ...]]:
    """Gather the settings of every shared search.

    A setting's units are looked at in the race's order, up to the one that settles it: one that failed, or the one with
    which the setting lost to the best of those that its proposal knew of. Units behind that one do not count, whether
    they were begun or not, so that a setting comes to the same with one worker or with many.

    Args:
        spec: of the sweep.
        trials: of it, every one that was begun.

    Returns:
        Arm -> its settings by number; no arm where nothing is shared.
    """
    scope = spec.search.scope
    if not isinstance(scope, SharedScope):
        return {}
    costs = baseline_costs(spec, baselines_of(spec, trials))
    begun: dict[str, dict[int, dict[Pair, Trial]]] = {arm: {} for arm in spec.arms if spec.is_shared(arm)}
    for trial in trials:
        config = trial.config
        if config.phase == "search" and config.arm in begun and config.number is not None:
            begun[config.arm].setdefault(config.number, {})[config.workload, config.seeds[0]] = trial
    return {arm: _settled(spec, scope.aggregate, arm, numbers, costs) for arm, numbers in begun.items()}


def _settled(
    spec: SweepSpec,
    aggregation: Aggregate,
    arm: str,
    numbers: Mapping[int, Mapping[Pair, Trial]],
    costs: Mapping[Pair, float],
) -> tuple[Setting, ...]:
    """Settle the settings of one search by number: each meets the best of those that its proposal knew of."""
    pairs, found = race_order(spec), list[Setting]()
    for number, begun in sorted(numbers.items()):
        last = number - spec.search.concurrency
        complete = [(one.aggregate or 0.0, one.number, one) for one in found if one.number <= last and one.aggregate]
        leader = min(complete)[2] if complete else None
        units = {
            pair: Unit(*pair, spec.search.objective, begun.get(pair), costs.get(pair))
            for pair in ((workload, seed) for workload in spec.workloads for seed in spec.search.seeds)
        }
        state, num_counted = _settle(spec, aggregation, [units[pair] for pair in pairs], leader, pairs)
        for pair in pairs[num_counted:] if state != "RUNNING" else ():
            units[pair] = replace(units[pair], trial=None)
        values = next(iter(begun.values())).config.values
        found.append(Setting(arm, number, values, state, tuple(units.values()), aggregation))
    return tuple(found)


def _settle(
    spec: SweepSpec, aggregation: Aggregate, units: Sequence[Unit], leader: Setting | None, pairs: Sequence[Pair]
) -> tuple[SettingState, int]:
    """Look at a setting's units in the race's order, up to the one that settles it.

    Returns:
        The state of the setting, and how many units count.
    """
    scheduler = spec.search.scheduler
    ratios: list[float] = []
    by_workload: dict[str, list[float]] = defaultdict(list)
    for place, unit in enumerate(units):
        if unit.state in (None, "RUNNING"):
            return "RUNNING", place
        if unit.state != "COMPLETE":
            assert unit.state is not None
            return unit.state, place + 1
        if unit.log_ratio is None or leader is None or place + 1 == len(units):
            continue
        ratios.append(unit.log_ratio)
        by_workload[unit.workload].append(unit.log_ratio)
        is_behind = aggregate_of(aggregation, by_workload) > (leader.aggregate or 0.0)
        if isinstance(scheduler, WilcoxonOptions) and is_behind:
            ahead = {(one.workload, one.seed): one.log_ratio or 0.0 for one in leader.units}
            if loses(scheduler, ratios, [ahead[pair] for pair in pairs]):
                return "PRUNED", place + 1
    return "COMPLETE", len(units)


def gathered(record: SweepRecord) -> SweepRecord:
    """Put one search trial per setting and workload in place of a shared search's units.

    Args:
        record: of a sweep.

    Returns:
        The sweep; one that shares nothing as it is.
    """
    settings = settings_of(record.spec, record.trials)
    merged = trials_of(record.spec, record.trials, settings)
    others: list[Trial] = []
    own: dict[tuple[str, str, int | None], list[Trial]] = defaultdict(list)
    for trial in record.trials:
        config = trial.config
        if config.phase != "search":
            others.append(trial)
        elif config.arm not in settings:
            own[config.workload, config.arm, config.number].append(trial)
    whole = [_whole(record.spec, runs) for runs in own.values()]
    return replace(record, trials=(*whole, *others, *(trial for of in merged.values() for trial in of)))


def _whole(spec: SweepSpec, runs: Sequence[Trial]) -> Trial:
    """Make one search trial of a candidate's runs, up to the one that settles it; one that is whole stays as it is."""
    if len(spec.search.seeds) == 1 or len(runs[0].config.seeds) > 1:
        return runs[0]
    by_seed = {run.config.seeds[0]: run for run in runs}
    config = runs[0].config.model_copy(update={"seeds": spec.search.seeds})
    counted: list[Trial] = []
    results: list[TrialResult] = []
    for seed in spec.search.seeds:
        run = by_seed.get(seed)
        if run is None or run.result is None:
            return Trial(config=config, history=tuple(row for one in runs for row in one.history))
        counted.append(run)
        results.append(run.result)
        if run.result.state is not TrialState.COMPLETE:
            break
    last = results[-1]
    seeds = tuple(seed for result in results for seed in result.seeds)
    values: tuple[float, ...] = ()
    if last.state is TrialState.COMPLETE:
        values = mean_values(results)
    result = TrialResult(
        trial_id=stored_id(counted[0]),
        state=last.state,
        value=values[0] if values else None,
        values=values if len(values) > 1 else (),
        seeds=seeds,
        failure=last.failure,
        started_at=min(result.started_at for result in results),
        ended_at=max(result.ended_at for result in results),
        machine=next((result.machine for result in results if result.machine is not None), None),
    )
    return Trial(config=config, result=result, history=tuple(row for run in counted for row in run.history))


def trials_of(
    spec: SweepSpec, trials: Sequence[Trial], settings: Mapping[str, Sequence[Setting]]
) -> dict[tuple[str, str], list[Trial]]:
    """Make a search trial of each setting on each workload.

    Its seeds are those of the units that have ended, its state is the setting's, and its value the objective over the
    seeds. It goes by the id of the first unit, so that what refers to it finds a trial on file.

    Args:
        spec: of the sweep.
        trials: of it.
        settings: from :func:`settings_of`.

    Returns:
        Workload and arm -> trials, by number.
    """
    baselines = {label: trial.config for label, trial in baselines_of(spec, trials).items()}
    return {
        (workload, arm): [_merged(spec, baselines, setting, workload) for setting in of if workload in baselines]
        for workload in spec.workloads
        for arm, of in settings.items()
    }


def _merged(spec: SweepSpec, baselines: Mapping[str, TrialConfig], setting: Setting, workload: str) -> Trial:
    units = setting.of(workload)
    begun = [unit.trial for unit in units if unit.trial is not None]
    if begun:
        config, known_as = begun[0].config, stored_id(begun[0])
    else:
        # It ended elsewhere before this workload's turn; it has used a trial of this arm's budget all the same.
        method = next(unit.trial.config.method for unit in setting.units if unit.trial is not None)
        made = unit_configs(spec, baselines, setting.arm, method, dict(setting.values), setting.number)
        config = made[workload, spec.search.seeds[0]]
        known_as = config.trial_id
    plain = {name: getattr(config, name) for name in TrialConfig.model_fields}
    whole = TrialConfig(**{**plain, "seeds": spec.search.seeds})
    if setting.state == "RUNNING":
        return Trial(config=whole)
    own = [unit.result for unit in units if unit.result is not None]
    all_ = [unit.result for unit in setting.units if unit.result is not None]
    seeds = tuple(seed for result in own for seed in result.seeds)
    is_whole = setting.state == "COMPLETE"
    ending = setting.ending if setting.state == "FAIL" else None
    result = TrialResult(
        trial_id=known_as,
        state=TrialState(setting.state),
        value=objective_value(spec.search.objective, seeds) if is_whole else None,
        seeds=seeds,
        failure=None if ending is None else ending.failure,
        started_at=min(result.started_at for result in own or all_),
        ended_at=max(result.ended_at for result in own or all_),
        machine=next((result.machine for result in own if result.machine is not None), None),
    )
    return Trial(config=whole, result=result)


def given_up(spec: SweepSpec, trials: Sequence[Trial]) -> Iterator[tuple[str, str]]:
    """List the runs that will not be begun, since their candidates have ended without them.

    Yields:
        Workload and arm of each.
    """
    for setting in (setting for of in settings_of(spec, trials).values() for setting in of):
        if setting.state in {"FAIL", "PRUNED"}:
            known = {(unit.workload, unit.seed) for unit in setting.units if unit.trial is not None}
            begun = {
                (trial.config.workload, trial.config.seeds[0])
                for trial in trials
                if trial.config.arm == setting.arm
                and trial.config.phase == "search"
                and trial.config.number == setting.number
            }
            for workload, seed in race_order(spec):
                if (workload, seed) not in known | begun:
                    yield workload, setting.arm
    runs: dict[tuple[str, str, int | None], list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.config.phase == "search" and not spec.is_shared(trial.config.arm):
            runs[trial.config.workload, trial.config.arm, trial.config.number].append(trial)
    for (workload, arm, _), of in runs.items():
        result = _whole(spec, of).result
        if result is not None and result.state is not TrialState.COMPLETE:
            yield from [(workload, arm)] * (len(spec.search.seeds) - len(of))
