"""What a treatment cost and did."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from orchestrator.report.schema import Price
from orchestrator.results import LayerSummary, TeleportSummary, TrialResult


def price_of(results: Sequence[TrialResult]) -> Price | None:
    """Sum up the cost of an arm's confirm runs.

    Args:
        results: that ended, in whatever state.

    Returns:
        The price; None where no seed ran.
    """
    seeds = [seed for result in results for seed in result.seeds]
    if not seeds:
        return None
    summaries = [seed.teleports for seed in seeds if seed.teleports is not None]
    total = sum(seed.seconds for seed in seeds)
    return Price(
        seconds=statistics.median(seed.seconds for seed in seeds),
        teleport_seconds=statistics.median(seed.teleport_seconds for seed in seeds),
        teleport_share=sum(seed.teleport_seconds for seed in seeds) / total if total > 0.0 else 0.0,
        gradient_evaluations=statistics.median(seed.gradient_evaluations for seed in seeds),
        num_teleports=sum(summary.count for summary in summaries),
        outcomes=dict(sum((Counter(summary.outcomes) for summary in summaries), Counter[str]()).most_common()),
        gain=_geometric_mean(summary.mean_gain for summary in summaries),
        max_loss_drift=max((s.max_loss_drift for s in summaries if s.max_loss_drift is not None), default=None),
        max_probe_drift=max((s.max_probe_drift for s in summaries if s.max_probe_drift is not None), default=None),
        layers=_layers(summaries),
    )


def _geometric_mean(gains: Iterable[float | None]) -> float | None:
    known = [gain for gain in gains if gain is not None and gain > 0.0]
    return math.exp(statistics.fmean(map(math.log, known))) if known else None


def _layers(summaries: Sequence[TeleportSummary]) -> tuple[LayerSummary, ...]:
    """Average each layer over the runs, by name: a run that ended early may lack some."""
    by_name: dict[str, list[LayerSummary]] = {}
    for summary in summaries:
        for layer in summary.layers:
            by_name.setdefault(layer.name, []).append(layer)
    return tuple(
        LayerSummary(
            name=name,
            d_in=layers[0].d_in,
            mean_rank=_mean(layer.mean_rank for layer in layers),
            mean_null_dim=_mean(layer.mean_null_dim for layer in layers),
            moved=sum(layer.moved for layer in layers),
            reason=next((layer.reason for layer in layers if layer.reason is not None), None),
        )
        for name, layers in by_name.items()
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
