"""What all rivals share, the call and the schedule; and what those share that climb step by step."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import nn

from teleport_engine.compare.attempt import Attempt, attempt
from teleport_engine.model import Inputs, LossFn, is_whole
from teleport_engine.report import Outcome, TeleportReport
from teleport_engine.schedule import Schedule
from teleport_engine.step import Limits

__all__ = ["ClimbingRival", "Rival"]


class Rival(ABC):
    """A teleport that is no null-space teleport, behind the same call as `Teleporter`.

    Args:
        model: any module.
        loss_fn: `loss_fn(outputs, targets)` gives a tensor without dimensions.
        schedule: when `step()` teleports.
    """

    route: ClassVar[str]
    """As in `TeleportReport.route`."""

    def __init__(self, model: nn.Module, loss_fn: LossFn, *, schedule: Schedule | None = None) -> None:
        self._model = model
        self._loss_fn = loss_fn
        self._schedule = schedule

    def step(
        self, step_index: int, inputs: Inputs, targets: Any, *, probe: tuple[Inputs, Any] | None = None
    ) -> TeleportReport | None:
        """Teleports where the schedule says so; the arguments are those of `Teleporter.step`. None where none is due.

        Raises:
            ValueError: if there is no schedule; as in `teleport`.
        """
        if self._schedule is None:
            raise ValueError("step needs a schedule: give schedule=Schedule(...), got None")
        return self.teleport(inputs, targets, probe=probe) if self._schedule.is_due(step_index) else None

    @abstractmethod
    def teleport(self, inputs: Inputs, targets: Any, *, probe: tuple[Inputs, Any] | None = None) -> TeleportReport:
        """Moves the weights while the loss on the batch stays; arguments and what is left untouched as in `Teleporter`.

        Numerical trouble is an outcome in the report, never an exception.

        Raises:
            ValueError: if inputs or targets do not go with the model.
        """


class ClimbingRival(Rival):
    """A rival that climbs step by step.

    Args:
        model: any module.
        loss_fn: `loss_fn(outputs, targets)` gives a tensor without dimensions.
        step_size: the first length tried; None takes that of the class.
        num_steps: at most so many steps are taken.
        schedule: when `step()` teleports.
        grad_norm_cap: a step that would take the gradient norm above this is undone, and is the last.
        max_loss_drift: how far the loss may be from where it began.

    Raises:
        ValueError: if an option is out of its range.
    """

    first_step_size: ClassVar[float]
    """The length tried first where none is given."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFn,
        *,
        step_size: float | None = None,
        num_steps: int = 8,
        schedule: Schedule | None = None,
        grad_norm_cap: float | None = None,
        max_loss_drift: float | None = None,
    ) -> None:
        step_size = self.first_step_size if step_size is None else step_size
        if not (math.isfinite(step_size) and step_size > 0.0):
            raise ValueError(f"step_size must be finite and > 0, got {step_size}")
        if not is_whole(num_steps, 1):
            raise ValueError(f"num_steps must be a whole number >= 1, got {num_steps!r}")
        super().__init__(model, loss_fn, schedule=schedule)
        self._step_size = step_size
        self._num_steps = num_steps
        limits = Limits(grad_norm_cap=grad_norm_cap, max_loss_drift=max_loss_drift)
        self._cap = limits.grad_norm_cap or math.inf
        self._max_loss_drift = limits.max_loss_drift or math.inf

    def teleport(self, inputs: Inputs, targets: Any, *, probe: tuple[Inputs, Any] | None = None) -> TeleportReport:
        """Climbs from the present weights; see `Rival.teleport`."""
        with attempt(self._model, self._loss_fn, inputs, targets, probe) as now:
            if not now.start.is_finite:
                return now.report(Outcome.NON_FINITE, self.route)
            if math.sqrt(now.start.square_norm) > self._cap:
                return now.report(Outcome.CAP_REACHED, self.route)
            return now.report(self._climb(now), self.route)

    @abstractmethod
    def _climb(self, now: Attempt) -> Outcome:
        """Moves the weights and says how it ended; the start is finite and below the cap."""
