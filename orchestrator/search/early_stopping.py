"""Early stopping in the search: one pruner per study, so that losses of different workloads are never compared.

Optuna's pruners decide, but not on the journal: asked twice they answer differently, since being asked makes a trial
its own competitor, and they keep by-products there. They judge a study in memory that holds what the journal holds,
number for number; the journal is told the values and, before the value that decided it, that a trial is to end. So a
decision is made once, is the same under every launcher, and is there again after a crash at any moment.

The journal's own study has no pruner. With Hyperband's in place a sampler would see its own bracket alone, and, until
the pruner has been asked for the first time in a process, the first bracket: a resumed search would propose
differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, final, get_args

from orchestrator.home import HistoryRow, Machine, SeedResult, TrialConfig, TrialResult, TrialState
from orchestrator.search.journal import STOPPED_AT, CandidateOutcome
from orchestrator.spec import HIGHER_IS_BETTER, SweepSpec, target_metrics
from orchestrator.spec.options import (
    SCHEDULERS,
    WHOLE_BUDGET,
    AshaOptions,
    CurveMetric,
    HyperbandOptions,
    MedianOptions,
    SchedulerOptions,
    StoppingOptions,
    WilcoxonOptions,
)
from orchestrator.statistics import signed_rank_test

if TYPE_CHECKING:
    import optuna
    from optuna.pruners import BasePruner


CURVE_METRICS: tuple[CurveMetric, ...] = get_args(CurveMetric)


def judged_metric(spec: SweepSpec, workload: str) -> CurveMetric:
    """Tell what the trials of a workload are judged by.

    Args:
        spec: with a scheduler that stops trials.
        workload: label.

    Returns:
        The scheduler's own ``metric``; else the search's objective; else, as a time or a cost is not known before
        the end, the target's metric.
    """
    scheduler, objective = spec.search.scheduler, spec.search.objective.metric
    if isinstance(scheduler, StoppingOptions) and scheduler.metric is not None:
        return scheduler.metric
    found = next((metric for metric in CURVE_METRICS if metric == objective), None)
    return target_metrics(spec.workloads[workload])[0] if found is None else found


@final
class Reading:
    """Reads a candidate's rows as they come, seed after seed; rows that come again, as after a crash, are read again.

    The value at a position is the mean over the seeds begun so far, each weighing as much as it has been trained:
    when a new seed begins the value does not jump, and at the end it is the mean of the final values.

    Args:
        seeds: of the search, in the order in which they are run.
        metric: that is read.
    """

    def __init__(self, seeds: Sequence[int], metric: CurveMetric) -> None:
        self._seeds = tuple(seeds)
        self._metric = metric
        # Seed -> share of its budget that it has been trained for, and the metric there.
        self._last: dict[int, tuple[float, float]] = {}
        self._seed = self._seeds[0]
        self.position = -1

    def add(self, row: HistoryRow, epochs: int) -> None:
        """Read a row of a run of so many epochs; :attr:`position` and :attr:`value` are then those at it."""
        share = row.epoch / epochs
        self._last[row.seed] = (share, row.metrics[self._metric])
        self._seed = row.seed
        self.position = round(WHOLE_BUDGET * (self._seeds.index(row.seed) + share) / len(self._seeds))

    def add_run(self, seed: SeedResult) -> None:
        """Take in a seed that had its whole budget, without its rows."""
        if self._metric in seed.metrics:
            self._last[seed.seed] = (1.0, seed.metrics[self._metric])

    @property
    def value(self) -> float:
        """The metric at the position."""
        begun = self._seeds[: self._seeds.index(self._seed) + 1]
        known = [self._last[seed] for seed in begun if seed in self._last]
        weight = sum(share for share, _ in known)
        return sum(share * value for share, value in known) / weight if weight else known[-1][1]


def rung_values(
    runs: Iterable[tuple[Iterable[HistoryRow], int]], seeds: Sequence[int], metric: CurveMetric, rungs: Sequence[int]
) -> dict[int, float]:
    """Read off what a candidate was judged by.

    Args:
        runs: rows and epochs of each of its runs, in the order of the seeds.
        seeds: of the search.
        metric: that is read.
        rungs: positions in thousandths, ascending.

    Returns:
        Rung -> value at the first row at or past it; only those it reached.
    """
    reading = Reading(seeds, metric)
    found: dict[int, float] = {}
    for rows, epochs in runs:
        for row in rows:
            before = reading.position
            reading.add(row, epochs)
            found |= {rung: reading.value for rung in rungs if before < rung <= reading.position}
    return found


def pruned_result(
    config: TrialConfig,
    rows: Sequence[HistoryRow],
    *,
    started_at: float,
    ended_at: float,
    machine: Machine | None = None,
) -> TrialResult:
    """Make the result of a trial that was ended before its budget was spent.

    Args:
        config: of the trial.
        rows: that it keeps, from the beginning; at least one after a step was taken.
        started_at: Unix time in seconds.
        ended_at: Unix time in seconds.
        machine: where it ran, if that is known.

    Returns:
        A PRUNED result without a value.
    """
    moved = next(row for row in rows if row.step)
    budget = round(moved.step / moved.epoch) * config.training.epochs
    return TrialResult(
        trial_id=config.trial_id,
        state=TrialState.PRUNED,
        value=None,
        seeds=(_seed_result(config, rows, budget),),
        started_at=started_at,
        ended_at=ended_at,
        machine=machine,
    )


def _seed_result(config: TrialConfig, rows: Sequence[HistoryRow], budget_steps: int) -> SeedResult:
    target, last = config.training.target, rows[-1]
    reached = next((row for row in rows if target.is_reached(row.metrics[target.metric])), None)
    return SeedResult(
        seed=last.seed,
        outcome="completed" if last.step >= budget_steps else "stopped",
        num_steps=last.step,
        budget_steps=budget_steps,
        steps_to_target=None if reached is None else reached.step,
        seconds_to_target=None if reached is None else reached.seconds,
        gradient_evaluations_to_target=None if reached is None else reached.gradient_evaluations,
        seconds=last.seconds,
        teleport_seconds=last.teleport_seconds,
        gradient_evaluations=last.gradient_evaluations,
        metrics=last.metrics,
    )


def none(options: SchedulerOptions) -> BasePruner:
    """Make the pruner that never prunes."""
    from optuna.pruners import NopPruner

    return NopPruner()


def asha(options: AshaOptions) -> BasePruner:
    """Make Optuna's successive halving."""
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(min_resource=options.grace_position, reduction_factor=options.reduction_factor)


def median(options: MedianOptions) -> BasePruner:
    """Make Optuna's median rule."""
    from optuna.pruners import MedianPruner

    return MedianPruner(options.startup_trials, options.grace_position, options.interval_length)


def hyperband(options: HyperbandOptions) -> BasePruner:
    """Make Optuna's Hyperband."""
    from optuna.pruners import HyperbandPruner

    return HyperbandPruner(options.grace_position, WHOLE_BUDGET, options.reduction_factor)


def loses(options: WilcoxonOptions, log_ratios: Sequence[float], leader: Sequence[float]) -> bool:
    """Tell whether a candidate has lost to another one, by the exact one-sided signed-rank test over their pairs.

    The rule is that of ``optuna.pruners.WilcoxonPruner``: a candidate whose mean so far is no worse than the leader's
    over all pairs has not lost. Optuna's test permutes where differences are tied, which takes a second for 13 pairs;
    this one counts.

    Args:
        options: of the scheduler.
        log_ratios: logarithm of the candidate's cost over the baseline's, of its first pairs of workload and seed.
        leader: the same of the candidate to beat, of all pairs.
    """
    import numpy as np

    num = len(log_ratios)
    is_early = num < max(2, options.n_startup_steps)
    if is_early or sum(log_ratios) / num <= sum(leader) / len(leader):
        return False
    side, p = signed_rank_test(np.array(log_ratios) - np.array(leader[:num]))
    return side > 0 and p / 2.0 < options.p_threshold


@final
class Stopping:
    """Decides by their curves which candidates of one search end early.

    Args:
        spec: of the sweep.
        workload: label of the search's workload.
        name: of the search.
        storage: the journal, in which its study is.
    """

    def __init__(self, spec: SweepSpec, workload: str, name: str, storage: optuna.storages.BaseStorage) -> None:
        import optuna

        scheduler, objective = spec.search.scheduler, spec.search.objective
        direction: Any = {"min": "minimize", "max": "maximize"}[objective.mode]
        self._seeds = spec.search.seeds
        self._rungs = scheduler.rungs
        self._metric = judged_metric(spec, workload)
        # Samplers rank pruned trials by their last value, in the objective's direction.
        self._sign = 1.0 if (self._metric in HIGHER_IS_BETTER) == (objective.mode == "max") else -1.0
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(name)
        self._judged = optuna.create_study(
            study_name=name,
            direction=direction,
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=SCHEDULERS[scheduler.name].load()(scheduler),
        )
        self._num_judged = 0
        self._open: dict[int, optuna.Trial] = {}
        self._readings: dict[int, Reading] = {}
        self._stopped_at: dict[int, int] = {}
        self._recall()

    def judge(self, number: int, config: TrialConfig, rows: Sequence[HistoryRow]) -> int | None:
        """Take in new rows of a candidate's run.

        Args:
            number: of the candidate.
            config: of the run.
            rows: in order. Where the run goes on from a checkpoint, the rows up to that come first; rows that were
                judged before are not judged again.

        Returns:
            How many of these rows the run keeps, where it is to end; None where it goes on.
        """
        reading = self._reading(number)
        for index, row in enumerate(rows):
            before = reading.position
            reading.add(row, config.training.epochs)
            if reading.position <= before:
                before = -1  # it was cut off and goes on from further back
            if number in self._stopped_at and before >= self._stopped_at[number]:
                return index
            for rung in self._rungs:
                if before < rung <= reading.position and not self._goes_on(number, rung, reading):
                    return index + 1
        return None

    def on_run_ended(self, number: int, result: TrialResult) -> None:
        """Take in a run that had its whole budget, so that the next seed's rows are read beside it."""
        if result.state is TrialState.COMPLETE:
            self._reading(number).add_run(result.seeds[0])

    def end(self, number: int, outcome: CandidateOutcome) -> None:
        """Take note of what a candidate came to; saying it again changes nothing."""
        import optuna

        self._follow(number)
        state = optuna.trial.TrialState[outcome.state.name]
        value = outcome.values[0] if outcome.values else None
        self._judged.tell(number, value, state=state, skip_if_finished=True)
        self._open.pop(number, None)
        self._readings.pop(number, None)

    def _reading(self, number: int) -> Reading:
        return self._readings.setdefault(number, Reading(self._seeds, self._metric))

    def _goes_on(self, number: int, rung: int, reading: Reading) -> bool:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        if rung not in self._storage.get_trial(trial_id).intermediate_values:
            value = self._sign * reading.value
            is_out = self._enter(number, rung, value)
            # At its end a trial competes with those behind it, and has nothing left to be spared.
            if is_out and reading.position < WHOLE_BUDGET and number not in self._stopped_at:
                self._stopped_at[number] = rung
                self._storage.set_trial_user_attr(trial_id, STOPPED_AT, rung)
            self._storage.set_trial_intermediate_value(trial_id, rung, value)
        return self._stopped_at.get(number) != rung

    def _enter(self, number: int, rung: int, value: float) -> bool:
        """Let a candidate compete at a rung; whether it is out."""
        self._follow(number)
        trial = self._open[number]
        trial.report(value, rung)
        return trial.should_prune()

    def _follow(self, number: int) -> None:
        """Have a trial in memory under the same number: Hyperband's brackets go by it."""
        while self._num_judged <= number:
            self._open[self._num_judged] = self._judged.ask()
            self._num_judged += 1

    def _recall(self) -> None:
        for stored in self._storage.get_all_trials(self._study_id, deepcopy=False):
            for rung, value in sorted(stored.intermediate_values.items()):
                self._enter(stored.number, rung, value)  # what was decided then is in the journal
            if STOPPED_AT in stored.user_attrs:
                self._stopped_at[stored.number] = stored.user_attrs[STOPPED_AT]
