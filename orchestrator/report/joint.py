"""Several sweeps on one page: what each says once all their claims are read together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from orchestrator.report.answers import answers_of
from orchestrator.report.schema import Comparison, Effect, JointReport, Report, SeedPair, Transfer, Verdict
from orchestrator.statistics import ALPHA, holm, smallest_p, smallest_shift

CLAIMS = {Verdict.FASTER, Verdict.SLOWER, Verdict.LEARNING_RATE}


def join(reports: Sequence[Report], transfers: Sequence[Transfer] = ()) -> JointReport:
    """Put sweeps on one page, each with its ``p_adjusted``, verdicts and answers as they are in the family of all.

    Whoever reads several sweeps together looks at all their claims: Holm's rule counts the primary comparisons of all
    of them, those that have no p yet included and those that are refused left out. A larger family only ever raises a
    p, so a claim can be lost and none is won. ``transfers`` are over the runs of all sweeps together; the sweeps' own
    are left out.
    """
    primary = [comparison for report in reports for comparison in _claims(report)]
    family = max(1, sum(comparison.verdict is not Verdict.REFUSED for comparison in primary))
    adjusted = iter(holm([comparison.p for comparison in primary if comparison.p is not None], family))
    sweeps = []
    for report in reports:
        earlier = tuple(
            stage.model_copy(update={"comparisons": _all_among(stage.comparisons, adjusted, family)})
            for stage in report.earlier
        )
        comparisons = _all_among(report.comparisons, adjusted, family)
        has_confirm = bool(report.sweep.confirm_seeds)
        answers = answers_of(report.studies, comparisons, report.sweep.targets, has_confirm=has_confirm)
        told = {"comparisons": comparisons, "answers": answers, "transfers": (), "earlier": earlier}
        sweeps.append(report.model_copy(update=told))
    return JointReport(sweeps=tuple(sweeps), num_primary=family, transfers=tuple(transfers))


def _claims(report: Report) -> list[Comparison]:
    """List the primary comparisons of a sweep, those from before it was extended first."""
    earlier = (comparison for stage in report.earlier for comparison in stage.comparisons)
    return [comparison for comparison in (*earlier, *report.comparisons) if comparison.is_primary]


def _all_among(comparisons: Iterable[Comparison], adjusted: Iterator[float], family: int) -> tuple[Comparison, ...]:
    return tuple(_among(each, next(adjusted), family) if _is_told(each) else each for each in comparisons)


def _is_told(comparison: Comparison) -> bool:
    return comparison.is_primary and comparison.p is not None


def _among(comparison: Comparison, p: float, family: int) -> Comparison:
    """Restate a primary comparison as it stands in a larger family."""
    update: dict[str, object] = {"p_adjusted": p}
    smallest = min(1.0, smallest_p(comparison.num_pairs) * family)
    if comparison.verdict is not Verdict.REFUSED and comparison.num_replicates == 1 and smallest > ALPHA:
        update["verdict"] = Verdict.NOT_ENOUGH_SEEDS
        update["reason"] = (
            f"{comparison.num_pairs} pairs cannot go below p = {smallest:.3g} with {family} primary comparisons"
        )
    elif comparison.verdict in CLAIMS and p > ALPHA:
        update["verdict"] = Verdict.NO_DIFFERENCE
    if comparison.effect is not None and comparison.num_replicates == 1:
        update["effect"] = _with_smallest(comparison.effect, comparison.pairs, family)
    return comparison.model_copy(update=update)


def _with_smallest(effect: Effect, pairs: Sequence[SeedPair], family: int) -> Effect:
    """Restate the smallest effect that these seeds would have shown, at the level that the family leaves."""
    is_ratio = effect.scale == "ratio"
    telling = [pair.effect for pair in pairs if not (math.isinf(pair.baseline) and pair.baseline == pair.arm)]
    shift = smallest_shift([_log(each) if is_ratio else each for each in telling], ALPHA / family)
    smallest = math.exp(shift) if is_ratio and shift < 700.0 else math.inf if is_ratio else shift
    return effect.model_copy(update={"smallest": smallest})


def _log(ratio: float) -> float:
    return -math.inf if ratio == 0.0 else math.log(ratio)
