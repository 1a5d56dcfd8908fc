"""The confirm phase: the best candidates of each arm run on fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.home import Trial, TrialConfig
from orchestrator.search.candidates import stored_id
from orchestrator.spec import SweepSpec


def confirm_configs(spec: SweepSpec, chosen: Sequence[Trial]) -> list[TrialConfig]:
    """List the confirm trials: each chosen candidate on every confirm seed, in the order to run them.

    The arms take turns within each seed, and every other seed reverses their order. So a machine that slows down or
    heats up affects all arms alike.
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
