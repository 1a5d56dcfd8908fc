"""Small tasks that tests of the loop share."""

from __future__ import annotations

from typing import Any

import torch

from orchestrator.home.records import TrialConfig
from orchestrator.spec import Workload
from orchestrator.trial.loop import SeedTask

TELEPORT: dict[str, Any] = {
    "teleport": {
        "tau": 0.999,
        "step": {"rule": "growth", "factor": 1.2},
        "schedule": {"epochs": 1, "batches": 2, "steps": 1},
    }
}


def workload(**more: Any) -> Workload:
    """A small MLP on digits: 9 steps an epoch."""
    plain: dict[str, Any] = {
        "model": {"name": "mlp", "widths": [160]},
        "data": {"name": "digits", "batch_size": 128},
        "optimizer": {"name": "sgd", "lr": 0.2},
        "epochs": 2,
        "evaluate": {"every": 4},
        "target": {"metric": "train_loss", "value": 1.0},
    }
    return Workload.model_validate(plain | more)


def task(phase: Any = "search", seed: int = 0, **more: Any) -> SeedTask:
    return SeedTask(workload(**more), phase, seed, torch.device("cpu"))


def config(method: dict[str, Any] | None = None, **more: Any) -> TrialConfig:
    settings = {"phase": "search", "seeds": (0,), "workload": "small", "arm": "arm", **more}
    training = settings.pop("training", {})
    return TrialConfig(training=workload(**training), method=method or {}, **settings)
