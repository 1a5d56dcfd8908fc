"""What an arm cost, and what its teleports did."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from orchestrator.home import LayerSpectrum, LayerSummary, SeedResult, StepSummary, TeleportSummary, TrialResult
from orchestrator.report.schema import Price, Spectrum


def price_of(results: Sequence[TrialResult]) -> Price | None:
    """Sum up the cost of an arm's confirm runs that ended, in whatever state; None where no seed ran."""
    seeds = [seed for result in results for seed in result.seeds]
    if not seeds:
        return None
    summaries = [seed.teleports for seed in seeds if seed.teleports is not None]
    layers = _layers(summaries)
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
        layers=layers,
        null_shares={each.name: each.mean_null_dim / each.d_in for each in layers if each.mean_null_dim is not None},
        seconds_per_teleport=_seconds_per_teleport(seeds),
        steps=_steps(summaries),
        spectra=_spectra(summaries),
        seconds_by_phase=dict(sum((Counter(summary.seconds) for summary in summaries), Counter[str]())),
    )


def _seconds_per_teleport(seeds: Sequence[SeedResult]) -> float | None:
    count = sum(seed.teleports.count for seed in seeds if seed.teleports is not None)
    return sum(seed.teleport_seconds for seed in seeds) / count if count else None


def _steps(summaries: Sequence[TeleportSummary]) -> tuple[StepSummary, ...]:
    """Average step by step over the runs; a run counts as many times as it had teleports."""
    by_step: dict[int, list[StepSummary]] = {}
    for summary in summaries:
        for step in summary.steps:
            by_step.setdefault(step.step, []).append(step)
    return tuple(
        StepSummary(
            step=number,
            count=sum(step.count for step in steps),
            gain=math.exp(_weighted((math.log(step.gain), step.count) for step in steps)),
            loss_drift=_weighted((step.loss_drift, step.count) for step in steps),
            probe_drift=_weighted((step.probe_drift, step.count) for step in steps if step.probe_drift is not None)
            if any(step.probe_drift is not None for step in steps)
            else None,
        )
        for number, steps in sorted(by_step.items())
    )


def _weighted(values: Iterable[tuple[float, int]]) -> float:
    known = list(values)
    return math.fsum(value * weight for value, weight in known) / sum(weight for _, weight in known)


def _spectra(summaries: Sequence[TeleportSummary]) -> tuple[Spectrum, ...]:
    """Average each layer's spectrum over the runs, which have the same model and so the same directions."""
    by_layer: dict[tuple[str, tuple[int, ...]], list[LayerSpectrum]] = {}
    for summary in summaries:
        for spectrum in summary.spectra:
            by_layer.setdefault((spectrum.name, spectrum.directions), []).append(spectrum)
    return tuple(
        Spectrum(
            layer=name,
            d_in=found[0].d_in,
            directions=tuple(number / found[0].d_in for number in directions),
            shares=tuple(map(statistics.fmean, zip(*(each.shares for each in found), strict=True))),
        )
        for (name, directions), found in by_layer.items()
    )


def _geometric_mean(gains: Iterable[float | None]) -> float | None:
    known = [gain for gain in gains if gain is not None and gain > 0.0]
    return math.exp(statistics.fmean(map(math.log, known))) if known else None


def _layers(summaries: Sequence[TeleportSummary]) -> tuple[LayerSummary, ...]:
    """Average each layer over the runs, by name, since a run that ended early may lack some layers."""
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
