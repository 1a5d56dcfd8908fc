"""Makes the loss of a training step: in float32 or low precision, with a compiled forward or without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.spec import Workload
from orchestrator.trial.data.dataset import Split
from orchestrator.trial.isolation import random_state, set_random_state
from orchestrator.trial.tasks import LossFn
from teleport_engine.model import called, with_tensors

COMPILE_BACKEND = "inductor"


def training_loss(workload: Workload, model: nn.Module, loss: LossFn, split: Split) -> LossFn:
    """Make the function ``loss(inputs, targets)`` that a training step computes.

    Weights and gradients are float32 whatever the precision. Teleports and evaluation call the model itself, in float32
    and not compiled, so that they mean the same for every workload. A compiled forward is compiled here on samples of
    ``split``, before the clock starts.
    """
    forward = torch.compile(model, backend=COMPILE_BACKEND) if workload.compile else model
    loss_of = _loss_through(forward, loss, workload.precision, split.targets.device)
    if workload.compile:
        _warm_up(loss_of, model, split, workload.data.batch_size)
    return loss_of


def scaler_of(workload: Workload, device: torch.device) -> torch.amp.GradScaler | None:
    """Make the scaler that keeps small gradients from vanishing, which only float16 needs: its exponents are short."""
    return torch.amp.GradScaler(device.type) if workload.precision == "float16" else None


def _loss_through(forward: Callable[..., Any], loss: LossFn, precision: str, device: torch.device) -> LossFn:
    if precision == "float32":
        return lambda inputs, targets: loss(called(forward, inputs), targets)
    dtype: torch.dtype = getattr(torch, precision)

    def loss_of(inputs: Any, targets: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype):
            outputs = called(forward, inputs)
        return loss(with_tensors(outputs, Tensor.float), targets)

    return loss_of


def _warm_up(loss_of: LossFn, model: nn.Module, split: Split, batch_size: int) -> None:
    """Compile forward and backward, and leave buffers and random state as they were."""
    device = split.targets.device
    kept = random_state(device), {name: buffer.clone() for name, buffer in model.named_buffers()}
    size = min(batch_size, len(split))
    batch = split.select(torch.arange(size, device=device))
    loss_of(batch.inputs, batch.targets).backward()  # type: ignore[no-untyped-call]
    model.zero_grad()
    set_random_state(kept[0], device)
    for name, buffer in model.named_buffers():
        buffer.copy_(kept[1][name])
