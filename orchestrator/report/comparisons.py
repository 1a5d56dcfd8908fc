"""An arm against the baseline, or a teleport arm against its controls and rivals, paired by seed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.report.schema import Comparison, ConfirmSeed, Effect, Interval, SeedPair, Study, Verdict
from orchestrator.spec import BASELINE
from orchestrator.statistics import (
    ALPHA,
    Measured,
    Pair,
    PairedEffect,
    Scale,
    censored_median,
    holm,
    paired_effect,
    smallest_p,
)

PRIMARY_METRIC = "steps_to_target"
PRIMARY_KIND = "teleport"
# The share of the search's trials by which two arms' tuning may differ: a lost worker does not void a sweep.
BUDGET_TOLERANCE = 0.1


@final
@dataclass(frozen=True)
class Metric:
    """What is compared.

    Args:
        name: in the report.
        limit: the field that says where a miss is censored; None: it is a final figure, always known.
        scale: of the effect.
        higher_is_better: of its values.
    """

    name: str
    limit: str | None
    scale: Scale = "ratio"
    higher_is_better: bool = False

    @property
    def is_time(self) -> bool:
        """Whether it says how long, rather than how good."""
        return self.limit is not None

    def measure(self, run: ConfirmSeed) -> Measured | None:
        """Read it off a run.

        Args:
            run: that ended with an answer.

        Returns:
            The value; infinitely bad where the run diverged or timed out; None where the run has no such figure.
        """
        never = Measured.exactly(-math.inf if self.higher_is_better else math.inf)
        if run.is_broken_off:
            return never
        if self.limit is None:
            value = run.metrics.get(self.name)
            return None if value is None else Measured.exactly(value)
        reached, limit = getattr(run, self.name), getattr(run, self.limit)
        if reached is None:
            return Measured(math.inf, math.inf if limit is None else float(limit))
        return Measured.exactly(float(reached))


METRICS = (
    Metric(PRIMARY_METRIC, "budget_steps"),
    Metric("seconds_to_target", "seconds"),
    Metric("gradient_evaluations_to_target", "gradient_evaluations"),
    Metric("train_loss", None),
    Metric("validation_accuracy", None, "difference", higher_is_better=True),
    Metric("test_accuracy", None, "difference", higher_is_better=True),
)


def comparisons_of(
    studies: Sequence[Study], confirm_seeds: Sequence[int], num_search: int, *, ended_early: bool = False
) -> tuple[Comparison, ...]:
    """Compare every arm with the baseline of its workload, and every teleport arm with its controls and rivals.

    The primary comparisons (each teleport arm on steps to target) are one family: Holm's rule counts all that the
    spec has, also those that have no p yet.

    Args:
        studies: workload by workload.
        confirm_seeds: what was planned.
        num_search: search trials that each arm was offered.
        ended_early: whether a budget ended the sweep, so that what has not run is not waited for.

    Returns:
        Per workload the primary ones first, those against another arm than the baseline last.
    """
    family = sum(study.kind == PRIMARY_KIND for study in studies)
    baselines = {study.workload: study for study in studies if study.arm == BASELINE}
    found = []
    for workload, baseline in baselines.items():
        sources = {study.arm: study for study in studies if study.workload == workload}
        contest = _Contest(baseline, tuple(confirm_seeds), num_search, max(family, 1), sources, ended_early)
        arms = [study for study in sources.values() if study.arm != BASELINE]
        for metric in METRICS:
            found += [contest.compare(arm, metric) for arm in arms]
        for arm, other in _matches(arms):
            beside = dataclasses.replace(contest, baseline=other)
            found += [beside.compare(arm, metric) for metric in METRICS]
        # A stable sort: within a workload the primary ones come first, the rest stays in order.
    return tuple(sorted(_adjusted(found, family), key=lambda c: (list(baselines).index(c.workload), not c.is_primary)))


def _matches(arms: Sequence[Study]) -> list[tuple[Study, Study]]:
    """Each teleport arm beside what it has to be more than; a control is beside the arm whose settings it takes."""
    teleports = [arm for arm in arms if arm.kind == PRIMARY_KIND]
    others = [arm for arm in arms if arm.kind != PRIMARY_KIND]
    return [(arm, other) for arm in teleports for other in others if other.source in {None, arm.arm}]


@final
@dataclass(frozen=True)
class _Contest:
    """What an arm is compared with, the baseline of a workload as a rule, and what the comparison must respect."""

    baseline: Study
    seeds: tuple[int, ...]
    num_search: int
    family: int
    sources: Mapping[str, Study]
    ended_early: bool

    def compare(self, arm: Study, metric: Metric) -> Comparison:
        is_claim = arm.kind == PRIMARY_KIND and metric.name == PRIMARY_METRIC
        is_primary = is_claim and self.baseline.arm == BASELINE
        blank = Comparison(
            workload=arm.workload,
            arm=arm.arm,
            metric=metric.name,
            is_primary=is_primary,
            verdict=Verdict.PENDING,
            num_planned_pairs=len(self.seeds),
            against=self.baseline.arm,
        )
        refusal = self._refusal(arm, metric)
        if refusal:
            return blank.model_copy(update={"verdict": Verdict.REFUSED, "reason": refusal})
        waiting = _waiting(self.baseline) or _waiting(arm)
        if waiting and self.ended_early:
            reason = f"the sweep ended early: {waiting}"
            return blank.model_copy(update={"verdict": Verdict.NOT_ENOUGH_SEEDS, "reason": reason})
        if waiting:
            return blank.model_copy(update={"reason": waiting})
        return self._measured(blank, arm, metric)

    def _measured(self, blank: Comparison, arm: Study, metric: Metric) -> Comparison:
        sides = _sides(self.seeds, _runs(self.baseline), _runs(arm))
        pairs = {
            seed: Pair(before, after)
            for seed, (b, a) in sides.paired.items()
            if (before := metric.measure(b)) is not None and (after := metric.measure(a)) is not None
        }
        facts: dict[str, object] = {
            "num_pairs": len(pairs),
            "num_baseline_misses": sum(_is_miss(b, metric) for b, _ in sides.paired.values()),
            "num_arm_misses": sum(_is_miss(a, metric) for _, a in sides.paired.values()),
            "missing_seeds": sides.missing,
            "pairs": tuple(_seed_pair(seed, pair, metric) for seed, pair in pairs.items()),
        }
        done = sides.num_running == 0 or self.ended_early
        lacking = f"{len(pairs)} of {len(self.seeds)} pairs are there" if sides.num_running else ""
        if not pairs:
            reason = self._unfinished(lacking) or "no seed has both arms"
            verdict = Verdict.NOT_ENOUGH_SEEDS if done else Verdict.PENDING
            return blank.model_copy(update={**facts, "verdict": verdict, "reason": reason})
        if (
            done
            and metric.is_time
            and all(math.isinf(p.baseline.value) and math.isinf(p.arm.value) for p in pairs.values())
        ):
            # A tie of misses is no measurement: an interval from it would say "anything", and look like a finding.
            reason = f"neither arm reached the target on any of {len(pairs)} seeds"
            return blank.model_copy(
                update={**facts, "num_ties": len(pairs), "verdict": Verdict.NO_DIFFERENCE, "reason": reason}
            )
        family = self.family if blank.is_primary else 1
        effect = paired_effect(
            list(pairs.values()), metric.scale, higher_is_better=metric.higher_is_better, num_comparisons=family
        )
        facts |= {
            "effect": _effect(effect, list(pairs.values()), metric),
            "interval": _interval(effect),
            "num_ties": effect.num_ties,
        }
        if not done:
            # A p looked at after every seed would cross .05 too often: there is one look, at the end.
            return blank.model_copy(update={**facts, "reason": self._unfinished(lacking)})
        verdict = _verdict(effect.p, effect.direction, len(pairs), family, metric)
        told = (_reason(verdict, len(pairs), family, sides.missing), self._unfinished(lacking))
        reason = "; ".join(filter(None, told))
        return blank.model_copy(update={**facts, "p": effect.p, "verdict": verdict, "reason": reason})

    def _unfinished(self, lacking: str) -> str:
        """Say that confirm is not complete, and why; empty where it is."""
        why = "the sweep ended early" if self.ended_early else "confirm is running"
        return f"{why}: {lacking}" if lacking else ""

    def _refusal(self, arm: Study, metric: Metric) -> str:
        """Say why the comparison would be unfair, or can never be made; empty where it is fair."""
        studies = (self.baseline, arm)
        for study in studies:
            source = None if study.source is None else self.sources[study.source]
            if source is not None and _is_searched(source) and source.best is None:
                return f"no search trial of {source.arm} ended well, so {study.arm} has no settings to take"
            if _is_searched(study) and study.best is None:
                return f"no search trial of {study.arm} ended well, so it has no configuration to confirm"
        if all(map(_is_searched, studies)):
            short = [max(0, study.num_planned - study.num_trials + study.num_crashed) for study in studies]
            if abs(short[0] - short[1]) > BUDGET_TOLERANCE * self.num_search:
                told = ", ".join(f"{s.arm} {s.num_trials - s.num_crashed}" for s in studies)
                return f"unequal tuning budgets: search trials that gave an answer: {told}"
        budgets = [
            {run.budget_steps for run in _runs(study).values() if run.budget_steps is not None} for study in studies
        ]
        if all(budgets) and (budgets[0] != budgets[1] or len(budgets[0]) > 1):
            told = ", ".join(
                f"{study.arm} {', '.join(f'{b:,}' for b in sorted(budget))}"
                for study, budget in zip(studies, budgets, strict=True)
            )
            return f"unequal training budgets: steps of a confirm run: {told}"
        return ""


def _is_searched(study: Study) -> bool:
    """Confirm begins when the search is over, also where it ran out of configurations before its number."""
    return study.num_trials >= study.num_planned or any(candidate.confirm for candidate in study.candidates)


def _waiting(study: Study) -> str:
    """Say what a study still lacks before it can be compared at all."""
    if not _is_searched(study):
        return f"the search of {study.arm} is at {study.num_trials} of {study.num_planned} trials"
    return "" if study.best is not None and study.best.confirm else "confirm has not run yet"


def _runs(study: Study) -> dict[int, ConfirmSeed]:
    return {run.seed: run for run in study.best.confirm} if study.best is not None else {}


@final
@dataclass(frozen=True)
class _Sides:
    """The confirm seeds by what became of them: both arms answered, one crashed or was lost, one still runs."""

    paired: dict[int, tuple[ConfirmSeed, ConfirmSeed]]
    missing: tuple[int, ...]
    num_running: int


def _sides(seeds: Sequence[int], baseline: dict[int, ConfirmSeed], arm: dict[int, ConfirmSeed]) -> _Sides:
    both = {seed: (baseline[seed], arm[seed]) for seed in seeds if seed in baseline and seed in arm}
    ended = {seed: pair for seed, pair in both.items() if all(run.outcome != "running" for run in pair)}
    paired = {seed: pair for seed, pair in ended.items() if all(run.is_answer for run in pair)}
    return _Sides(paired, tuple(seed for seed in ended if seed not in paired), len(seeds) - len(ended))


def _seed_pair(seed: int, pair: Pair, metric: Metric) -> SeedPair:
    difference = pair.difference(metric.scale)
    effect = difference if metric.scale == "difference" else math.exp(min(difference, 700.0))
    return SeedPair(
        seed=seed,
        baseline=pair.baseline.value,
        arm=pair.arm.value,
        effect=math.inf if difference == math.inf else effect,
    )


def _is_miss(run: ConfirmSeed, metric: Metric) -> bool:
    return run.is_broken_off or (metric.is_time and run.outcome == "missed")


def _effect(effect: PairedEffect, pairs: Sequence[Pair], metric: Metric) -> Effect:
    return Effect(
        scale=metric.scale,
        estimate=effect.estimate,
        smallest=effect.smallest_effect,
        baseline_median=censored_median(pair.baseline.value for pair in pairs),
        arm_median=censored_median(pair.arm.value for pair in pairs),
        probability_of_improvement=effect.probability_of_improvement,
    )


def _interval(effect: PairedEffect) -> Interval:
    return Interval(low=effect.low, high=effect.high, confidence=effect.confidence)


def _verdict(p: float, direction: int, num_pairs: int, family: int, metric: Metric) -> Verdict:
    if smallest_p(num_pairs) * family > ALPHA:
        return Verdict.NOT_ENOUGH_SEEDS
    if p > ALPHA or direction == 0:
        return Verdict.NO_DIFFERENCE
    is_improvement = (direction > 0) == metric.higher_is_better
    if metric.is_time:
        return Verdict.FASTER if is_improvement else Verdict.SLOWER
    return Verdict.BETTER if is_improvement else Verdict.WORSE


def _reason(verdict: Verdict, num_pairs: int, family: int, missing: Sequence[int]) -> str:
    parts = []
    if verdict is Verdict.NOT_ENOUGH_SEEDS:
        smallest = min(1.0, smallest_p(num_pairs) * family)
        several = f" with {family} primary comparisons" if family > 1 else ""
        parts.append(f"{num_pairs} pairs cannot go below p = {smallest:.3g}{several}")
    if missing:
        parts.append(f"seeds without both arms (crashed or lost): {', '.join(map(str, missing))}")
    return "; ".join(parts)


def _adjusted(found: Sequence[Comparison], family: int) -> list[Comparison]:
    """Let the primary verdicts follow the p that Holm adjusted."""
    told = [index for index, comparison in enumerate(found) if comparison.is_primary and comparison.p is not None]
    raw = [p for index in told if (p := found[index].p) is not None]
    result = list(found)
    for index, p in zip(told, holm(raw, max(family, len(raw))), strict=True):
        comparison = found[index]
        update: dict[str, object] = {"p_adjusted": p}
        if comparison.verdict in {Verdict.FASTER, Verdict.SLOWER} and p > ALPHA:
            update["verdict"] = Verdict.NO_DIFFERENCE
        result[index] = comparison.model_copy(update=update)
    return result
