"""The optimizer clock: what a method costs, without what it costs to watch it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

import torch


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
            torch.cuda.synchronize(self._device)
        return self._now()
