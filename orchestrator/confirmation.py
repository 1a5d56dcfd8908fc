"""The confirm phase: the best of each arm on fresh seeds, arms taking turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import final

from orchestrator.home.records import Trial, TrialConfig, TrialResult
from orchestrator.racing import Race
from orchestrator.ranking import stored_id
from orchestrator.report import Champions
from orchestrator.spec import SweepSpec


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
