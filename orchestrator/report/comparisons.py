"""An arm against the baseline, or a teleport arm against its controls and rivals, paired by seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.report.family import Found, measured, seed_pair, settled
from orchestrator.report.health import health_of
from orchestrator.report.metrics import PRIMARY_METRIC, Metric, metrics_of
from orchestrator.report.pairs import by_cell, pairs_of
from orchestrator.report.rates import point_effects, rate_rule
from orchestrator.report.schema import Comparison, ConfirmSeed, StudyReport, Verdict
from orchestrator.spec import BASELINE
from orchestrator.spec.options import TaskOptions
from orchestrator.statistics import Cell, CrossedEffect

PRIMARY_KIND = "teleport"
# Two arms' numbers of search trials may differ by this share, so that a lost worker does not void a sweep.
BUDGET_TOLERANCE = 0.1


def comparisons_of(
    studies: Sequence[StudyReport],
    confirm_seeds: Sequence[int],
    num_search: int,
    *,
    tasks: Mapping[str, TaskOptions],
    ended_early: bool = False,
    no_claim: str = "",
) -> tuple[Comparison, ...]:
    """Compare every arm with the baseline of its workload, and every teleport arm with its controls and rivals.

    The primary comparisons (each teleport arm on steps to target) are one family. Holm's rule counts all that the spec
    has, also those that have no p yet, but not those that are refused, because no test is made of them. Each teleport
    arm of a workload counts: to call one of them primary after a look at the results would be a choice that no p
    adjusts for.

    Args:
        studies: workload by workload.
        confirm_seeds: the seeds that are planned.
        num_search: how many search trials each arm was offered.
        tasks: the task of each workload, by whose metrics its arms are compared.
        ended_early: whether a budget ended the sweep, so that runs which have not begun are not waited for.
        no_claim: why no primary claim may be made at all; empty where one may.

    Returns:
        For each workload its primary comparisons first, and those against another arm than the baseline last.
    """
    baselines = {study.workload: study for study in studies if study.arm == BASELINE}
    contests = {}
    for workload, baseline in baselines.items():
        sources = {study.arm: study for study in studies if study.workload == workload}
        contests[workload] = _Contest(baseline, tuple(confirm_seeds), num_search, 1, sources, ended_early, no_claim)
    claimed = [study for study in studies if study.kind == PRIMARY_KIND]
    family = max(1, sum(not (no_claim or contests[study.workload].refusal(study)) for study in claimed))
    found: list[Found] = []
    for workload, contest in contests.items():
        contest = dataclasses.replace(contest, family=family)
        metrics = metrics_of(tasks[workload])
        arms = [study for study in contest.sources.values() if study.arm != BASELINE]
        for metric in metrics:
            found += [contest.compare(arm, metric) for arm in arms]
        for arm, other in _matches(arms):
            beside = dataclasses.replace(contest, baseline=other)
            found += [beside.compare(arm, metric) for metric in metrics]
    told = settled(found, family)
    # The sort is stable: within a workload the primary ones come first, and the rest stays in order.
    return tuple(sorted(told, key=lambda c: (list(baselines).index(c.workload), not c.is_primary)))


def _matches(arms: Sequence[StudyReport]) -> list[tuple[StudyReport, StudyReport]]:
    """Pair each teleport arm with each control and rival; a control goes with the arm whose settings it takes."""
    teleports = [arm for arm in arms if arm.kind == PRIMARY_KIND]
    others = [arm for arm in arms if arm.kind != PRIMARY_KIND]
    return [(arm, other) for arm in teleports for other in others if other.source in {None, arm.arm}]


@final
@dataclass(frozen=True)
class _Contest:
    """One side of a workload's comparisons, its baseline as a rule, and what each comparison must respect."""

    baseline: StudyReport
    seeds: tuple[int, ...]
    num_search: int
    family: int
    sources: Mapping[str, StudyReport]
    ended_early: bool
    no_claim: str

    def compare(self, arm: StudyReport, metric: Metric) -> Found:
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
            rate=_rate(arm),
            baseline_rate=_rate(self.baseline),
            at_points=point_effects(self.baseline, arm, metric) if metric.name == PRIMARY_METRIC else (),
        )
        refusal = (self.no_claim if is_primary else "") or self.refusal(arm)
        if refusal:
            return Found(blank.model_copy(update={"verdict": Verdict.REFUSED, "reason": refusal}), metric)
        waiting = _waiting(self.baseline) or _waiting(arm)
        if waiting and self.ended_early:
            reason = f"the sweep ended early: {waiting}"
            return Found(blank.model_copy(update={"verdict": Verdict.NOT_ENOUGH_SEEDS, "reason": reason}), metric)
        if waiting:
            return Found(blank.model_copy(update={"reason": waiting}), metric)
        return self._measured(blank, arm, metric)

    def _measured(self, blank: Comparison, arm: StudyReport, metric: Metric) -> Found:
        sides = _sides(self.seeds, _runs(self.baseline), _runs(arm))
        pairs = pairs_of(sides.paired, metric)
        crossed = CrossedEffect.of(pairs, metric.scale) if metric.is_time else None
        if crossed is None:
            first = min((replicate for replicate, _ in pairs), default=0)
            pairs = {cell: pair for cell, pair in pairs.items() if cell[0] == first}
        facts: dict[str, object] = {
            "num_pairs": len({seed for _, seed in pairs}),
            "num_replicates": 1 if crossed is None else len(crossed.differences),
            "num_baseline_misses": sum(metric.is_miss(b) for b, _ in sides.paired.values()),
            "num_arm_misses": sum(metric.is_miss(a) for _, a in sides.paired.values()),
            "missing_seeds": sides.missing,
            "pairs": tuple(seed_pair(cell, pair, metric) for cell, pair in pairs.items()),
            "health": self._health(arm) if metric.name == PRIMARY_METRIC else "",
        }
        done = sides.num_running == 0 or self.ended_early
        lacking = f"{len(pairs)} of {len(self.seeds)} pairs are there" if sides.num_running else ""
        blank = blank.model_copy(update={**facts, "reason": self._unfinished(lacking)})
        if not pairs:
            verdict = Verdict.NOT_ENOUGH_SEEDS if done else Verdict.PENDING
            reason = blank.reason or "no seed has both arms"
            return Found(blank.model_copy(update={"verdict": verdict, "reason": reason}), metric)
        known = list(pairs.values())
        if done and metric.is_time and all(pair.is_missed_by_both for pair in known):
            # Pairs that both miss measure nothing: an interval from them would span everything and look like a result.
            reason = f"neither arm reached the target on any of {len(pairs)} seeds"
            update = {"num_ties": len(pairs), "verdict": Verdict.NO_DIFFERENCE, "reason": reason}
            return Found(blank.model_copy(update=update), metric)
        size = self.family if blank.is_primary else 1
        found = measured(blank, known, metric, size, is_complete=done, crossed=crossed)
        return dataclasses.replace(found, rule=rate_rule(self.baseline, arm, metric))

    def _health(self, arm: StudyReport) -> str:
        told = (health_of(study.arm, list(_runs(study).values())) for study in (self.baseline, arm))
        return "; ".join(filter(None, told))

    def _unfinished(self, lacking: str) -> str:
        """Say why confirm is not complete; empty where it is."""
        why = "the sweep ended early" if self.ended_early else "confirm is running"
        return f"{why}: {lacking}" if lacking else ""

    def refusal(self, arm: StudyReport) -> str:
        """Say why the comparison would be unfair, or can never be made; empty where it is fair."""
        studies = (self.baseline, arm)
        for study in studies:
            source = None if study.source is None else self.sources[study.source]
            if source is not None and _is_searched(source) and source.best is None:
                return f"no search trial of {source.arm} ended well, so {study.arm} has no settings to take"
            if _is_searched(study) and study.best is None:
                return f"no search trial of {study.arm} ended well, so it has no configuration to confirm"
        if all(map(_is_searched, studies)):
            short = [max(0, study.num_planned - study.num_answers) for study in studies]
            if abs(short[0] - short[1]) > BUDGET_TOLERANCE * self.num_search:
                told = ", ".join(f"{s.arm} {s.num_answers}" for s in studies)
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


def _is_searched(study: StudyReport) -> bool:
    """Tell whether a search is over; confirm begins then, also where it ran out of configurations before its number."""
    return study.num_trials >= study.num_wanted or any(candidate.confirm for candidate in study.candidates)


def _waiting(study: StudyReport) -> str:
    """Say what a study still lacks before it can be compared; empty where it lacks nothing."""
    if not _is_searched(study):
        return f"the search of {study.arm} is at {study.num_trials} of {study.num_wanted} trials"
    return "" if study.best is not None and study.best.confirm else "confirm has not run yet"


def _rate(study: StudyReport) -> float | None:
    return next((point.rate for point in study.grid if point.is_best), None)


def _runs(study: StudyReport) -> dict[Cell, ConfirmSeed]:
    """Give the runs of what each independent search found best, by replicate and seed."""
    found: dict[Cell, ConfirmSeed] = {}
    known: set[int] = set()
    for candidate in () if study.best is None else (study.best, *study.candidates[1:]):
        own = by_cell(candidate.confirm)
        found |= {cell: run for cell, run in own.items() if cell[0] not in known}
        known |= {replicate for replicate, _ in own}
    return found


@final
@dataclass(frozen=True)
class _Sides:
    """The confirm seeds by what became of them: on both arms an answer, on one no answer, or one still runs."""

    paired: dict[Cell, tuple[ConfirmSeed, ConfirmSeed]]
    missing: tuple[int, ...]
    num_running: int


def _sides(seeds: Sequence[int], baseline: dict[Cell, ConfirmSeed], arm: dict[Cell, ConfirmSeed]) -> _Sides:
    replicates = sorted({replicate for replicate, _ in baseline} & {replicate for replicate, _ in arm}) or [0]
    cells = [(replicate, seed) for replicate in replicates for seed in seeds]
    both = {cell: (baseline[cell], arm[cell]) for cell in cells if cell in baseline and cell in arm}
    ended = {cell: pair for cell, pair in both.items() if all(run.outcome != "running" for run in pair)}
    paired = {cell: pair for cell, pair in ended.items() if all(run.is_answer for run in pair)}
    missing = dict.fromkeys(seed for replicate, seed in ended if (replicate, seed) not in paired)
    return _Sides(paired, tuple(missing), len(cells) - len(ended))
