"""What a study searched over, what it tried, and which parameters mattered."""

from __future__ import annotations

from typing import Literal

from orchestrator.home import ANSWERS, FailureKind
from orchestrator.report.schema.part import Part
from orchestrator.spec import Aggregate, Json


class Parameter(Part):
    """One distribution of the spec that a study searches over.

    Args:
        name: dotted path, with the choices it depends on.
        low: smallest value; None for a choice.
        high: largest value; None for a choice.
        is_log: whether the logarithm is searched.
        choices: labels of the options, in the order of the spec; empty for a range.
    """

    name: str
    kind: Literal["float", "int", "choice"]
    low: float | None = None
    high: float | None = None
    is_log: bool = False
    choices: tuple[Json, ...] = ()


class Importance(Part):
    """How much a parameter decides whether a trial is among the best of its search.

    Args:
        share: its share of all parameters' importances by PED-ANOVA (Watanabe et al. 2023), conditional ones included.
    """

    parameter: str
    share: float


class SearchTrial(Part):
    """One candidate of the search on its workload, with its seeds merged.

    Args:
        number: its place in its study.
        state: COMPLETE, PRUNED, FAIL, or RUNNING where it has not ended.
        value: the objective; None unless COMPLETE.
        steps_to_target: median over its seeds, ``inf`` for a miss; None unless COMPLETE.
        seconds: on the optimizer clock, over all seeds; on the wall clock where it timed out.
        values: parameter -> the value it has here.
        share: which share of its budget of optimizer steps it ran, over all seeds.
        objectives: where there are several, each of them, ``value`` first; empty unless COMPLETE.
        failure: the kind of its failure; None unless FAIL.
        aggregate: in a shared search, the candidate's value over all workloads; None unless COMPLETE.
    """

    trial_id: str
    number: int | None
    state: Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    value: float | None
    steps_to_target: float | None
    seconds: float
    values: dict[str, Json]
    share: float = 0.0
    objectives: tuple[float, ...] = ()
    failure: FailureKind | None = None
    aggregate: float | None = None

    @property
    def is_answer(self) -> bool:
        """Whether it was spent and says something of its configuration, which a crash does not."""
        return self.state != "RUNNING" and self.failure in {None, *ANSWERS}


class SharedSearch(Part):
    """The search of an arm over all workloads at once.

    Args:
        aggregation: how the ratios of a candidate's costs to the tuned baselines' become one value.
        value: that of the chosen candidate, which is the best; None where no candidate ran in full.
        num_settings: candidates that were begun.
        num_complete: candidates that ran on every workload and seed.
        num_pruned: candidates that early stopping gave up.
        num_units: runs of a candidate on one workload and seed that have ended.
        num_saved: runs of ended candidates that were not needed, or not to their end.
    """

    aggregation: Aggregate
    value: float | None
    num_settings: int
    num_complete: int
    num_pruned: int
    num_units: int
    num_saved: int
