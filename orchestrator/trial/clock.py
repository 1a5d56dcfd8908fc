"""How many steps a seed takes and how many seconds they cost, evaluation left out; loads no torch for the dry run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, final

from orchestrator.spec import EVALUATIONS_PER_RUN, Workload

if TYPE_CHECKING:
    import torch


@final
@dataclass(frozen=True)
class Budget:
    """The optimizer steps of one seed.

    Args:
        batches_per_epoch: optimizer steps per pass over the training split.
        num_steps: of the whole run.
        evaluate_every: steps between evaluations.
    """

    batches_per_epoch: int
    num_steps: int
    evaluate_every: int

    @classmethod
    def of(cls, workload: Workload, num_train: int) -> Self:
        """Work out a workload's budget.

        An epoch has full batches only: what is left over of one permutation is not used in that epoch. So
        every step costs the same, and steps compare. A batch larger than the split is the whole split.

        Args:
            workload: batch size, epochs and evaluation.
            num_train: size of the training split.

        Returns:
            The budget.
        """
        batches_per_epoch = max(1, num_train // workload.data.batch_size)
        num_steps = batches_per_epoch * workload.epochs
        every = workload.evaluate.every or max(1, num_steps // EVALUATIONS_PER_RUN)
        return cls(batches_per_epoch, num_steps, every)

    def stretches(self) -> Iterator[tuple[int, int]]:
        """Give the runs of steps between evaluations.

        Yields:
            First step and the one after the last; together they are ``0 .. num_steps``.
        """
        for first in range(0, self.num_steps, self.evaluate_every):
            yield first, min(first + self.evaluate_every, self.num_steps)


@final
class OptimizerClock:
    """Counts seconds while it runs: forward, backward, optimizer, teleport. Evaluation happens while it stands.

    Args:
        device: of the training; on CUDA each reading waits until the device has finished.
        now: seconds from any origin, monotone.
    """

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        self._device = device
        self._now = now
        self._seconds = 0.0
        self._teleport_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Seconds so far, as of the last time the clock was stopped."""
        return self._seconds

    @property
    def teleport_seconds(self) -> float:
        """The teleports' part of :attr:`seconds`."""
        return self._teleport_seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what happens inside.

        Yields:
            Nothing.
        """
        start = self._read()
        try:
            yield
        finally:
            self._seconds += self._read() - start

    @contextmanager
    def teleporting(self) -> Iterator[None]:
        """Mark what happens inside as the teleports' part; does not start the clock.

        Yields:
            Nothing.
        """
        start = self._read()
        try:
            yield
        finally:
            self._teleport_seconds += self._read() - start

    def state_dict(self) -> dict[str, float]:
        """Tell the seconds so far.

        Returns:
            The state, for :meth:`load_state_dict`.
        """
        return {"seconds": self._seconds, "teleport_seconds": self._teleport_seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on from there; what passed between is not counted.

        Args:
            state_dict: from :meth:`state_dict`.
        """
        self._seconds, self._teleport_seconds = state_dict["seconds"], state_dict["teleport_seconds"]

    def _read(self) -> float:
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)
        return self._now()
