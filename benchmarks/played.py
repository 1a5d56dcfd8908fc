"""Results of trials that a benchmark plays in place of training."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.home.records import SeedResult, TrialConfig, TrialFailure, TrialResult, TrialState


def played_seed(seed: int, steps: int | None, budget: int) -> SeedResult:
    """Make a seed that reached its target after so many steps of its budget; None: it missed it."""
    return SeedResult(
        seed=seed,
        outcome="completed",
        num_steps=budget,
        budget_steps=budget,
        steps_to_target=steps,
        seconds_to_target=None,
        gradient_evaluations_to_target=None,
        seconds=1.0,
        teleport_seconds=0.0,
        gradient_evaluations=1.0,
        metrics={},
    )


def played(
    config: TrialConfig, value: float | None, seeds: Sequence[SeedResult], failure: TrialFailure | None = None
) -> TrialResult:
    """Make the result of a trial: FAIL where it has a failure, else COMPLETE."""
    return TrialResult(
        trial_id=config.trial_id,
        state=TrialState.COMPLETE if failure is None else TrialState.FAIL,
        value=value,
        seeds=tuple(seeds),
        failure=failure,
        started_at=0.0,
        ended_at=1.0,
    )
