"""When to teleport."""

from dataclasses import dataclass
from typing import final

__all__ = ["Schedule"]


@final
@dataclass(frozen=True)
class Schedule:
    """The first `batches` batches of each of the first `epochs` epochs (arXiv 2502.11362: 32 and 5).

    The index of the optimizer step alone decides; step 0 is the first of the run. After a `warmup`, the epoch in
    which it ends counts its batches from there (else a warm-up longer than `batches` would swallow the epoch).

    Args:
        epochs: teleport in epochs 0 to `epochs - 1`; None: in all.
        batches: teleport before the first `batches` batches of an epoch; None: before all.
        batches_per_epoch: optimizer steps per epoch; needed with `epochs` or `batches`.
        warmup: no teleport before this step (40 for the CNN of the paper).
        every: of the steps that are left, only each `every`-th, counted from the first of the epoch.

    Raises:
        ValueError: if a number is not a whole one in its range, or `batches_per_epoch` is missing.

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

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: if one is out of range, or `batches_per_epoch` is missing.
        """
        least = {"epochs": 0, "batches": 0, "batches_per_epoch": 1, "warmup": 0, "every": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is None and name not in {"warmup", "every"}:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ValueError(f"{name} must be a whole number >= {low}, got {value!r}")
        if self.batches_per_epoch is None and (self.epochs is not None or self.batches is not None):
            raise ValueError("batches_per_epoch is needed where epochs or batches is given, got None")

    def is_due(self, step_index: int) -> bool:
        """Whether to teleport before an optimizer step.

        Args:
            step_index: index of the optimizer step, from 0.

        Returns:
            True where a teleport is due.

        Raises:
            ValueError: if the index is negative.
        """
        if step_index < 0:
            raise ValueError(f"step_index must be >= 0, got {step_index}")
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
