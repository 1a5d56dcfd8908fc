"""The confirm phase: the best of each arm on fresh seeds, arms taking turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import final

from orchestrator.home import Trial, TrialConfig
from orchestrator.search.candidates import stored_id
from orchestrator.search.selection import Champions
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
    """What is left to confirm.

    Args:
        spec: of the sweep.
        chosen: the search's best of every study, the first choice of each first.
        trials: that are on file.
    """

    def __init__(self, spec: SweepSpec, chosen: Champions, trials: Iterable[Trial]) -> None:
        ended = {trial.result.trial_id for trial in trials if trial.result is not None}
        configs = confirm_configs(spec, [trial for of_study in chosen.values() for trial in of_study])
        self._left = deque(config for config in configs if config.trial_id not in ended)

    @property
    def is_exhausted(self) -> bool:
        """Whether every confirm trial has been handed out."""
        return not self._left

    def propose(self) -> TrialConfig | None:
        """Hand out the next trial; None where there is none."""
        return self._left.popleft() if self._left else None
