"""What a setting costs on workloads on which it was not tuned.

Every ratio is taken within seeds. A mean of ratios over seeds or workloads counts a miss as twice its budget
(:class:`Cost`), so that the mean exists. The estimate and the interval of a single regret treat a miss as censored, as
every paired comparison does (:mod:`orchestrator.statistics.paired`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

from orchestrator.statistics.censored import Measured, Pair
from orchestrator.statistics.paired import paired_effect, paired_interval

# A miss costs as much as a run that arrived after twice the budget: more than any hit, and finite.
MISS_FACTOR = 2.0

Aggregate = Literal["geometric_mean", "worst"]


@final
@dataclass(frozen=True)
class Cost:
    """What one run of a setting cost; lower is better.

    Args:
        value: positive and finite; of a miss, twice its limit.
        limit: the value at which the run was, or would have been, cut off.
        is_miss: whether the run missed its target.
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
        """The run as the paired tests take it: a miss is infinite."""
        return Measured(math.inf if self.is_miss else self.value, self.limit)


# Seed -> the cost of the run with this seed.
Costs = Mapping[int, Cost]


@final
@dataclass(frozen=True)
class ComparedSetting:
    """A setting whose costs on several workloads are compared.

    Args:
        key: its identity, which does not depend on labels.
        label: its name for people.
        values: what it sets, by dotted path.
        sources: the workloads whose own searches found it to be the best; empty where one search over several
            workloads found it.
    """

    key: str
    label: str
    values: Mapping[str, object] = field(default_factory=dict)
    sources: frozenset[str] = frozenset()

    def is_found_without(self, workloads: Collection[str]) -> bool:
        """Tell whether somebody who has never seen these workloads could have chosen it."""
        return not self.sources or bool(self.sources.difference(workloads))


@final
@dataclass(frozen=True)
class SettingTable:
    """The costs of settings on workloads and seeds.

    Args:
        workloads: their labels, in order.
        settings: in order.
        costs: (key of a setting, workload) -> its runs; what did not run is not there.
        baseline: workload -> the runs of its tuned baseline.
        own: workload -> the key of the setting that was tuned on it.
    """

    workloads: tuple[str, ...]
    settings: tuple[ComparedSetting, ...]
    costs: Mapping[tuple[str, str], Costs]
    baseline: Mapping[str, Costs]
    own: Mapping[str, str]

    def runs(self, setting: str, workload: str) -> Costs:
        """Return the runs of a setting on a workload, which may be none."""
        return self.costs.get((setting, workload), {})


@final
@dataclass(frozen=True)
class Regret:
    """How much more a setting costs on a workload than the setting that was tuned on it.

    Args:
        seeds: the seeds that both ran, ascending.
        ratio: the geometric mean over these seeds of its cost over the own setting's cost; 1 means no regret.
        estimate: the Hodges-Lehmann estimate of the same ratio, where misses are censored; 0 or ``inf`` where most
            misses are on one side.
        low: the lower end of the estimate's exact 95 % interval.
        high: the upper end.
        p: the exact two-sided p of neither regret nor gain.
        num_misses: the number of seeds on which the setting missed.
        num_own_misses: the number of seeds on which the own setting missed.
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
class SettingSummary:
    """What one setting would cost as the setting for all workloads.

    Args:
        setting: its key.
        geometric_mean: the geometric mean over the workloads of its cost over the baseline's.
        worst: the largest of these ratios.
        worst_on: the workload with the largest ratio.
        regret: the geometric mean of its regrets; None where a workload has no own setting to compare with.
        worst_regret: the largest regret; None likewise.
        worst_regret_on: the workload with the largest regret; empty likewise.
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
    """The setting that is chosen for a workload by its costs on other workloads.

    Args:
        workload: the workload that is left out.
        setting: the key of the chosen setting.
        num_candidates: how many settings it was chosen from.
        others: the aggregate, over the other workloads, of its cost over the baseline's.
    """

    workload: str
    setting: str
    num_candidates: int
    others: float


def cost_ratio(costs: Costs, others: Costs) -> float | None:
    """Return the geometric mean of ``costs / others`` over the seeds that both have, or None without such seeds."""
    common = costs.keys() & others.keys()
    return geometric_mean(costs[seed].value / others[seed].value for seed in sorted(common)) if common else None


def geometric_mean(ratios: Iterable[float]) -> float:
    """Return the geometric mean of at least one positive number."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


def against_baseline(table: SettingTable, setting: str, workload: str) -> float | None:
    """Return a setting's cost over the tuned baseline's on a workload, or None where no seed has both."""
    return cost_ratio(table.runs(setting, workload), table.baseline.get(workload, {}))


def regret_of(table: SettingTable, setting: str, workload: str) -> Regret | None:
    """Compare a setting with the one that was tuned on a workload.

    The result is None where the workload has no own setting, or no seed has both.
    """
    own = table.own.get(workload)
    if own is None:
        return None
    here, there = table.runs(setting, workload), table.runs(own, workload)
    ratio = cost_ratio(here, there)
    if ratio is None:
        return None
    seeds = tuple(sorted(here.keys() & there.keys()))
    pairs = [Pair(there[seed].measured, here[seed].measured) for seed in seeds]
    low, high = paired_interval(pairs, "ratio")
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


def shared_settings(table: SettingTable) -> tuple[SettingSummary, ...]:
    """Summarise each setting that ran on every workload beside its baseline; the smallest geometric mean is first."""
    ratios = [(setting, _ratios(table, setting, table.workloads)) for setting in table.settings]
    found = [_summary(table, setting, known) for setting, known in ratios if known is not None]
    return tuple(sorted(found, key=lambda each: each.geometric_mean))


def leave_one_out(
    table: SettingTable, aggregate: Aggregate = "geometric_mean", groups: Mapping[str, str] | None = None
) -> tuple[LeftOut, ...]:
    """Choose a setting for each workload by the costs on the other workloads alone.

    A setting that only the search on the workload itself, or on another of its group, has found is no candidate.

    Args:
        table: costs on at least two workloads.
        aggregate: how the ratios of cost to baseline on the other workloads become the number that is minimised.
        groups: workload -> its group, which is left out as a whole; None leaves out each workload alone.

    Returns:
        One choice for each workload that has a candidate; of equal candidates the first is chosen.
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


def _ratios(table: SettingTable, setting: ComparedSetting, workloads: Sequence[str]) -> dict[str, float] | None:
    """Return the ratio to each workload's baseline, or None where one is missing."""
    found = {workload: against_baseline(table, setting.key, workload) for workload in workloads}
    known = {workload: ratio for workload, ratio in found.items() if ratio is not None}
    return known if len(known) == len(found) else None


def _summary(table: SettingTable, setting: ComparedSetting, ratios: Mapping[str, float]) -> SettingSummary:
    regrets = {
        workload: regret.ratio for workload in ratios if (regret := regret_of(table, setting.key, workload)) is not None
    }
    is_known = len(regrets) == len(ratios)
    worst_on = max(ratios, key=ratios.__getitem__)
    worst_regret_on = max(regrets, key=regrets.__getitem__) if is_known else ""
    return SettingSummary(
        setting=setting.key,
        geometric_mean=geometric_mean(ratios.values()),
        worst=ratios[worst_on],
        worst_on=worst_on,
        regret=geometric_mean(regrets.values()) if is_known else None,
        worst_regret=regrets[worst_regret_on] if is_known else None,
        worst_regret_on=worst_regret_on,
    )
