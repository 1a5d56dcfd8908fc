"""The confirm phase: the best of each arm on fresh seeds, arms taking turns."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.home import Trial, TrialConfig, TrialResult
from orchestrator.search.candidates import stored_id
from orchestrator.search.selection import Champions
from orchestrator.spec import Mode, SweepSpec
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


def confirm_configs(spec: SweepSpec, chosen: Sequence[Trial]) -> list[TrialConfig]:
    """List the confirm trials: each chosen configuration on every confirm seed.

    Arms take turns within each seed, and every other seed in the opposite order, so that a machine that slows
    down or heats up hurts all alike.

    Args:
        spec: of the sweep.
        chosen: the search's best trials of every study.

    Returns:
        The configurations, in the order to run them.
    """
    found = [(trial.config, stored_id(trial)) for trial in chosen]
    share = spec.resources.share("confirm")
    return [
        TrialConfig(
            workload=config.workload,
            arm=config.arm,
            phase="confirm",
            seeds=(seed,),
            training=config.training,
            method=config.method,
            objective=config.objective,
            also=config.also,
            values=config.values,
            origin=origin,
            share=share,
            checkpoint_every=spec.checkpoint.every,
            system_metrics_every=spec.tracking.system_metrics_every,
        )
        for turn, seed in enumerate(spec.confirm_seeds)
        for config, origin in (found if turn % 2 == 0 else reversed(found))
    ]


@final
class Confirmation:
    """What is left to confirm; where candidates race, one that cannot win gets no more seeds.

    Args:
        spec: of the sweep.
        chosen: the search's best trials of every study, the first choice of each first.
        trials: that are on file; those of this phase are taken in.
    """

    def __init__(self, spec: SweepSpec, chosen: Champions, trials: Iterable[Trial]) -> None:
        fields = [[trial.config for trial in of_study] for of_study in chosen.values()]
        self._race = Race(spec.confirm_seeds, fields, spec.search.objective.mode) if spec.confirm.race else None
        self._dropped: list[TrialConfig] = []
        ended = set()
        for trial in trials:
            if trial.config.phase == "confirm" and trial.result is not None:
                ended.add(trial.result.trial_id)
                if self._race is not None:
                    self._race.take(trial.config, trial.result)
        configs = confirm_configs(spec, [trial for of_study in chosen.values() for trial in of_study])
        self._left = deque(config for config in configs if config.trial_id not in ended)
        self._drop()

    @property
    def is_exhausted(self) -> bool:
        """Whether every confirm trial has been handed out, or dropped."""
        return not self._left

    @property
    def dropped(self) -> Sequence[TrialConfig]:
        """What will not run, since another configuration has beaten it."""
        return tuple(self._dropped)

    def propose(self) -> TrialConfig | None:
        """Hand out the next trial; None where there is none."""
        return self._left.popleft() if self._left else None

    def tell(self, config: TrialConfig, result: TrialResult) -> Sequence[TrialConfig]:
        """Take in how a trial ended.

        Args:
            config: of one seed.
            result: of it.

        Returns:
            What is dropped because of it.
        """
        if self._race is None:
            return ()
        self._race.take(config, result)
        return self._drop()

    def _drop(self) -> Sequence[TrialConfig]:
        out = {} if self._race is None else self._race.out
        dropped = [config for config in self._left if config.configuration_id in out]
        if dropped:
            self._left = deque(config for config in self._left if config.configuration_id not in out)
            self._dropped += dropped
        return dropped
