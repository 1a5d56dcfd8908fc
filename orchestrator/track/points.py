"""The numbers of a trial as points of curves: from its rows while it runs, and summed up when it has ended.

Timestamps are made of the sweep's start and the optimizer clock, never of the time of sending. So a point that
is sent twice is the same point, and a chart over relative time shows every trial on the optimizer clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.home import HistoryRow, SeedResult, SweepRecord, TrialConfig, TrialResult, TrialState
from orchestrator.track.text import metric_key


@final
@dataclass(frozen=True)
class Point:
    """One value of one metric.

    Args:
        key: the metric's name.
        value: finite.
        timestamp: Unix time in milliseconds.
        step: optimizer steps.
    """

    key: str
    value: float
    timestamp: int
    step: int


def history_points(record: SweepRecord, config: TrialConfig, rows: Iterable[HistoryRow]) -> list[Point]:
    """Turn rows of a trial's curves into points; several seeds each have their own prefix."""
    zero = _zero(record)
    points: list[Point] = []
    for row in rows:
        prefix = _prefix(config, row.seed)
        timestamp = zero + round(row.seconds * 1000)
        values = {
            **row.metrics,
            "epoch": row.epoch,
            "seconds": row.seconds,
            "gradient_evaluations": row.gradient_evaluations,
        }
        if row.num_teleports:
            values["teleport_seconds"] = row.teleport_seconds
            values["num_teleports"] = row.num_teleports
        points += _points(values, prefix, timestamp, row.step)
        # MLflow's page shows as system metrics what begins so, and nothing else.
        points += _points(row.system, f"system/{prefix}", timestamp, row.step)
    return points


def summary_points(record: SweepRecord, config: TrialConfig, result: TrialResult, num_diverged: int) -> Iterator[Point]:
    """Sum up a trial that ended: its value, what each seed reached, and the means over several seeds.

    Args:
        record: the sweep.
        config: what ran.
        result: how it ended.
        num_diverged: how many seeds diverged.

    Yields:
        Each point, at the last step of the longest seed.
    """
    step = max((seed.num_steps for seed in result.seeds), default=0)
    timestamp = _zero(record) + round(max((seed.seconds for seed in result.seeds), default=0.0) * 1000)
    whole: dict[str, float] = {"diverged": num_diverged} if num_diverged else {}
    if result.value is not None:
        whole["value"] = result.value
    if result.state is TrialState.COMPLETE:
        # Data, models and evaluation: what the optimizer clock leaves out.
        on_clock = sum(seed.seconds for seed in result.seeds)
        whole["off_clock_seconds"] = max(0.0, result.ended_at - result.started_at - on_clock)
    # A trial that was stopped has not missed, and its last metrics are not final.
    is_whole = result.state is not TrialState.PRUNED
    if result.seeds and is_whole:
        # A miss is censored, so a mean over the seeds that hit would flatter: it is given where all did.
        whole["target_reached"] = _mean([float(seed.steps_to_target is not None) for seed in result.seeds])
    yield from _points(whole, "", timestamp, step)
    ends = {seed.seed: _end_of(seed) for seed in result.seeds}
    for seed, values in ends.items():
        yield from _points(values, _prefix(config, seed), timestamp, step)
    if len(config.seeds) > 1 and ends and is_whole:
        shared = set.intersection(*(set(values) for values in _with_curves(result.seeds, ends)))
        means = {key: _mean([v[key] for v in _with_curves(result.seeds, ends)]) for key in sorted(shared)}
        yield from _points(means, "", timestamp, step)


def _zero(record: SweepRecord) -> int:
    return round(record.provenance.started_at * 1000)


def _prefix(config: TrialConfig, seed: int) -> str:
    return "" if len(config.seeds) == 1 else f"seed_{seed}/"


def _points(values: Mapping[str, float], prefix: str, timestamp: int, step: int) -> Iterator[Point]:
    """Leave out what is not finite: stores keep infinity as 1.8e308, and NaN breaks their pages."""
    for name, value in values.items():
        if math.isfinite(value):
            yield Point(metric_key(f"{prefix}{name}"), float(value), timestamp, step)


def _end_of(seed: SeedResult) -> dict[str, float]:
    """List what only the end of a seed tells; the rest stands in its curves."""
    values: dict[str, float | None] = {
        "steps_to_target": seed.steps_to_target,
        "seconds_to_target": seed.seconds_to_target,
        "gradient_evaluations_to_target": seed.gradient_evaluations_to_target,
    }
    if seed.teleports is not None:
        values["teleport_mean_gain"] = seed.teleports.mean_gain
        values["teleport_max_loss_drift"] = seed.teleports.max_loss_drift
        values["teleport_max_probe_drift"] = seed.teleports.max_probe_drift
        for layer in seed.teleports.layers:
            values[f"null_dim/{layer.name}"] = layer.mean_null_dim
    return {key: value for key, value in values.items() if value is not None}


def _with_curves(seeds: Iterable[SeedResult], ends: Mapping[int, dict[str, float]]) -> list[dict[str, float]]:
    return [
        {
            **seed.metrics,
            "seconds": seed.seconds,
            "teleport_seconds": seed.teleport_seconds,
            "gradient_evaluations": seed.gradient_evaluations,
            **ends[seed.seed],
        }
        for seed in seeds
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
