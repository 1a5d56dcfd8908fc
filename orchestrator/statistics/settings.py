"""What settings cost on several workloads: the table that transfer, leave-one-out and agreement are read from."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import final

from orchestrator.statistics.censored import Measured

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
