"""The kinds of arm: ways to train. ``baseline`` is the empty arm and has no options."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from orchestrator.catalog.entry import Options


class FixedStepOptions(Options):
    """Move by ``lr`` times the projected ascent direction (the paper's η)."""

    rule: Literal["fixed"]
    lr: PositiveFloat


class GrowthStepOptions(Options):
    """Move until ‖g‖² has grown by ``factor`` in one teleport step: scale-free."""

    rule: Literal["growth"]
    factor: Annotated[float, Field(gt=1.0)]


class ScheduleOptions(Options):
    """When to teleport: in the first ``epochs`` epochs, at the first ``batches`` batches of each.

    Args:
        epochs: how many epochs have teleports.
        batches: teleport batches per epoch.
        steps: teleport steps per batch.
        warmup: optimizer steps before the first teleport.
        every: of the batches so chosen, take every n-th.
    """

    epochs: NonNegativeInt = 5
    batches: PositiveInt = 32
    steps: PositiveInt = 8
    warmup: NonNegativeInt = 0
    every: PositiveInt = 1


class TeleportOptions(Options):
    """Teleport by null-space projection (arXiv 2502.11362).

    Args:
        tau: share of the input energy that the preserved subspace holds; 1 is exact.
        step: how far each teleport step goes.
        schedule: when to teleport.
        grad_norm_cap: a teleport step that would take ‖g‖ above this is undone, and the teleport ends.
        max_loss_drift: a teleport step that would change the loss on its batch by more than this is undone, and
            the teleport ends; None: at tau = 1 what rounding explains, below it no bound.
    """

    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    step: Annotated[FixedStepOptions | GrowthStepOptions, Field(discriminator="rule")]
    schedule: ScheduleOptions = ScheduleOptions()
    grad_norm_cap: PositiveFloat | None = None
    max_loss_drift: PositiveFloat | None = None
