"""What a setting loses where it was not tuned: regret, one setting for all, leaving one workload out.

Every ratio is taken within seeds. Where ratios are averaged over seeds or workloads a miss counts as twice its budget
(:class:`Cost`), so that a mean exists; the estimate and the interval of a single regret are those of every paired
comparison (:mod:`orchestrator.statistics.paired`), where a miss is censored.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

from orchestrator.statistics.censored import Measured, Pair
from orchestrator.statistics.multiplicity import ALPHA
from orchestrator.statistics.paired import paired_effect, paired_interval

# A miss costs as much as a run of twice the budget that arrived: worse than any hit, and finite.
MISS_FACTOR = 2.0


@final
@dataclass(frozen=True)
class Cost:
    """What one run of a setting cost; lower is better.

    Args:
        value: positive and finite; of a miss, twice its limit.
        limit: where the run was cut off, or would have been.
        is_miss: whether it never arrived.
    """

    value: float
    limit: float = math.inf
    is_miss: bool = False

    @classmethod
    def of_miss(cls, limit: float) -> Cost:
        """Make the cost of a run that was cut off before it arrived."""
        return cls(MISS_FACTOR * limit, limit, is_miss=True)

    @property
    def measured(self) -> Measured:
        """The run as the paired tests take it, where a miss is no number."""
        return Measured(math.inf if self.is_miss else self.value, self.limit)


Costs = Mapping[int, Cost]


@final
@dataclass(frozen=True)
class Setting:
    """One way to treat any workload.

    Args:
        key: tells it from others, whatever the labels.
        label: as people read it.
        values: what it sets, by dotted path.
        sources: the workloads on whose search it was the best; empty where it was found on several together.
    """

    key: str
    label: str
    values: Mapping[str, object] = field(default_factory=dict)
    sources: frozenset[str] = frozenset()

    def is_found_without(self, workloads: Collection[str]) -> bool:
        """Tell whether it could have been chosen by somebody who has never seen some workloads."""
        return not self.sources or bool(self.sources.difference(workloads))


@final
@dataclass(frozen=True)
class SettingTable:
    """Settings by workloads and seeds.

    Args:
        workloads: labels, in order.
        settings: in order.
        costs: (key of a setting, workload) -> its runs, by seed; what did not run is not there.
        baseline: workload -> the runs of its tuned baseline, by seed.
        own: workload -> key of the setting that was tuned on it.
    """

    workloads: tuple[str, ...]
    settings: tuple[Setting, ...]
    costs: Mapping[tuple[str, str], Costs]
    baseline: Mapping[str, Costs]
    own: Mapping[str, str]

    def runs(self, setting: str, workload: str) -> Costs:
        """Look up the runs of a setting on a workload; empty where there is none."""
        return self.costs.get((setting, workload), {})


Aggregate = Literal["geometric_mean", "worst"]


@final
@dataclass(frozen=True)
class Regret:
    """A setting on a workload, against the setting that was tuned on it.

    Args:
        seeds: that both ran, in order.
        ratio: geometric mean over the seeds of its cost over the own setting's, misses capped; 1 is no regret.
        estimate: Hodges-Lehmann estimate of the same ratio, misses censored; 0 or ``inf`` where those of one side
            prevail.
        low: lower end of the exact 95 % interval of that estimate.
        high: upper end.
        p: of no regret and no gain, exact, two-sided.
        num_misses: seeds on which the setting missed.
        num_own_misses: seeds on which the own setting missed.
    """

    seeds: tuple[int, ...]
    ratio: float
    estimate: float
    low: float
    high: float
    p: float
    num_misses: int
    num_own_misses: int


@final
@dataclass(frozen=True)
class Shared:
    """One setting for all workloads.

    Args:
        setting: its key.
        geometric_mean: over the workloads, of its cost over the baseline's.
        worst: the largest of these.
        worst_on: the workload of it.
        regret: geometric mean over the workloads of its regret; None where one of them has no own setting to
            compare with.
        worst_regret: the largest regret; None likewise.
        worst_regret_on: the workload of it; empty likewise.
    """

    setting: str
    geometric_mean: float
    worst: float
    worst_on: str
    regret: float | None
    worst_regret: float | None
    worst_regret_on: str


@final
@dataclass(frozen=True)
class LeftOut:
    """What is chosen for a workload by those who have seen the others only.

    Args:
        workload: that is left out.
        setting: key of the chosen one.
        num_candidates: that it was chosen from.
        others: its aggregate over the other workloads, against their baselines.
    """

    workload: str
    setting: str
    num_candidates: int
    others: float


def cost_ratio(costs: Costs, others: Costs) -> float | None:
    """Compare two sets of runs, seed by seed.

    Args:
        costs: of the one.
        others: of the other.

    Returns:
        The geometric mean of the ratio over the seeds that both have; None where they have none in common.
    """
    common = costs.keys() & others.keys()
    return geometric_mean(costs[seed].value / others[seed].value for seed in sorted(common)) if common else None


def geometric_mean(ratios: Iterable[float]) -> float:
    """Average ratios: the mean of their logarithms, back from these.

    Args:
        ratios: at least one, positive.

    Returns:
        Their geometric mean.
    """
    return math.exp(statistics.fmean(map(math.log, ratios)))


def against_baseline(table: SettingTable, setting: str, workload: str) -> float | None:
    """Compare a setting with the tuned baseline of a workload.

    Args:
        table: of costs.
        setting: its key.
        workload: label.

    Returns:
        Its cost over the baseline's, 1 for none; None where no seed has both.
    """
    return cost_ratio(table.runs(setting, workload), table.baseline.get(workload, {}))


def regret_of(table: SettingTable, setting: str, workload: str) -> Regret | None:
    """Compare a setting with the one that was tuned on a workload.

    Args:
        table: of costs.
        setting: its key.
        workload: label.

    Returns:
        Its regret there; None where the workload has no own setting, or no seed has both.
    """
    own = table.own.get(workload)
    if own is None:
        return None
    here, there = table.runs(setting, workload), table.runs(own, workload)
    seeds = tuple(sorted(here.keys() & there.keys()))
    ratio = cost_ratio(here, there)
    if ratio is None:
        return None
    pairs = [Pair(there[seed].measured, here[seed].measured) for seed in seeds]
    low, high = paired_interval(pairs, "ratio", ALPHA)
    effect = paired_effect(pairs, "ratio")
    return Regret(
        seeds=seeds,
        ratio=ratio,
        estimate=effect.estimate,
        low=low,
        high=high,
        p=effect.p,
        num_misses=sum(here[seed].is_miss for seed in seeds),
        num_own_misses=sum(there[seed].is_miss for seed in seeds),
    )


def shared_settings(table: SettingTable) -> tuple[Shared, ...]:
    """Ask of each setting what it would be as the one for all.

    Args:
        table: of costs.

    Returns:
        Those that ran on every workload beside its baseline, the smallest geometric mean first.
    """
    found = []
    for setting in table.settings:
        ratios = _ratios(table, setting, table.workloads)
        if ratios is not None:
            found.append(_shared(table, setting, ratios))
    return tuple(sorted(found, key=lambda each: each.geometric_mean))


def leave_one_out(
    table: SettingTable, aggregate: Aggregate = "geometric_mean", groups: Mapping[str, str] | None = None
) -> tuple[LeftOut, ...]:
    """Choose for each workload on the others alone.

    A setting that only the search of the workload itself, or of another of its group, has brought up is no candidate.

    Args:
        table: of costs, of at least two workloads.
        aggregate: over the others, of the cost over the baseline's, by which is chosen.
        groups: workload -> what it has in common with those that are left out with it; None: each is alone.

    Returns:
        A choice for each workload that has a candidate, ties going to the first.
    """
    over: Callable[[Iterable[float]], float] = geometric_mean if aggregate == "geometric_mean" else max
    found = []
    for left in table.workloads:
        out = {left} if groups is None else {each for each in table.workloads if groups[each] == groups[left]}
        others = [workload for workload in table.workloads if workload not in out]
        candidates: list[tuple[float, str]] = []
        for setting in table.settings:
            ratios = _ratios(table, setting, others) if setting.is_found_without(out) else None
            if ratios:
                candidates.append((over(ratios.values()), setting.key))
        if candidates:
            value, key = min(candidates, key=lambda each: each[0])
            found.append(LeftOut(left, key, len(candidates), value))
    return tuple(found)


def _ratios(table: SettingTable, setting: Setting, workloads: Sequence[str]) -> dict[str, float] | None:
    """Against each baseline; None where one is lacking."""
    found = {workload: against_baseline(table, setting.key, workload) for workload in workloads}
    known = {workload: ratio for workload, ratio in found.items() if ratio is not None}
    return known if len(known) == len(found) else None


def _shared(table: SettingTable, setting: Setting, ratios: Mapping[str, float]) -> Shared:
    regrets = {
        workload: regret.ratio for workload in ratios if (regret := regret_of(table, setting.key, workload)) is not None
    }
    is_known = len(regrets) == len(ratios)
    worst_on = max(ratios, key=ratios.__getitem__)
    worst_regret_on = max(regrets, key=regrets.__getitem__) if is_known else ""
    return Shared(
        setting=setting.key,
        geometric_mean=geometric_mean(ratios.values()),
        worst=ratios[worst_on],
        worst_on=worst_on,
        regret=geometric_mean(regrets.values()) if is_known else None,
        worst_regret=regrets[worst_regret_on] if is_known else None,
        worst_regret_on=worst_regret_on,
    )
