"""The numbers of a trial as points of curves: row by row while it runs, and a summary when it has ended.

Timestamps are made from the sweep's start and the optimizer clock, never from the time of sending. So a point that is
sent twice is the same point, and a chart over relative time shows every trial on the optimizer clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import final

from orchestrator.home import HistoryRow, SeedResult, SweepRecord, TrialResult, TrialState
from orchestrator.track.text import clean_key


@final
@dataclass(frozen=True)
class Point:
    """One finite value of one metric, with a Unix time in milliseconds and the number of optimizer steps."""

    key: str
    value: float
    timestamp: int
    step: int


def history_points(record: SweepRecord, rows: Iterable[HistoryRow]) -> list[Point]:
    """Turn rows of a trial's curves into points."""
    points: list[Point] = []
    for row in rows:
        values = {
            **row.metrics,
            "epoch": row.epoch,
            "seconds": row.seconds,
            "gradient_evaluations": row.gradient_evaluations,
        }
        if row.num_teleports:
            values["teleport_seconds"] = row.teleport_seconds
            values["num_teleports"] = row.num_teleports
        # MLflow's page shows metrics as system metrics if their names begin with this.
        values |= {f"system/{name}": value for name, value in row.system.items()}
        points += _points(record, values, row.seconds, row.step)
    return points


def summary_points(record: SweepRecord, result: TrialResult, *, is_diverged: bool) -> Iterator[Point]:
    """Sum up a trial that ended, in points at its last step."""
    seed = result.seeds[0] if result.seeds else None
    values: dict[str, float | None] = {"value": result.value, "diverged": 1.0 if is_diverged else None}
    if seed is not None:
        values |= _end_of(seed)
        if result.state is not TrialState.PRUNED:  # a trial that was stopped has not missed its target
            values["target_reached"] = float(seed.steps_to_target is not None)
        if result.state is TrialState.COMPLETE:  # what the optimizer clock leaves out: data, models and evaluation
            values["off_clock_seconds"] = max(0.0, result.ended_at - result.started_at - seed.seconds)
    known = {name: value for name, value in values.items() if value is not None}
    yield from _points(record, known, seed.seconds if seed else 0.0, seed.num_steps if seed else 0)


def found_points(metrics: Mapping[str, float], ended_at: float) -> list[Point]:
    """Turn what a sweep has found into points at the Unix time when its last trial ended."""
    return list(_finite(metrics, round(ended_at * 1000), 0))


def _points(record: SweepRecord, values: Mapping[str, float], seconds: float, step: int) -> Iterator[Point]:
    timestamp = round(record.provenance.started_at * 1000) + round(seconds * 1000)
    yield from _finite(values, timestamp, step)


def _finite(values: Mapping[str, float], timestamp: int, step: int) -> Iterator[Point]:
    """Leave out what is not finite: stores keep infinity as 1.8e308, and NaN breaks their pages."""
    for name, value in values.items():
        if math.isfinite(value):
            yield Point(clean_key(name), float(value), timestamp, step)


def _end_of(seed: SeedResult) -> dict[str, float | None]:
    """List what is known only at the end of a seed; its curves have the rest."""
    values: dict[str, float | None] = {
        "steps_to_target": seed.steps_to_target,
        "seconds_to_target": seed.seconds_to_target,
        "gradient_evaluations_to_target": seed.gradient_evaluations_to_target,
    }
    if seed.teleports is not None:
        values["teleport_mean_gain"] = seed.teleports.mean_gain
        values["teleport_max_loss_drift"] = seed.teleports.max_loss_drift
        values["teleport_max_probe_drift"] = seed.teleports.max_probe_drift
        values |= {f"null_dim/{layer.name}": layer.mean_null_dim for layer in seed.teleports.layers}
    return values
