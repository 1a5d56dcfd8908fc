"""What a running trial is judged by: its curves read off at positions within its budget, and its end there.

A position is a share of the whole budget of a trial, its seeds one after the other, so that configurations with
other epochs or batch sizes compare. All of it follows from a trial's configuration and its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import final, get_args

from orchestrator.home.records import HistoryRow, Machine, SeedResult, TrialConfig, TrialResult, TrialState
from orchestrator.spec import SweepSpec, target_metrics
from orchestrator.spec.options import WHOLE_BUDGET, CurveMetric, StoppingOptions

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
    """Reads a trial's rows as they come; rows that come again, as after a crash, are read again.

    The value at a position is the mean over the seeds begun so far, each weighing as much as it has been trained:
    when a new seed begins the value does not jump, and at the end it is the mean of the final values.

    Args:
        config: of the trial.
        metric: that is read.
    """

    def __init__(self, config: TrialConfig, metric: CurveMetric) -> None:
        self._seeds = config.seeds
        self._epochs = config.training.epochs
        self._metric = metric
        self._last: dict[int, HistoryRow] = {}
        self._seed = config.seeds[0]
        self.position = -1

    def add(self, row: HistoryRow) -> None:
        """Read a row; :attr:`position` and :attr:`value` are then those at it."""
        self._last[row.seed] = row
        self._seed = row.seed
        begun = self._seeds.index(row.seed)
        self.position = round(WHOLE_BUDGET * (begun + row.epoch / self._epochs) / len(self._seeds))

    @property
    def value(self) -> float:
        """The metric at the position."""
        begun = self._seeds[: self._seeds.index(self._seed) + 1]
        rows = [self._last[seed] for seed in begun if seed in self._last]
        weights = [row.epoch / self._epochs for row in rows]
        if not sum(weights):
            return rows[-1].metrics[self._metric]
        return sum(w * row.metrics[self._metric] for w, row in zip(weights, rows, strict=True)) / sum(weights)


def rung_values(
    config: TrialConfig, rows: Iterable[HistoryRow], metric: CurveMetric, rungs: Sequence[int]
) -> dict[int, float]:
    """Read off what a trial was judged by.

    Args:
        config: of the trial.
        rows: its curves from the beginning.
        metric: that is read.
        rungs: positions in thousandths, ascending.

    Returns:
        Rung -> value at the first row at or past it; only those it reached.
    """
    reading = Reading(config, metric)
    found: dict[int, float] = {}
    for row in rows:
        before = reading.position
        reading.add(row)
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
        A PRUNED result without a value: a seed that had its whole budget is ``completed``, the one that was under way
        ``stopped``.
    """
    seeds = [list(of_seed) for _, of_seed in groupby(rows, key=lambda row: row.seed)]
    moved = next(row for row in rows if row.step)
    budget = round(moved.step / moved.epoch) * config.training.epochs
    return TrialResult(
        trial_id=config.trial_id,
        state=TrialState.PRUNED,
        value=None,
        seeds=tuple(_seed_result(config, of_seed, budget) for of_seed in seeds),
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
