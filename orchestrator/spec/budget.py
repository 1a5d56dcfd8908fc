"""What a sweep may cost at most."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from orchestrator.catalog import Options
from orchestrator.spec.duration import Duration


class BudgetOptions(Options):
    """Limits over all runs of a sweep together: to resume does not begin them anew. None: no limit.

    Args:
        wall_clock: time during which the sweep ran.
        trials: that ended, of both phases.
        gpu_hours: of all trials, the GPUs of each times its hours.
        per_trial: time of one trial; one that is over it ends as FAIL with ``timeout``.
    """

    wall_clock: Duration | None = None
    trials: PositiveInt | None = None
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    per_trial: Duration | None = None
