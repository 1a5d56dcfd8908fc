"""Resources, budgets, checkpoints and tracking: what a spec says about the running of trials."""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from orchestrator.spec.options import Options
from orchestrator.spec.scalars import Duration
from orchestrator.spec.training import CHECKPOINT_EVERY, Phase, Share


class BudgetOptions(Options):
    """Limits over all runs of a sweep together: to resume a sweep does not reset them. None: no limit.

    Args:
        wall_clock: time during which the sweep ran.
        trials: trials that ended, of both phases.
        gpu_hours: hours times GPUs, summed over all trials.
        per_trial: time of one trial; a trial that takes longer ends as FAIL with ``timeout``.
    """

    wall_clock: Duration | None = None
    trials: PositiveInt | None = None
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    per_trial: Duration | None = None


class TrackingOptions(Options):
    """What a tracker records beside the results.

    Args:
        system_metrics: whether each trial measures the machine it runs on: cores, memory, GPU.
        every: the fewest wall-clock seconds between two measurements, which are taken at evaluations.
    """

    system_metrics: bool = False
    every: Annotated[float, Field(gt=0)] = 10.0

    @property
    def system_metrics_every(self) -> float | None:
        """The fewest seconds between two measurements; None: nothing is measured."""
        return self.every if self.system_metrics else None


class Resources(Options):
    """What one trial is given: the same in both phases, or a share for each.

    Args:
        cpu: cores, in both phases.
        gpu: GPUs, in both phases. A fraction holds for the search only; a trial of confirm, whose seconds are reported,
            is given whole ones.
        memory: GB of main memory, in both phases.
        custom: custom resources of Ray, in both phases.
        search: the share of a search trial, in place of all the above.
        confirm: the share of a confirm trial, in place of all the above; a fraction of a GPU stays a fraction here.
    """

    cpu: float | None = None
    gpu: float | None = None
    memory: float | None = None
    custom: dict[str, float] | None = None
    search: Share | None = None
    confirm: Share | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        both = self._both()
        if (self.search or self.confirm) and both:
            raise ValueError(f"give either {', '.join(both)} for both phases, or search and confirm")
        Share.model_validate(both)
        return self

    def share(self, phase: Phase) -> Share:
        """Return what a trial of ``phase`` is given."""
        own = self.search if phase == "search" else self.confirm
        if own is not None:
            return own
        both = Share.model_validate(self._both())
        return both if phase == "search" else both.model_copy(update={"gpu": float(math.ceil(both.gpu))})

    def _both(self) -> dict[str, object]:
        return self.model_dump(include=set(Share.model_fields), exclude_none=True)


class CheckpointOptions(Options):
    """How much of a trial a crash or an interrupt may cost.

    Args:
        every: wall-clock seconds between checkpoints of a trial, which are taken at evaluations, off the optimizer
            clock; a shorter trial takes none. None: there are no checkpoints, and a trial that was cut off begins anew.
    """

    every: Annotated[float, Field(gt=0)] | None = CHECKPOINT_EVERY
