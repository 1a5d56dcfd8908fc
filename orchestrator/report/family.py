"""Turns measured effects into verdicts: the claims share one family of p-values, every other one has its own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.report.metrics import Metric
from orchestrator.report.pairs import interval_of
from orchestrator.report.rates import RateRule
from orchestrator.report.schema import Comparison, Effect, Interval, IntervalMethod, SeedPair, Verdict
from orchestrator.statistics import (
    ALPHA,
    Cell,
    CrossedEffect,
    Decision,
    Pair,
    PairedEffect,
    censored_median,
    holm_levels,
    log_rank_p,
    paired_effect,
    rejects_beyond,
    seeds_needed,
    smallest_p,
)


@final
@dataclass(frozen=True)
class Found:
    """A comparison on its way to a verdict.

    Args:
        comparison: what is known of it so far.
        metric: what the arms are compared on.
        pairs: what its p rests on; empty where it has no p.
        direction: the sign of the arm's shift from the baseline, by the test.
        crossed: the effect over independent searches and seeds; None where there is one search.
        rule: what says whether a difference goes beyond the arms' learning rates; None where there is no grid.
    """

    comparison: Comparison
    metric: Metric
    pairs: tuple[Pair, ...] = ()
    direction: int = 0
    crossed: CrossedEffect | None = None
    rule: RateRule | None = None


def measured(
    blank: Comparison,
    pairs: Sequence[Pair],
    metric: Metric,
    family: int,
    *,
    is_complete: bool,
    crossed: CrossedEffect | None = None,
) -> Found:
    """Estimate the effect over at least one pair, and its p where no more pairs are to come.

    There is one look at the p, at the end: a p looked at after every seed would cross .05 too often.

    Args:
        blank: what is compared.
        pairs: those that are there.
        metric: what the arms are compared on.
        family: the number of primary comparisons where this is one of them; else 1.
        is_complete: whether no more pairs are to come.
        crossed: what test and interval rest on in place of the pairs, where the settings come from several searches.
    """
    alpha = ALPHA / family
    effect = paired_effect(pairs, metric.scale, higher_is_better=metric.higher_is_better, alpha=alpha)
    if crossed is not None:
        effect = dataclasses.replace(
            effect,
            estimate=crossed.estimate,
            p=crossed.p_beyond(),
            direction=crossed.direction,
            smallest_effect=crossed.smallest_effect(alpha),
            mean=None,
            mean_interval=None,
        )
    method: IntervalMethod = "bonferroni" if blank.is_primary else "signed-rank"
    update: dict[str, object] = {
        "effect": _effect(effect, pairs, metric),
        "interval": interval_of(pairs, crossed, metric, alpha, effect.p, method),
        "num_ties": effect.num_ties,
    }
    if not is_complete:
        return Found(blank.model_copy(update=update), metric)
    update["p"] = effect.p
    if metric.is_time and crossed is None:
        update["p_log_rank"] = log_rank_p(pairs)
    return Found(blank.model_copy(update=update), metric, tuple(pairs), effect.direction, crossed)


def settled(found: Sequence[Found], family: int) -> list[Comparison]:
    """Give every comparison that has a p its verdict, in the order given.

    A primary comparison follows the p that Holm's rule adjusts, each other one its own. ``family`` counts the primary
    comparisons that are not refused, also those that have no p.
    """
    claims = [index for index, one in enumerate(found) if one.comparison.is_primary and one.pairs]
    raw = [p for index in claims if (p := found[index].comparison.p) is not None]
    decisions = dict(zip(claims, holm_levels(raw, max(family, len(raw))), strict=True))
    return [_settled(one, decisions.get(index), family) for index, one in enumerate(found)]


def _settled(one: Found, decision: Decision | None, family: int) -> Comparison:
    comparison = one.comparison
    if comparison.p is None:
        return comparison
    update: dict[str, object] = {}
    size, p = (1, comparison.p) if decision is None else (family, decision.p_adjusted)
    if decision is not None:
        update["p_adjusted"] = p
        if decision.method == "holm":
            update["interval"] = interval_of(
                one.pairs, one.crossed, one.metric, decision.alpha, comparison.p, decision.method
            )
    verdict = _verdict(p, one, size)
    level = ALPHA if decision is None else decision.alpha
    is_claim = verdict not in {Verdict.NO_DIFFERENCE, Verdict.NOT_ENOUGH_SEEDS}
    if is_claim and one.rule is not None and not one.rule.allows(one.direction, _beyond(one, level)):
        verdict = Verdict.LEARNING_RATE
    told = (_reason(verdict, len(one.pairs), size, comparison.missing_seeds), comparison.reason)
    return comparison.model_copy(update={**update, "verdict": verdict, "reason": "; ".join(filter(None, told))})


def _beyond(one: Found, alpha: float) -> Callable[[float], bool]:
    """Make the test of whether the arm lies by more than some amount on its side of the baseline."""
    if one.crossed is not None:
        crossed = one.crossed
        return lambda amount: crossed.rejects_beyond(one.direction, amount, alpha)
    return lambda amount: rejects_beyond(one.pairs, one.metric.scale, one.direction, amount, alpha)


def seed_pair(cell: Cell, pair: Pair, metric: Metric) -> SeedPair:
    """Write a pair down as a raw point of the report."""
    difference = pair.difference(metric.scale)
    effect = difference if metric.scale == "difference" else math.exp(min(difference, 700.0))
    return SeedPair(
        replicate=cell[0],
        seed=cell[1],
        baseline=pair.baseline.value,
        arm=pair.arm.value,
        effect=math.inf if difference == math.inf else effect,
    )


def _effect(effect: PairedEffect, pairs: Sequence[Pair], metric: Metric) -> Effect:
    ends = effect.mean_interval
    return Effect(
        scale=metric.scale,
        estimate=effect.estimate,
        smallest=effect.smallest_effect,
        baseline_median=censored_median(pair.baseline.value for pair in pairs),
        arm_median=censored_median(pair.arm.value for pair in pairs),
        probability_of_improvement=effect.probability_of_improvement,
        probability_interval=_share_interval(effect.probability_interval),
        mean=effect.mean,
        mean_interval=None if ends is None else _mean_interval(ends, metric),
    )


def _mean_interval(ends: tuple[float, float], metric: Metric) -> Interval:
    none = 1.0 if metric.scale == "ratio" else 0.0
    return Interval(
        low=ends[0],
        high=ends[1],
        confidence=1.0 - ALPHA,
        method="bca",
        excludes_none=not ends[0] <= none <= ends[1],
    )


def _share_interval(ends: tuple[float, float]) -> Interval:
    return Interval(low=ends[0], high=ends[1], confidence=1.0 - ALPHA, method="clopper-pearson")


def _verdict(p: float, one: Found, family: int) -> Verdict:
    if p <= ALPHA:
        is_improvement = (one.direction > 0) == one.metric.higher_is_better
        if one.metric.is_time:
            return Verdict.FASTER if is_improvement else Verdict.SLOWER
        return Verdict.BETTER if is_improvement else Verdict.WORSE
    # This is asked last, since a later step of Holm's rule is less strict than the first, which this assumes.
    is_hopeless = one.crossed is None and smallest_p(len(one.pairs)) * family > ALPHA
    return Verdict.NOT_ENOUGH_SEEDS if is_hopeless else Verdict.NO_DIFFERENCE


def _reason(verdict: Verdict, num_pairs: int, family: int, missing: Sequence[int]) -> str:
    parts = []
    if verdict is Verdict.NOT_ENOUGH_SEEDS:
        smallest = min(1.0, smallest_p(num_pairs) * family)
        several = f" with {family} primary comparisons" if family > 1 else ""
        # A second confirm is one claim more for each that stands.
        needed = seeds_needed(2 * family, ALPHA)
        parts.append(
            f"{num_pairs} pairs cannot go below p = {smallest:.3g}{several}; `teleport extend SWEEP --confirm-seeds "
            f"{needed}` adds enough"
        )
    if missing:
        parts.append(f"seeds without both arms (crashed or lost): {', '.join(map(str, missing))}")
    return "; ".join(parts)
