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
        kind: of its values.
        low: smallest value; None for a choice.
        high: largest value; None for a choice.
        is_log: searched in the logarithm.
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
        parameter: name.
        share: of all parameters' importances, by PED-ANOVA (Watanabe et al. 2023), conditional ones included.
    """

    parameter: str
    share: float


class SearchTrial(Part):
    """One trial of the search.

    Args:
        trial_id: whose.
        number: in its study.
        state: COMPLETE, PRUNED, FAIL, or RUNNING where it has not ended.
        value: the objective; None unless COMPLETE.
        steps_to_target: median over its seeds, ``inf`` for a miss; None unless COMPLETE.
        seconds: on the optimizer clock, all seeds together; of one that timed out the wall clock's.
        values: what each distribution became.
        share: of its budget of optimizer steps that it ran, all seeds together.
        objectives: where there are several, each of them, ``value`` first; empty unless COMPLETE.
        failure: kind of its failure; None unless FAIL.
        aggregate: of a shared search, the setting's value over all workloads; None unless COMPLETE.
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
        """Whether it was spent and says something of its configuration: a crash does not."""
        return self.state != "RUNNING" and self.failure in {None, *ANSWERS}


class SharedSearch(Part):
    """The search of an arm over all workloads at once.

    Args:
        aggregation: what becomes of the ratios of a setting's costs to the tuned baselines'.
        value: the best aggregate, that of the chosen setting; None: no setting ran in full.
        num_settings: that were begun.
        num_complete: of these, on every workload and seed.
        num_pruned: of these, given up by the race.
        num_units: runs of a setting on one workload and seed that have ended.
        num_saved: of the settings that have ended, runs that were not needed, or not to their end.
    """

    aggregation: Aggregate
    value: float | None
    num_settings: int
    num_complete: int
    num_pruned: int
    num_units: int
    num_saved: int
