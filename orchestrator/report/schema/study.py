"""What one study found: its search, its confirm runs, its curves, its price."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.home import ANSWERS, FailureKind, LayerSummary, StepSummary
from orchestrator.report.schema.evidence import Arrival, Tuning
from orchestrator.report.schema.part import Part
from orchestrator.report.schema.search import Importance, Parameter, SearchTrial, SharedSearch
from orchestrator.spec import Json, Role

Lapse = Literal["lost", "at chance", "not finite"]


class ConfirmSeed(Part):
    """One seed of the confirm phase.

    Args:
        outcome: ``reached`` or ``missed`` the target; ``diverged``, ``expression`` or ``timeout`` (each counts as a
            miss); ``crashed``, ``memory`` or ``lost`` (the pair is missing); ``running``.
        budget_steps: where a miss is cut off; None where nothing ran.
        steps_to_target: None where the target was not reached.
        seconds_to_target: on the optimizer clock.
        gradient_evaluations_to_target: a double backward counts as what it costs.
        seconds: those of the whole run.
        teleport_seconds: the part of them that the teleports took.
        gradient_evaluations: those of the whole run.
        metrics: as last measured.
        lapse: what had gone wrong by its end, whether or not it had reached its target before. ``lost``: it was no
            longer at its target; ``at chance``: its loss was that of guessing; ``not finite``: it had diverged.
        replicates: the independent searches, from 0, that found the settings that ran.
    """

    trial_id: str
    seed: int
    outcome: Literal["reached", "missed", "running"] | FailureKind
    budget_steps: int | None = None
    steps_to_target: float | None = None
    seconds_to_target: float | None = None
    gradient_evaluations_to_target: float | None = None
    seconds: float | None = None
    teleport_seconds: float | None = None
    gradient_evaluations: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    lapse: Lapse | None = None
    replicates: tuple[int, ...] = (0,)

    @property
    def is_answer(self) -> bool:
        """Whether it says something about its target, which a crash does not."""
        return self.outcome in {"reached", "missed"} or self.is_broken_off

    @property
    def is_broken_off(self) -> bool:
        """Whether it did not come to its end by its own fault, which counts as the worst result."""
        return self.outcome in ANSWERS


class GridResult(Part):
    """An arm at one point of its workload's confirm grid.

    Args:
        parameter: name of the parameter that the grid is along; None where the points are whole configurations.
        rate: the value of this parameter, as a rule the learning rate; None likewise.
        values: parameter -> the value it has here.
        mean_steps: geometric mean of the steps to target over the confirm seeds, a miss as twice the budget; None where
            no run gave an answer.
        is_best: whether it is the arm's best point, at which the arm is compared.
        confirm: its confirm runs, in the order of the sweep's seeds.
    """

    parameter: str | None
    rate: float | None
    values: dict[str, Json]
    mean_steps: float | None
    is_best: bool
    confirm: tuple[ConfirmSeed, ...]


class ConfirmCandidate(Part):
    """A configuration that the search sent to confirm; the first one as it is at its best point of the grid.

    Args:
        trial_id: id of the search trial.
        number: the search trial's place in its study.
        rank: 1 is the best by search; it alone is compared, so that confirm chooses nothing.
        value: the objective in search; None where the search's only candidate diverged, or nothing was searched.
        values: parameter -> the value it has here.
        yaml: the configuration as a spec that runs.
        median_steps_to_target: over the confirm runs that gave an answer; ``inf`` as soon as half of them miss, None
            before.
        median_seconds_to_target: likewise.
        confirm: its confirm runs, in the order of the sweep's seeds.
        aggregate: in a shared search, the candidate's value over all workloads; None in any other search.
        roles: in a shared search, why it is confirmed, as ``confirm.candidates`` names it; empty where its rank is why.
    """

    trial_id: str
    number: int | None
    rank: int
    value: float | None
    values: dict[str, Json]
    yaml: str
    median_steps_to_target: float | None
    median_seconds_to_target: float | None
    confirm: tuple[ConfirmSeed, ...]
    aggregate: float | None = None
    roles: tuple[Role, ...] = ()


class Spectrum(Part):
    """How the energy of a layer's inputs lies in their directions at the first teleport, the strongest first.

    Args:
        layer: dotted module name.
        d_in: input dimensions.
        directions: numbers of directions as shares of ``d_in``, at most 64 of them.
        shares: the share of the energy that so many directions hold; mean over the runs.
    """

    layer: str
    d_in: int
    directions: tuple[float, ...]
    shares: tuple[float, ...]


class Price(Part):
    """What an arm cost and did, over its confirm seeds.

    Args:
        seconds: median seconds of a run on the optimizer clock.
        teleport_seconds: median of the teleports' part of them.
        teleport_share: the teleports' part of the seconds of all runs together.
        gradient_evaluations: median of a run.
        num_teleports: teleports that were tried in all runs.
        outcomes: outcome -> how many teleports had it.
        gain: geometric mean of ‖g‖² after over before a teleport; None where none moved.
        max_loss_drift: largest absolute change of the loss on a teleport batch; None where none moved.
        max_probe_drift: the same on the probe, which is data outside the teleport batches; None likewise or without a
            probe.
        layers: means over the runs.
        null_shares: for each factorised layer, the mean null space as a share of the layer's inputs.
        seconds_per_teleport: over all runs; None where there was no teleport.
        steps: gain and drifts step by step, over all runs; each teleport counts alike.
        spectra: empty where the spec did not ask for them.
        seconds_by_phase: over all runs, by phase of a teleport: ``capture``, ``subspace``, ``direction``, ``apply``.
    """

    seconds: float
    teleport_seconds: float
    teleport_share: float
    gradient_evaluations: float
    num_teleports: int = 0
    outcomes: dict[str, int] = Field(default_factory=dict)
    gain: float | None = None
    max_loss_drift: float | None = None
    max_probe_drift: float | None = None
    layers: tuple[LayerSummary, ...] = ()
    null_shares: dict[str, float] = Field(default_factory=dict)
    seconds_per_teleport: float | None = None
    steps: tuple[StepSummary, ...] = ()
    spectra: tuple[Spectrum, ...] = ()
    seconds_by_phase: dict[str, float] = Field(default_factory=dict)


class SeedCurve(Part):
    """One confirm run's curves, thinned; all lists are as long as ``step``.

    Args:
        is_diverged: whether the loss was no longer finite after the last point.
        step: optimizer steps.
        seconds: on the optimizer clock.
        metrics: name -> values, None where a row lacks the metric.
        gradient_evaluations: so far; a double backward counts as what it costs.
    """

    seed: int
    is_diverged: bool
    step: tuple[int, ...]
    seconds: tuple[float, ...]
    metrics: dict[str, tuple[float | None, ...]]
    gradient_evaluations: tuple[float, ...]


Axis = Literal["step", "seconds", "gradient_evaluations"]


class Band(Part):
    """Median and quartiles over the seeds, along one axis.

    Args:
        x: positions.
        median: None where it is infinite, since half the runs had diverged.
        low: lower quartile.
        high: upper quartile.
    """

    metric: str
    axis: Axis
    x: tuple[float, ...]
    median: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


class EqualTime(Part):
    """Where the baseline was after as many seconds as an arm took to its target.

    Args:
        metric: the metric of the workload's target.
        target: the target's value.
        baseline: the baseline's metric at that second of the optimizer clock, interpolated as times to target are, as a
            median over the seeds on which the arm arrived. Where it is at or beyond the target, the baseline was there
            first.
        num_seeds: how many these seeds are.
    """

    metric: str
    target: float
    baseline: float
    num_seeds: int


class StudyReport(Part):
    """One workload under one arm.

    Args:
        kind: the kind of the arm.
        num_trials: search trials that ended.
        num_planned: search trials that are to give an answer.
        num_complete: those that ended COMPLETE.
        num_pruned: those that early stopping ended; they are answers, and count in the budget.
        num_diverged: those whose loss was not finite; answers too.
        num_crashed: those that crashed, were lost or ran out of memory; they are no answers.
        best: the candidate that is compared; None while the search has none.
        candidates: all that were sent to confirm, the best by search first.
        search: every search trial in the order of its number.
        price: over the best's confirm runs; None before.
        curves: those of the best's confirm runs.
        bands: medians and quartiles of these curves.
        source: label of the teleport arm whose chosen settings a control takes; None where it has its own.
        equal_time: None for the baseline, and where no seed arrived.
        tau: that of the best's teleports, in words where a rule chooses it; None where it has none, or there is no
            best.
        num_timeout: search trials that were over the budget of one trial; answers too.
        num_undefined: search trials in which an expression gave no number that can be used; answers too.
        num_replaced: search trials that are tried in place of crashed or lost ones.
        arrivals: those of the best's confirm runs, by metric; empty before.
        tuning: what less search would have found; None where the arm has no search of its own.
        space: what was searched over, without what a control takes from its source.
        importance: the most important first; empty where too few trials are COMPLETE, or where it was not asked for.
        shared: the search over all workloads, where there is one; its candidates on this workload are in ``search``.
        grid: the best at every point of the confirm grid; empty before confirm, and where there is no grid.
        evaluate_every: optimizer steps between two evaluations of the best's confirm runs; None before they end.
    """

    workload: str
    arm: str
    kind: str
    num_trials: int
    num_planned: int
    num_complete: int
    num_pruned: int
    num_diverged: int
    num_crashed: int
    best: ConfirmCandidate | None
    candidates: tuple[ConfirmCandidate, ...]
    search: tuple[SearchTrial, ...]
    price: Price | None = None
    curves: tuple[SeedCurve, ...] = ()
    bands: tuple[Band, ...] = ()
    source: str | None = None
    equal_time: EqualTime | None = None
    tau: float | str | None = None
    num_timeout: int = 0
    num_undefined: int = 0
    num_replaced: int = 0
    arrivals: tuple[Arrival, ...] = ()
    tuning: Tuning | None = None
    space: tuple[Parameter, ...] = ()
    importance: tuple[Importance, ...] = ()
    shared: SharedSearch | None = None
    grid: tuple[GridResult, ...] = ()
    evaluate_every: int | None = None

    @property
    def num_answers(self) -> int:
        """Search trials that say something of their configuration, by which two arms' budgets are compared."""
        return self.num_trials - self.num_crashed

    @property
    def num_wanted(self) -> int:
        """Search trials in all, those that replace a crash included."""
        return self.num_planned + self.num_replaced
