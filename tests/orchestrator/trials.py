"""Trial configurations, rows and results that the tests share."""

from __future__ import annotations

from typing import Any

from orchestrator.home.records import HistoryRow, SeedResult, TrialConfig, TrialFailure, TrialResult, TrialState

TELEPORT = {"teleport": {"step": {"rule": "growth", "factor": 1.5}}}


def config(
    *,
    workload: str = "digits",
    arm: str = "baseline",
    seeds: tuple[int, ...] = (0,),
    lr: float = 0.1,
    **more: Any,
) -> TrialConfig:
    """Make a small configuration."""
    training = {
        "model": {"name": "mlp", "widths": [16]},
        "data": {"name": "digits", "batch_size": 128},
        "optimizer": {"name": "sgd", "lr": lr},
        "epochs": 1,
        "evaluate": {"every": 2},
        "target": {"metric": "train_loss", "value": 2.2},
    }
    plain = {
        "workload": workload,
        "arm": arm,
        "phase": "search",
        "seeds": seeds,
        "training": training,
        "method": {} if arm == "baseline" else TELEPORT,
        "values": {"optimizer.lr": lr},
        "number": 0,
        **more,
    }
    return TrialConfig.model_validate(plain)


def row(step: int, seed: int = 0, loss: float | None = None) -> HistoryRow:
    """Make a row of a curve."""
    return HistoryRow(
        seed=seed,
        step=step,
        epoch=step / 10,
        seconds=step * 0.01,
        teleport_seconds=0.0,
        gradient_evaluations=float(step),
        num_teleports=0,
        metrics={"train_loss": 2.3 / (1 + step) if loss is None else loss, "validation_loss": 2.3},
    )


def complete(of: TrialConfig, value: float = 0.5) -> TrialResult:
    """Make the result of a trial that went well."""
    seeds = tuple(
        SeedResult(
            seed=seed,
            outcome="completed",
            num_steps=10,
            budget_steps=10,
            steps_to_target=4,
            seconds_to_target=0.04,
            gradient_evaluations_to_target=4.0,
            seconds=0.1,
            teleport_seconds=0.0,
            gradient_evaluations=10.0,
            metrics={"train_loss": value, "validation_loss": value, "validation_accuracy": 0.9},
        )
        for seed in of.seeds
    )
    return TrialResult(
        trial_id=of.trial_id, state=TrialState.COMPLETE, value=value, seeds=seeds, started_at=1.0, ended_at=2.0
    )


def failed(of: TrialConfig, kind: Any = "diverged") -> TrialResult:
    """Make the result of a trial that failed."""
    return TrialResult(
        trial_id=of.trial_id,
        state=TrialState.FAIL,
        value=None,
        seeds=(),
        failure=TrialFailure(kind=kind, message="the loss was not finite"),
        started_at=1.0,
        ended_at=2.0,
    )
