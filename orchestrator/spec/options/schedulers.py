"""The schedulers that may stop a candidate of the search early; Optuna's pruners decide."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from orchestrator.spec.options.entry import Entry, NamedOptions
from orchestrator.spec.options.tasks import CurveMetric

# Positions are counted in thousandths of a candidate's budget, which is that of all its seeds together.
WHOLE_BUDGET = 1_000

BudgetShare = Annotated[float, Field(ge=1 / WHOLE_BUDGET, lt=1.0)]


class SchedulerOptions(NamedOptions, ABC):
    """A scheduler, which judges candidates at fixed positions."""

    @property
    @abstractmethod
    def rungs(self) -> tuple[int, ...]:
        """The positions where a candidate is judged, in thousandths of its budget, ascending; empty: nowhere."""


class NoSchedulerOptions(SchedulerOptions):
    """Every candidate is trained to its end."""

    name: Literal["none"]

    @property
    def rungs(self) -> tuple[int, ...]:
        """No position."""
        return ()


class StoppingOptions(SchedulerOptions):
    """Settings that every scheduler which stops a candidate by its curves has.

    Args:
        grace: share of a candidate's budget, all its seeds together, before which it is never judged.
        metric: what candidates are judged by; None: the search's objective or, where that is a time to the target, the
            target's metric.
    """

    grace: BudgetShare = 0.1
    metric: CurveMetric | None = None

    @property
    def grace_position(self) -> int:
        """``grace`` in thousandths."""
        return round(self.grace * WHOLE_BUDGET)


class HalvingOptions(StoppingOptions):
    """Successive halving.

    Args:
        reduction_factor: one in so many of the candidates that reach a rung goes on; each rung is so many times further
            than the one before.
    """

    reduction_factor: Annotated[int, Field(ge=2)] = 3

    @property
    def rungs(self) -> tuple[int, ...]:
        """``grace`` times the powers of the reduction factor."""
        found = [self.grace_position]
        while found[-1] * self.reduction_factor < WHOLE_BUDGET:
            found.append(found[-1] * self.reduction_factor)
        return tuple(found)


class AshaOptions(HalvingOptions):
    """Asynchronous successive halving (arXiv 1810.05934), as in ``optuna.pruners.SuccessiveHalvingPruner``."""

    name: Literal["asha"]


class HyperbandOptions(HalvingOptions):
    """Successive halving in brackets, each with a longer grace than the one before (arXiv 1603.06560).

    As in ``optuna.pruners.HyperbandPruner``; a candidate's bracket follows from the study's name and its number.
    """

    name: Literal["hyperband"]


class MedianOptions(StoppingOptions):
    """Stops a candidate whose best value so far is worse than the median of those that were trained in full.

    As in ``optuna.pruners.MedianPruner``.

    Args:
        interval: share of the budget from one judgement to the next.
        startup_trials: how many candidates must have been trained in full before one is stopped.
    """

    name: Literal["median"]
    interval: BudgetShare = 0.1
    startup_trials: NonNegativeInt = 5

    @property
    def interval_length(self) -> int:
        """``interval`` in thousandths."""
        return round(self.interval * WHOLE_BUDGET)

    @property
    def rungs(self) -> tuple[int, ...]:
        """``grace``, and every ``interval`` after it."""
        return tuple(range(self.grace_position, WHOLE_BUDGET, self.interval_length))


class WilcoxonOptions(SchedulerOptions):
    """Gives a setting of a shared search no more trials once the best setting has beaten it on enough trials.

    It compares them on pairs of a workload and a seed, as in ``optuna.pruners.WilcoxonPruner``.

    Args:
        p_threshold: threshold of the one-sided signed-rank test, which is made after every pair; so the false-positive
            rate over a whole setting is larger.
        n_startup_steps: pairs before which no setting is given up.
    """

    name: Literal["wilcoxon"]
    # Just above 1/8, so that a setting that has lost its first three pairs may go.
    p_threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.13
    n_startup_steps: NonNegativeInt = 2

    @property
    def rungs(self) -> tuple[int, ...]:
        """No position: no candidate is judged by its own curve."""
        return ()

    @property
    def min_pairs(self) -> int:
        """The fewest pairs after which a setting can be given up: if all of n pairs are against it, p = 2^-n."""
        return max(2, self.n_startup_steps, math.floor(-math.log2(self.p_threshold)) + 1)


SCHEDULERS: dict[str, Entry] = {
    "none": Entry(NoSchedulerOptions, "orchestrator.search.early_stopping:none"),
    "asha": Entry(AshaOptions, "orchestrator.search.early_stopping:asha"),
    "median": Entry(MedianOptions, "orchestrator.search.early_stopping:median"),
    "hyperband": Entry(HyperbandOptions, "orchestrator.search.early_stopping:hyperband"),
    "wilcoxon": Entry(WilcoxonOptions, "orchestrator.search.early_stopping:loses"),
}
