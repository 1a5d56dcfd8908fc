"""The learning-rate schedules a spec may name: what the optimizer's rate is multiplied with at each step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from orchestrator.spec.options.entry import Entry, NamedOptions


class LrScheduleOptions(NamedOptions):
    """Settings that every schedule has.

    Args:
        warmup: optimizer steps at the start during which the rate rises on a straight line to the full rate.
    """

    warmup: NonNegativeInt = 0


class ConstantOptions(LrScheduleOptions):
    """The full rate to the end."""

    name: Literal["constant"]


class CosineOptions(LrScheduleOptions):
    """Half a cosine from the full rate down to the end of the run (arXiv 1608.03983, without restarts).

    Args:
        final: share of the full rate at the end.
    """

    name: Literal["cosine"]
    final: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0


class StepOptions(LrScheduleOptions):
    """The rate times ``factor`` every so many steps.

    Args:
        every: optimizer steps between drops; the first drop comes this many steps after the warm-up.
        factor: what each drop multiplies the rate by.
    """

    name: Literal["step"]
    every: PositiveInt
    factor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1


LR_SCHEDULES: dict[str, Entry] = {
    "constant": Entry(ConstantOptions, "orchestrator.trial.optimizers:constant"),
    "cosine": Entry(CosineOptions, "orchestrator.trial.optimizers:cosine"),
    "step": Entry(StepOptions, "orchestrator.trial.optimizers:step"),
}
