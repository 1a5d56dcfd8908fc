"""How everything here is timed: interleaved repeats, so that a machine that slows down hurts all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def medians(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Time each candidate ``repeats`` times in turn and return the median seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, candidate in candidates.items():
            started = time.perf_counter()
            candidate()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def row(name: str, value: float, unit: str, goal: float | None = None) -> dict[str, Any]:
    """Make a row of the table; a goal is an upper bound."""
    return {"name": name, "value": value, "unit": unit, "goal": goal, "met": None if goal is None else value <= goal}
