"""Counts a seed's steps and seconds, evaluation left out; importing it loads no torch, for the dry run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, final

from orchestrator.spec import Workload

if TYPE_CHECKING:
    import torch


@final
@dataclass(frozen=True)
class Budget:
    """The optimizer steps of one seed.

    Args:
        batches_per_epoch: optimizer steps in one pass over the training split.
        num_steps: optimizer steps of the whole run.
        evaluate_every: optimizer steps between two evaluations.
    """

    batches_per_epoch: int
    num_steps: int
    evaluate_every: int

    @classmethod
    def of(cls, workload: Workload, num_train: int) -> Self:
        """Work out the budget of a workload whose training split has ``num_train`` samples.

        An epoch has full batches only, so that every step costs the same: the samples left over from one permutation
        are not used in that epoch. Where a batch is larger than the split, the whole split is the batch.
        """
        batches_per_epoch = max(1, num_train // workload.data.batch_size)
        num_steps = batches_per_epoch * workload.epochs
        return cls(batches_per_epoch, num_steps, workload.evaluate.steps_between(num_steps))

    def stretches(self) -> Iterator[tuple[int, int]]:
        """Yield the first step and the one after the last of each run of steps between two evaluations."""
        for first in range(0, self.num_steps, self.evaluate_every):
            yield first, min(first + self.evaluate_every, self.num_steps)


@final
class OptimizerClock:
    """Counts the seconds of forward, backward, optimizer and teleport, and stands still during evaluation.

    Args:
        device: the training's device; on CUDA each reading waits until the device has finished.
        now: returns seconds since any origin; they never decrease.
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
        """Count the seconds of the ``with`` block."""
        start = self._read()
        try:
            yield
        finally:
            self._seconds += self._read() - start

    @contextmanager
    def teleporting(self) -> Iterator[None]:
        """Count the seconds of the ``with`` block as the teleports' part; this does not start the clock."""
        start = self._read()
        try:
            yield
        finally:
            self._teleport_seconds += self._read() - start

    def state_dict(self) -> dict[str, float]:
        """Return the seconds so far."""
        return {"seconds": self._seconds, "teleport_seconds": self._teleport_seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Continue from a state; the time that passed since it was taken is not counted."""
        self._seconds, self._teleport_seconds = state_dict["seconds"], state_dict["teleport_seconds"]

    def _read(self) -> float:
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)
        return self._now()
