"""Racing in confirm: a configuration that another of its arm has beaten gets no more seeds.

The first choice of the search is never dropped: it alone is compared with other arms, so racing saves time on what is
shown beside it and cannot touch a claim.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.home.records import TrialConfig, TrialResult
from orchestrator.spec import Mode
from orchestrator.statistics import ALPHA, signed_rank_p

MIN_PAIRS = 5


@final
@dataclass(frozen=True)
class Defeat:
    """Why a configuration is out.

    Args:
        against: ``configuration_id`` of the better one.
        num_pairs: seeds that decided.
        p: one-sided, of the exact signed-rank test over them.
    """

    against: str
    num_pairs: int
    p: float


@final
class Race:
    """Tells which configurations are out; the same for the same results, in whatever order they come.

    Two configurations are compared over the seeds in the sweep's order, as far as both have ended on all of them. A
    result that comes later only takes the comparison further, so what is out stays out.

    Optuna's ``WilcoxonPruner`` compares with the best COMPLETE trial of a study. Confirm has none until the end: its
    configurations take turns seed by seed, and each seed is a trial of its own.

    Args:
        seeds: of the confirm phase, in order.
        fields: for each workload and arm, the configurations that are confirmed, the first choice first; of any phase.
        mode: of the objective.
    """

    def __init__(self, seeds: Sequence[int], fields: Iterable[Sequence[TrialConfig]], mode: Mode) -> None:
        self._seeds = tuple(seeds)
        self._fields = [tuple(config.configuration_id for config in field) for field in fields]
        self._sign = 1.0 if mode == "min" else -1.0
        self._costs: dict[str, dict[int, float | None]] = {}

    def take(self, config: TrialConfig, result: TrialResult) -> None:
        """Take in how a confirm trial ended.

        Args:
            config: of one seed.
            result: of it.
        """
        self._costs.setdefault(config.configuration_id, {})[config.seeds[0]] = self._cost(result)

    @property
    def out(self) -> dict[str, Defeat]:
        """``configuration_id`` of each configuration that is out -> why; where several have beaten it, the first."""
        found: dict[str, Defeat] = {}
        for field in self._fields:
            for loser in field[1:]:
                defeats = (self._defeat(loser, other) for other in field if other != loser)
                first = next((defeat for defeat in defeats if defeat is not None), None)
                if first is not None:
                    found[loser] = first
        return found

    def _cost(self, result: TrialResult) -> float | None:
        """The objective, the lower the better; a divergence or a timeout is the worst, a crash says nothing."""
        if result.value is not None:
            return self._sign * result.value
        return math.inf if result.failure is not None and result.failure.is_answer else None

    def _defeat(self, loser: str, other: str) -> Defeat | None:
        own, others = self._costs.get(loser, {}), self._costs.get(other, {})
        differences: list[float] = []
        # After the last seed there is nothing left to save.
        for seed in self._seeds[:-1]:
            if seed not in own or seed not in others:
                return None
            mine, theirs = own[seed], others[seed]
            if mine is None or theirs is None:
                continue
            differences.append(0.0 if mine == theirs else mine - theirs)
            if len(differences) >= MIN_PAIRS:
                p = signed_rank_p(differences, "greater")
                if p <= ALPHA:
                    return Defeat(other, len(differences), p)
        return None
