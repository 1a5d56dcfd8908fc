"""What the training loop asks of an arm, and what an arm is given to work on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from orchestrator.home import TeleportSummary
from orchestrator.trial.batches import ExtraBatches
from orchestrator.trial.clock import Budget
from orchestrator.trial.tasks import LossFn


@final
@dataclass(frozen=True)
class ArmEffect:
    """What an arm did before one optimizer step.

    Args:
        has_moved: whether weights changed.
        gradient_evaluations: what it cost, in gradients of the training batch.
        loss_drift: change of the loss on the batch.
        gain: ‖g‖² after over before.
        probe_drift: change of the loss on data outside the batch; None: not measured.
        null_dim: mean dimension of the null spaces that the weights moved in; None: they moved in none.
        around: a context that the optimizer step is taken inside of; None: no context.
        step_gradient: where the arm has computed the gradient that the step needs, it adds it to that of the weights
            and returns the loss; it returns None where the step has to compute it.
    """

    has_moved: bool
    gradient_evaluations: float
    loss_drift: float = 0.0
    gain: float = 1.0
    probe_drift: float | None = None
    null_dim: float | None = None
    around: AbstractContextManager[None] | None = None
    step_gradient: Callable[[], float | None] = lambda: None


class RunningArm(Protocol):
    """An arm on one seed. It acts on the weights before optimizer steps.

    It draws from no random generator but its own. It leaves gradients and the optimizer's state alone, unless they
    are what it is there to change.
    """

    def is_due(self, step_index: int) -> bool:
        """Tell whether the arm acts before optimizer step ``step_index``, counted from 0."""
        ...

    def apply(self, step_index: int, inputs: Any, targets: Tensor) -> ArmEffect:
        """Act, given the batch that the optimizer step is about to use."""
        ...

    def summary(self) -> TeleportSummary:
        """Sum up all that the arm did."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what further steps and the summary depend on: tensors and plain values alone."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state as if training had never stopped."""
        ...


@final
@dataclass(frozen=True)
class TrainingContext:
    """The training of one seed, as an arm sees it when it is made.

    Args:
        model: on its device, with its initial weights.
        loss_fn: ``loss_fn(outputs, targets)``, the loss that is trained.
        optimizer: the optimizer that trains the model.
        budget: the seed's steps.
        seed: the seed.
        extra_batches: gives the arm samples of the training split; the order of the training batches stays as it is.
    """

    model: nn.Module
    loss_fn: LossFn
    optimizer: torch.optim.Optimizer
    budget: Budget
    seed: int
    extra_batches: ExtraBatches


# Makes an arm for one seed; None: the arm does nothing during training.
MakeArm = Callable[[TrainingContext], RunningArm | None]
