"""The confirm phase: the best of each arm on fresh seeds, arms taking turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import final

from orchestrator.results import Trial, TrialConfig
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
    configs = [trial.config for trial in chosen]
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
            values=config.values,
            origin=config.trial_id,
            share=share,
            checkpoint_every=spec.checkpoint.every,
        )
        for turn, seed in enumerate(spec.confirm_seeds)
        for config in (configs if turn % 2 == 0 else reversed(configs))
    ]


@final
class Confirmation:
    """What is left to confirm.

    Args:
        configs: every confirm trial, in the order to run them.
        ended: ids of trials that have ended.
    """

    def __init__(self, configs: Iterable[TrialConfig], ended: Collection[str]) -> None:
        self._left = deque(config for config in configs if config.trial_id not in ended)

    @property
    def is_exhausted(self) -> bool:
        """Whether every confirm trial has been handed out."""
        return not self._left

    def propose(self) -> TrialConfig | None:
        """Hand out the next trial; None where there is none."""
        return self._left.popleft() if self._left else None
