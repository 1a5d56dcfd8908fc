"""Over which values of an arm's parameters the searches of its workloads were close to their best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.home import Trial, TrialState
from orchestrator.report.costs import costs_of
from orchestrator.report.schema.evidence import TimeMetric
from orchestrator.report.schema.transfer import Sensitivity, SensitivityBand, SensitivityBin
from orchestrator.report.sources import Source
from orchestrator.search import aggregate_of, run_cost
from orchestrator.spec import ALL, Distribution, Json, Range
from orchestrator.statistics import Cost, geometric_mean, sensitivity


def sensitivities_of(
    sources: Sequence[Source], arm: str, metric: TimeMetric, tolerance: float
) -> Iterator[Sensitivity]:
    """Find the bands of every range that an arm was searched over, over the workloads that have it.

    ``tolerance`` is the share above the best stretch that still counts as close.
    """
    ranges: dict[str, list[tuple[_Search, Range]]] = {}
    for search in _searches(sources, arm, metric):
        for distribution in search.distributions:
            if isinstance(distribution, Range):
                ranges.setdefault(distribution.name, []).append((search, distribution))
    for name, found in ranges.items():
        bands = tuple(_band(search, within, tolerance) for search, within in found)
        ends = [(band.low, band.high) for band in bands if band.low is not None and band.high is not None]
        low, high = (max(e[0] for e in ends), min(e[1] for e in ends)) if len(ends) > 1 else (1.0, 0.0)
        # A band of whole numbers may be a single number; any other band has a length.
        is_common = low <= high if found[0][1].is_integer else low < high
        yield Sensitivity(
            parameter=name,
            is_log=found[0][1].is_log,
            tolerance=tolerance,
            bands=bands,
            common_low=low if is_common else None,
            common_high=high if is_common else None,
        )


@final
@dataclass(frozen=True)
class _Search:
    """What was tried on a workload, or on all together, and what it cost."""

    workload: str
    distributions: Sequence[Distribution]
    points: Sequence[tuple[Mapping[str, Json], float]]


def _searches(sources: Sequence[Source], arm: str, metric: TimeMetric) -> Iterator[_Search]:
    first = sources[0]
    if first.is_shared:
        spec = first.sweep.spec
        distributions = [each for template in reversed(spec.space(ALL, arm)) for each in template.distributions()]
        yield _Search(ALL, distributions, list(_shared_points(sources, arm, metric)))
        return
    for source in sources:
        trials = [
            trial
            for trial in source.sweep.trials
            if (trial.config.workload, trial.config.arm, trial.config.phase) == (source.workload, arm, "search")
        ]
        found = [(trial.config.values, cost) for trial in trials if (cost := _point(trial, metric)) is not None]
        yield _Search(source.workload, source.sweep.spec.arms[arm].distributions(), found)


def _shared_points(
    sources: Sequence[Source], arm: str, metric: TimeMetric
) -> Iterator[tuple[Mapping[str, Json], float]]:
    """Give each candidate's values and aggregate; one that diverged or was given up is a miss everywhere."""
    tuned = {source.workload: costs_of(source.baseline, metric) for source in sources}
    for candidate in sources[0].sweep.shared[arm]:
        ending = candidate.ending
        if candidate.state == "RUNNING" or (ending is not None and ending.is_no_answer):
            continue
        ratios: dict[str, list[float]] = {workload: [] for workload in tuned}
        for run in candidate.runs:
            baseline = tuned[run.workload][run.seed]
            cost = Cost.of_miss(baseline.limit)
            if candidate.state == "COMPLETE" and run.result is not None:
                cost = run_cost(run.result.seeds[0], metric)
            ratios[run.workload].append(math.log(cost.value / baseline.value))
        yield candidate.values, aggregate_of(candidate.aggregation, ratios)


def _band(search: _Search, within: Range, tolerance: float) -> SensitivityBand:
    points = []
    for values, cost in search.points:
        value = values.get(within.name)
        if isinstance(value, int | float):
            points.append((float(value), cost))
    found = sensitivity(
        [value for value, _ in points],
        [cost for _, cost in points],
        within.low,
        within.high,
        is_log=within.is_log,
        is_integer=within.is_integer,
        tolerance=tolerance,
    )
    best = min((each.cost for each in found.bins if each.cost is not None), default=1.0)
    return SensitivityBand(
        workload=search.workload,
        num_trials=len(points),
        bins=tuple(
            SensitivityBin(
                low=each.low, high=each.high, count=each.count, cost=None if each.cost is None else each.cost / best
            )
            for each in found.bins
        ),
        low=found.low,
        high=found.high,
        is_low_open=found.is_low_open,
        is_high_open=found.is_high_open,
    )


def _point(trial: Trial, metric: TimeMetric) -> float | None:
    """Tell what a search trial cost over its seeds; one that was stopped was worse than others, and is a miss."""
    result = trial.result
    if result is not None and result.state is TrialState.PRUNED:
        limits = [seed.budget_steps for seed in result.seeds] if metric == "steps_to_target" else []
        return Cost.of_miss(float(max(limits))).value if limits else None
    costs = costs_of(trial, metric)
    return geometric_mean(cost.value for cost in costs.values()) if costs else None
