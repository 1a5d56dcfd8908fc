"""What two arms are compared on, and how it is read off a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from orchestrator.report.schema import ConfirmSeed
from orchestrator.spec import is_higher_better
from orchestrator.spec.options import TaskOptions
from orchestrator.statistics import Measured, Scale

PRIMARY_METRIC = "steps_to_target"


@final
@dataclass(frozen=True)
class Metric:
    """What two arms are compared on.

    Args:
        name: its name in the report.
        limit: the field of a run that says where a miss is cut off; None: the metric is a final figure, always known.
        scale: how an effect is measured.
        higher_is_better: whether larger values are better.
    """

    name: str
    limit: str | None
    scale: Scale = "ratio"
    higher_is_better: bool = False

    @property
    def is_time(self) -> bool:
        """Whether it measures how long a run took, rather than how good it became."""
        return self.limit is not None

    def measure(self, run: ConfirmSeed) -> Measured | None:
        """Read it off a run with an answer: infinitely bad where the run broke off, None where it lacks the figure."""
        if self.limit is None:
            never = -math.inf if self.higher_is_better else math.inf
            value = never if run.is_broken_off else run.metrics.get(self.name)
            return None if value is None else Measured(value)
        reached, limit = getattr(run, self.name), getattr(run, self.limit)
        is_there = reached is not None and not run.is_broken_off
        return Measured(float(reached) if is_there else math.inf, math.inf if limit is None else float(limit))

    def is_miss(self, run: ConfirmSeed) -> bool:
        """Tell whether a run never arrived, or was broken off."""
        return run.is_broken_off or (self.is_time and run.outcome == "missed")


TIMES = (
    Metric(PRIMARY_METRIC, "budget_steps"),
    Metric("seconds_to_target", "seconds"),
    Metric("gradient_evaluations_to_target", "gradient_evaluations"),
)


def metrics_of(task: TaskOptions) -> tuple[Metric, ...]:
    """List what arms are compared on: times, the training loss, and what the task measures beside the loss.

    A metric of which more is better may be 0 or less, so two arms differ in it by a difference and not by a ratio.
    """
    finals = [f"{split}_{name}" for name in task.metrics for split in ("validation", "test")]
    made = (
        Metric(name, None, "difference", higher_is_better=True) if is_higher_better(name) else Metric(name, None)
        for name in finals
    )
    return (*TIMES, Metric("train_loss", None), *made)
