"""Ends candidates of a search early: one pruner per study, so that losses of different workloads are never compared.

Optuna's pruners decide, but they are not asked on the journal. Asking a pruner makes the trial its own competitor and
stores by-products, so a second question may have another answer. The pruners judge a study in memory, which holds the
same values as the journal. The journal is told each value and, before the value that decided it, that a trial is to
end. So a decision is made once, is the same under every launcher, and is still there after a crash.

The study in the journal has no pruner. With Hyperband's in place a sampler would see the candidates of its own bracket
alone, and before the pruner is first asked in a process it would see the first bracket. A resumed search would then
propose other candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, final

from orchestrator.home import HistoryRow, SeedResult, TrialConfig, TrialResult, TrialState, times_to_target
from orchestrator.search.journal import DIRECTIONS, STOPPED_AT, CandidateOutcome
from orchestrator.spec import SweepSpec, is_higher_better, target_metrics
from orchestrator.spec.options import (
    COSTS,
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


def judged_metric(spec: SweepSpec, workload: str) -> CurveMetric:
    """Choose the metric by which the trials of a workload are judged.

    It is the scheduler's own ``metric``, else the search's objective. A time or a cost is not known before the end of a
    trial, so where the objective is one, the metric of the target stands in.
    """
    scheduler, objective = spec.search.scheduler, spec.search.objective.metric
    if isinstance(scheduler, StoppingOptions) and scheduler.metric is not None:
        return scheduler.metric
    return target_metrics(spec.workloads[workload])[0] if objective in COSTS else objective


@final
class Reading:
    """Reads the rows of a candidate's curve as they come, seed after seed.

    The value at a position is the mean over the seeds begun so far, weighted by how much of its budget each has been
    trained for. So the value does not jump when a new seed begins, and at the end it is the mean of the final values.
    Rows that come again after a crash are read again.

    Args:
        seeds: in the order in which they are run.
        metric: what is read.
    """

    def __init__(self, seeds: Sequence[int], metric: CurveMetric) -> None:
        self._seeds = tuple(seeds)
        self._metric = metric
        # Seed -> the share of its budget for which it has been trained, and the metric there.
        self._last: dict[int, tuple[float, float]] = {}
        self._seed = self._seeds[0]
        self.position = -1

    def add(self, row: HistoryRow, epochs: int) -> None:
        """Read a row of a run of so many epochs; this updates :attr:`position` and :attr:`value`."""
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
    rows: Iterable[HistoryRow], epochs: int, seeds: Sequence[int], metric: CurveMetric, rungs: Sequence[int]
) -> dict[int, float]:
    """Read the values by which a candidate was judged.

    Args:
        rows: of all its runs, in the order of the seeds.
        epochs: of each run.
        seeds: of the search.
        metric: what is read.
        rungs: positions in thousandths of the budget, ascending.

    Returns:
        Rung -> value at the first row at or past it, for the rungs that the candidate reached.
    """
    reading = Reading(seeds, metric)
    found: dict[int, float] = {}
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
) -> TrialResult:
    """Make the PRUNED result, without a value, of a trial that was ended before its budget was spent.

    Args:
        config: of the trial.
        rows: the rows that the trial keeps, from its beginning; its seed has a result only where one comes after a
            step.
        started_at: Unix time in seconds.
        ended_at: Unix time in seconds.
    """
    moved = next((row for row in rows if row.step), None)
    seeds: tuple[SeedResult, ...] = ()
    if moved is not None:
        budget_steps = round(moved.step / moved.epoch) * config.training.epochs
        seeds = (_seed_result(config, rows, budget_steps),)
    return TrialResult(
        trial_id=config.trial_id,
        state=TrialState.PRUNED,
        value=None,
        seeds=seeds,
        started_at=started_at,
        ended_at=ended_at,
    )


def _seed_result(config: TrialConfig, rows: Sequence[HistoryRow], budget_steps: int) -> SeedResult:
    last = rows[-1]
    return SeedResult(
        seed=last.seed,
        outcome="completed" if last.step >= budget_steps else "stopped",
        num_steps=last.step,
        budget_steps=budget_steps,
        **times_to_target(config.training.target, rows),
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
        seeds: that each candidate is trained on, in order.
        name: of the study in the journal.
        storage: the journal.
    """

    def __init__(
        self, spec: SweepSpec, workload: str, seeds: Sequence[int], name: str, storage: optuna.storages.BaseStorage
    ) -> None:
        import optuna

        scheduler, objective = spec.search.scheduler, spec.search.objective
        self._seeds = seeds
        self._rungs = scheduler.rungs
        self._metric = judged_metric(spec, workload)
        # Samplers rank pruned trials by their last value, in the direction of the objective.
        self._sign = 1.0 if is_higher_better(self._metric) == (objective.mode == "max") else -1.0
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(name)
        self._judged = optuna.create_study(
            study_name=name,
            direction=DIRECTIONS[objective.mode],
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=SCHEDULERS[scheduler.name].load()(scheduler),
        )
        self._num_judged = 0
        self._open: dict[int, optuna.Trial] = {}
        self._readings: dict[int, Reading] = {}
        self._stopped_at: dict[int, int] = {}
        self._recall()

    def judge(self, number: int, config: TrialConfig, rows: Sequence[HistoryRow]) -> int | None:
        """Take in new rows of a candidate's run, and decide whether it ends.

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
                before = -1  # the run was cut off, and goes on from an earlier position
            if number in self._stopped_at and before >= self._stopped_at[number]:
                return index
            for rung in self._rungs:
                if before < rung <= reading.position and not self._goes_on(number, rung, reading):
                    return index + 1
        return None

    def on_run_ended(self, number: int, result: TrialResult) -> None:
        """Take in a run that had its whole budget, so that the next seed's rows are averaged with it."""
        if result.state is TrialState.COMPLETE:
            self._reading(number).add_run(result.seeds[0])

    def end(self, number: int, outcome: CandidateOutcome) -> None:
        """Take in how a candidate ended; a repetition changes nothing."""
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
            # A trial at its end still competes with later ones, but stopping it would save nothing.
            if is_out and reading.position < WHOLE_BUDGET and number not in self._stopped_at:
                self._stopped_at[number] = rung
                self._storage.set_trial_user_attr(trial_id, STOPPED_AT, rung)
            self._storage.set_trial_intermediate_value(trial_id, rung, value)
        return self._stopped_at.get(number) != rung

    def _enter(self, number: int, rung: int, value: float) -> bool:
        """Let a candidate compete at a rung, and tell whether the pruner ends it."""
        self._follow(number)
        trial = self._open[number]
        trial.report(value, rung)
        return trial.should_prune()

    def _follow(self, number: int) -> None:
        """Give the candidate a trial of the same number in memory, because Hyperband chooses brackets by number."""
        while self._num_judged <= number:
            self._open[self._num_judged] = self._judged.ask()
            self._num_judged += 1

    def _recall(self) -> None:
        for stored in self._storage.get_all_trials(self._study_id, deepcopy=False):
            for rung, value in sorted(stored.intermediate_values.items()):
                self._enter(stored.number, rung, value)  # the journal holds the decision already
            if STOPPED_AT in stored.user_attrs:
                self._stopped_at[stored.number] = stored.user_attrs[STOPPED_AT]
