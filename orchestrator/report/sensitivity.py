"""Over which values of an arm's parameters the searches of its workloads were close to their best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.report.schema.evidence import TimeMetric
from orchestrator.report.schema.transfer import Sensitivity, SensitivityBand, SensitivityBin
from orchestrator.report.settings import Source, costs_of
from orchestrator.results import Trial, TrialState
from orchestrator.spec import Range
from orchestrator.statistics import Cost, geometric_mean, sensitivity


def sensitivities_of(
    sources: Sequence[Source], arm: str, metric: TimeMetric, tolerance: float
) -> Iterator[Sensitivity]:
    """Find the bands of every range that an arm was searched over.

    Args:
        sources: the workloads on which it was tuned.
        arm: label.
        metric: what a cost is.
        tolerance: share above the best stretch that still counts as close.

    Yields:
        Each parameter's, over the workloads that have it.
    """
    ranges: dict[str, list[tuple[Source, Range]]] = {}
    for source in sources:
        for distribution in source.record.spec.arms[arm].distributions():
            if isinstance(distribution, Range):
                ranges.setdefault(distribution.name, []).append((source, distribution))
    for name, found in ranges.items():
        bands = tuple(_band(source, arm, within, metric, tolerance) for source, within in found)
        ends = [(band.low, band.high) for band in bands if band.low is not None and band.high is not None]
        low, high = (max(e[0] for e in ends), min(e[1] for e in ends)) if len(ends) > 1 else (1.0, 0.0)
        # Bands of whole numbers end at one, the others between two stretches.
        is_common = low <= high if found[0][1].is_integer else low < high
        yield Sensitivity(
            parameter=name,
            is_log=found[0][1].is_log,
            tolerance=tolerance,
            bands=bands,
            common_low=low if is_common else None,
            common_high=high if is_common else None,
        )


def _band(source: Source, arm: str, within: Range, metric: TimeMetric, tolerance: float) -> SensitivityBand:
    points = []
    for trial in source.record.trials:
        config = trial.config
        if (config.workload, config.arm, config.phase) == (source.workload, arm, "search"):
            value, cost = config.values.get(within.name), _point(trial, metric)
            if isinstance(value, int | float) and cost is not None:
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
        workload=source.workload,
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
    """What a search trial cost over its seeds; one that was stopped was stopped for being worse, and is a miss."""
    result = trial.result
    if result is not None and result.state is TrialState.PRUNED:
        limits = [seed.budget_steps for seed in result.seeds] if metric == "steps_to_target" else []
        return Cost.of_miss(float(max(limits))).value if limits else None
    costs = costs_of(trial, metric)
    return geometric_mean(cost.value for cost in costs.values()) if costs else None
