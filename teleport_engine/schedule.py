"""When to teleport."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

from teleport_engine.model import is_whole
from teleport_engine.report import TeleportReport, log_growth

__all__ = ["Schedule", "Timetable", "WhileItPays"]


@runtime_checkable
class Timetable(Protocol):
    """Says when a teleport is due. Anything with these methods may be given as `schedule=`."""

    def is_due(self, step_index: int) -> bool:
        """Says whether to teleport before the optimizer step of this index, counted from 0; asking changes nothing."""

    def note(self, report: TeleportReport) -> None:
        """Learns what came of a teleport that was due."""

    def state_dict(self) -> dict[str, Any]:
        """Gives what it has learnt, for `load_state_dict`."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a state that `state_dict` gave."""


@final
@dataclass(frozen=True)
class Schedule:
    """The first `batches` batches of each of the first `epochs` epochs (arXiv 2502.11362: 32 and 5).

    The index of the optimizer step alone decides; step 0 is the first of the run. After a `warmup`, the epoch in
    which it ends counts its batches from there (else a warm-up longer than `batches` would swallow the epoch).

    Args:
        epochs: teleport in epochs 0 to `epochs - 1`; None for all.
        batches: teleport before the first `batches` batches of an epoch; None for all.
        batches_per_epoch: optimizer steps per epoch; needed with `epochs` or `batches`.
        warmup: no teleport before this step (40 for the CNN of the paper).
        every: of the steps that are left, only each `every`-th, counted from the first of the epoch.
        at: exactly these steps; stands alone.

    Raises:
        ValueError: if a number is not a whole one in its range, `batches_per_epoch` is missing, or `at` is not alone.

    Examples:
        >>> schedule = Schedule(epochs=2, batches=3, batches_per_epoch=10)
        >>> [step for step in range(40) if schedule.is_due(step)]
        [0, 1, 2, 10, 11, 12]
    """

    epochs: int | None = None
    batches: int | None = None
    batches_per_epoch: int | None = None
    warmup: int = 0
    every: int = 1
    at: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        least = {"epochs": 0, "batches": 0, "batches_per_epoch": 1, "warmup": 0, "every": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is None and name not in {"warmup", "every"}:
                continue
            if not is_whole(value, low):
                raise ValueError(f"{name} must be a whole number >= {low}, got {value!r}")
        if self.batches_per_epoch is None and (self.epochs is not None or self.batches is not None):
            raise ValueError("batches_per_epoch is needed where epochs or batches is given, got None")
        if self.at is not None:
            if not isinstance(self.at, tuple) or not all(is_whole(step, 0) for step in self.at):
                raise ValueError(f"at must be a tuple of whole numbers >= 0, got {self.at!r}")
            others = (self.epochs, self.batches, self.batches_per_epoch, self.warmup, self.every)
            if others != (None, None, None, 0, 1):
                raise ValueError(f"at stands alone (these steps and no others), got {self!r}")

    def is_due(self, step_index: int) -> bool:
        """Says whether to teleport before the optimizer step of this index, counted from 0.

        Raises:
            ValueError: if the index is negative.
        """
        if step_index < 0:
            raise ValueError(f"step_index must be >= 0, got {step_index}")
        if self.at is not None:
            return step_index in self.at
        if step_index < self.warmup:
            return False
        first = self.warmup
        if self.batches_per_epoch is not None:
            epoch = step_index // self.batches_per_epoch
            if self.epochs is not None and epoch >= self.epochs:
                return False
            first = max(first, epoch * self.batches_per_epoch)
        since = step_index - first
        return (self.batches is None or since < self.batches) and since % self.every == 0

    def note(self, report: TeleportReport) -> None:
        """Learns nothing: the index alone decides."""

    def state_dict(self) -> dict[str, Any]:
        """There is nothing to remember: an empty dict."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """There is nothing to take over."""


@final
class WhileItPays:
    """A schedule that ends for good when teleports gain too little for what they cost.

    The gain of a teleport is the growth of the squared gradient norm, `log(||g||^2 after / before)`, per gradient
    evaluation that it took (`report.num_gradient_evaluations`, everything included). Teleports that move nothing gain
    nothing.

    Args:
        schedule: when teleports are due as long as they pay.
        least_gain: per gradient evaluation.
        patience: how many teleports in a row must gain less before it ends.

    Raises:
        ValueError: if `least_gain` is not finite and above zero, or `patience` is no whole number >= 1.
    """

    def __init__(self, schedule: Timetable, least_gain: float, patience: int = 3) -> None:
        if not (math.isfinite(least_gain) and least_gain > 0.0):
            raise ValueError(f"least_gain must be finite and > 0, got {least_gain}")
        if not is_whole(patience, 1):
            raise ValueError(f"patience must be a whole number >= 1, got {patience!r}")
        self._schedule = schedule
        self._least_gain = least_gain
        self._patience = patience
        self._num_poor = 0

    @property
    def has_ended(self) -> bool:
        """Whether no teleport will be due again."""
        return self._num_poor >= self._patience

    def is_due(self, step_index: int) -> bool:
        """Asks the schedule inside, until teleports no longer pay."""
        return self._schedule.is_due(step_index) and not self.has_ended

    def note(self, report: TeleportReport) -> None:
        """Counts teleports in a row that gained too little."""
        self._schedule.note(report)
        cost = report.num_gradient_evaluations
        is_rich = cost > 0.0 and log_growth(report.grad_norm_ratio) / cost >= self._least_gain
        self._num_poor = 0 if is_rich else self._num_poor + 1

    def state_dict(self) -> dict[str, Any]:
        """Gives how many teleports in a row gained too little, and the state of the schedule inside."""
        return {"num_poor": self._num_poor, "schedule": self._schedule.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a state that `state_dict` gave."""
        self._num_poor = state_dict["num_poor"]
        self._schedule.load_state_dict(state_dict["schedule"])
