"""What a trial is given, and how much of one may be lost."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from orchestrator.catalog import Options
from orchestrator.spec.training import CHECKPOINT_EVERY, Phase, Share


class Resources(Options):
    """What one trial is given, for both phases or for each.

    Args:
        cpu: cores, for both phases.
        gpu: GPUs, for both phases; may be a fraction.
        search: instead, for the search alone.
        confirm: instead, for confirm alone.
    """

    cpu: Annotated[float, Field(gt=0)] | None = None
    gpu: Annotated[float, Field(ge=0)] | None = None
    search: Share | None = None
    confirm: Share | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.search or self.confirm) and (self.cpu is not None or self.gpu is not None):
            raise ValueError("give cpu and gpu for both phases, or search and confirm, not both forms")
        return self

    def share(self, phase: Phase) -> Share:
        """Tell what a trial of ``phase`` is given."""
        own = self.search if phase == "search" else self.confirm
        both = Share(cpu=1.0 if self.cpu is None else self.cpu, gpu=self.gpu or 0.0)
        return own or both


class Checkpoint(Options):
    """How much of a trial a crash or an interrupt may cost.

    Args:
        every: wall-clock seconds between checkpoints of a trial, taken at evaluations, off the optimizer clock; a
            trial that is shorter takes none. None: none at all, and a trial that was cut off begins anew.
    """

    every: Annotated[float, Field(gt=0)] | None = CHECKPOINT_EVERY
