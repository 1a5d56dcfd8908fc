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
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, final

from orchestrator.costs import run_cost
from orchestrator.home.records import (
    SweepRecord,
    Trial,
    TrialConfig,
    TrialResult,
    TrialState,
    objective_value,
)
from orchestrator.ranking import stored_id
from orchestrator.spec import Aggregate, Objective, SharedScope, SweepSpec
from orchestrator.spec.identity import Json
from orchestrator.spec.options import NoSchedulerOptions
from orchestrator.units import Pair, baseline_costs, baselines_of, unit_configs

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

    That the race gave a setting up is read off the files: some of its units were never begun, none of it runs, and a
    later setting has been begun or the search is over. Until then it is RUNNING. One whose units all ended well is
    COMPLETE, whatever the race said of it while the last ones ran: it has been measured in full.

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
    is_over = any(trial.config.phase == "confirm" for trial in trials)
    begun: dict[str, dict[int, dict[Pair, Trial]]] = {arm: {} for arm in spec.arms if spec.is_shared(arm)}
    for trial in trials:
        config = trial.config
        if config.phase == "search" and config.arm in begun and config.number is not None:
            begun[config.arm].setdefault(config.number, {})[config.workload, config.seeds[0]] = trial
    found: dict[str, tuple[Setting, ...]] = {}
    for arm, numbers in begun.items():
        last = max(numbers, default=0)
        may_stop = not isinstance(spec.search.scheduler, NoSchedulerOptions)
        found[arm] = tuple(
            Setting(
                arm=arm,
                number=number,
                values=next(iter(of.values())).config.values,
                state=_state(units, may_stop and (is_over or number < last)),
                units=units,
                aggregation=scope.aggregate,
            )
            for number, of in sorted(numbers.items())
            for units in [_units(spec, of, costs)]
        )
    return found


def _units(spec: SweepSpec, begun: Mapping[Pair, Trial], costs: Mapping[Pair, float]) -> tuple[Unit, ...]:
    return tuple(
        Unit(workload, seed, spec.search.objective, begun.get((workload, seed)), costs.get((workload, seed)))
        for workload in spec.workloads
        for seed in spec.search.seeds
    )


def _state(units: Sequence[Unit], is_left: bool) -> SettingState:
    """How a setting stands; ``is_left``: the search has gone on to others."""
    states = [unit.state for unit in units]
    if "FAIL" in states:
        return "FAIL"
    if all(state == "COMPLETE" for state in states):
        return "COMPLETE"
    if "PRUNED" in states or (is_left and "RUNNING" not in states):
        return "PRUNED"
    return "RUNNING"


def gathered(record: SweepRecord) -> SweepRecord:
    """Put one search trial per setting and workload in place of a shared search's units.

    Args:
        record: of a sweep.

    Returns:
        The sweep; one that shares nothing as it is.
    """
    settings = settings_of(record.spec, record.trials)
    if not settings:
        return record
    merged = trials_of(record.spec, record.trials, settings)
    others = [trial for trial in record.trials if trial.config.phase != "search" or trial.config.arm not in settings]
    return replace(record, trials=(*others, *(trial for of in merged.values() for trial in of)))


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
