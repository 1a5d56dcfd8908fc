"""Measures how busy a trial's machine is, for people who look at a run; no result depends on it."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable
from typing import final

import psutil
import torch

MEGABYTE = 1e6


@final
class SystemMetrics:
    """Measures the machine at intervals, under MLflow's names and in its units, so that MLflow's page groups them.

    Args:
        device: the device that the trial runs on.
        every: the fewest seconds between two measurements; None: nothing is measured.
        now: returns seconds since any origin.
    """

    def __init__(self, device: torch.device, every: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._device = device
        self._every = every
        self._now = now
        self._measured_at = now()
        if every is not None:
            self._measure()  # psutil measures the cores since its last call, so the first call has nothing to tell

    def take(self) -> dict[str, float]:
        """Return new figures by name if a measurement is due; empty: none is due, or the machine tells none."""
        if self._every is None or self._now() - self._measured_at < self._every:
            return {}
        return self._measure()

    def _measure(self) -> dict[str, float]:
        self._measured_at = self._now()
        try:
            return {**_of_machine(), **(_of_gpu(self._device) if self._device.type == "cuda" else {})}
        except Exception as error:  # noqa: BLE001 - a driver raises what it likes, and no trial may fail of this
            logging.getLogger("teleport").warning(
                "no system metrics of this trial: %s: %s", type(error).__name__, error
            )
            self._every = None
            return {}


def _of_machine() -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system_memory_usage_percentage": 100.0 * memory.used / memory.total,
    }


def _of_gpu(device: torch.device) -> dict[str, float]:
    """Measure the trial's own GPU, which is called 0 whatever number the machine gives it."""
    free, total = torch.cuda.mem_get_info(device)
    figures = {
        "gpu_0_memory_usage_megabytes": (total - free) / MEGABYTE,
        "gpu_0_memory_usage_percentage": 100.0 * (total - free) / total,
    }
    if importlib.util.find_spec("pynvml") is not None:
        figures["gpu_0_utilization_percentage"] = float(torch.cuda.utilization(device))
    return figures
