"""The seam between the training loop and what an arm does to it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from orchestrator.home import TeleportSummary
from orchestrator.trial.batches import Draws
from orchestrator.trial.clock import Budget
from orchestrator.trial.evaluate import LossFn


@final
@dataclass(frozen=True)
class Move:
    """What one application of a treatment did.

    Args:
        has_moved: whether weights changed.
        gradient_evaluations: its cost, in gradients of the training batch.
        loss_drift: change of the loss on the batch.
        gain: ratio of ‖g‖² after to before.
        probe_drift: change of the loss on data outside the batch; None: not measured.
        null_dim: mean dimension of the null spaces that the weights moved in; None: in none.
        around: what the optimizer step that follows is taken inside of; None: nothing.
    """

    has_moved: bool
    gradient_evaluations: float
    loss_drift: float = 0.0
    gain: float = 1.0
    probe_drift: float | None = None
    null_dim: float | None = None
    around: AbstractContextManager[None] | None = None


class Treatment(Protocol):
    """What an arm does to the weights before an optimizer step.

    It draws from no generator but its own, and leaves gradients and optimizer state alone unless that is what
    it is for.
    """

    def is_due(self, step_index: int) -> bool:
        """Tell whether it acts before optimizer step ``step_index``, counted from 0."""
        ...

    def apply(self, step_index: int, inputs: Tensor, targets: Tensor) -> Move:
        """Act, on the batch that the optimizer step is about to use."""
        ...

    def summary(self) -> TeleportSummary:
        """Sum up all applications."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tell what its next applications and its summary depend on: tensors and plain values alone."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, as if never stopped."""
        ...


@final
@dataclass(frozen=True)
class Site:
    """What a treatment may build on.

    Args:
        model: with its initial weights, on its device.
        loss_fn: ``loss_fn(outputs, targets)``, the primary loss.
        optimizer: that trains it.
        budget: of the seed.
        seed: of the seed.
        draws: gives it samples of the training split, without moving the data order.
    """

    model: nn.Module
    loss_fn: LossFn
    optimizer: torch.optim.Optimizer
    budget: Budget
    seed: int
    draws: Draws


Treat = Callable[[Site], Treatment | None]
