"""What a tracker is told beside the results."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from orchestrator.catalog import Options


class TrackingOptions(Options):
    """What a tracker is told beside the results.

    Args:
        system_metrics: whether each trial measures the machine it runs on: cores, memory, GPU.
        every: wall-clock seconds between two measurements at least; they are taken at evaluations.
    """

    system_metrics: bool = False
    every: Annotated[float, Field(gt=0)] = 10.0

    @property
    def system_metrics_every(self) -> float | None:
        """Seconds between two measurements; None: none is taken."""
        return self.every if self.system_metrics else None
