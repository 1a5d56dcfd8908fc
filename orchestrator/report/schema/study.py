"""What one study found: its search, its confirm runs, its curves, its price."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.home import ANSWERS, FailureKind, LayerSummary, StepSummary
from orchestrator.report.schema.evidence import Arrival, Tuning
from orchestrator.report.schema.part import Part
from orchestrator.report.schema.search import Importance, Parameter, SearchTrial, SharedSearch
from orchestrator.spec import Json, Role


class ConfirmSeed(Part):
    """One seed of the confirm phase.

    Args:
        trial_id: whose.
        seed: which.
        outcome: ``reached`` or ``missed`` the target, ``diverged``, ``expression`` or ``timeout`` (each counts as a
            miss), ``crashed`` or ``lost`` (a missing pair), ``running``.
        budget_steps: where a miss is censored; None where nothing ran.
        steps_to_target: None: not reached.
        seconds_to_target: on the optimizer clock.
        gradient_evaluations_to_target: a double backward as what it costs.
        seconds: of the whole run.
        teleport_seconds: the teleports' part of them.
        gradient_evaluations: of the whole run.
        metrics: the last row's.
    """

    trial_id: str
    seed: int
    outcome: Literal["reached", "missed", "running"] | FailureKind
    budget_steps: int | None = None
    steps_to_target: int | None = None
    seconds_to_target: float | None = None
    gradient_evaluations_to_target: float | None = None
    seconds: float | None = None
    teleport_seconds: float | None = None
    gradient_evaluations: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)

    @property
    def is_answer(self) -> bool:
        """Whether it says something about its target: a crash does not."""
        return self.outcome in {"reached", "missed"} or self.is_broken_off

    @property
    def is_broken_off(self) -> bool:
        """Whether it never came to its end by its own fault, which is as bad as can be."""
        return self.outcome in ANSWERS


class ConfirmCandidate(Part):
    """A configuration that the search sent to confirm.

    Args:
        trial_id: of the search trial.
        number: of the search trial in its study.
        rank: 1 is the best by search; it alone is compared, so that confirm chooses nothing.
        value: the objective in search.
        values: what each distribution became.
        yaml: the configuration as a spec that runs.
        median_steps_to_target: over its confirm runs that gave an answer, ``inf`` as soon as half of them miss;
            None before.
        median_seconds_to_target: likewise.
        confirm: its confirm runs, in the order of the sweep's seeds.
        aggregate: of a shared search, the setting's value over all workloads; None where it has its own.
        roles: of a shared search, for what it is confirmed, as ``confirm.candidates`` names it; empty: by its
            rank alone.
    """

    trial_id: str
    number: int | None
    rank: int
    value: float
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
        directions: as shares of ``d_in``, at most 64 of them.
        shares: of the energy that so many directions hold; mean over the runs.
    """

    layer: str
    d_in: int
    directions: tuple[float, ...]
    shares: tuple[float, ...]


class Price(Part):
    """What the treatment cost and did, over the confirm seeds of an arm.

    Args:
        seconds: median optimizer-clock seconds of a run.
        teleport_seconds: median of the teleports' part.
        teleport_share: teleports' part of all seconds, of all runs together.
        gradient_evaluations: median of a run.
        num_teleports: tried in all runs.
        outcomes: how many ended how.
        gain: geometric mean of ‖g‖² after over before a teleport; None: none moved.
        max_loss_drift: largest absolute change of the loss on a teleport batch; None: none moved.
        max_probe_drift: the same on the probes, data outside the teleport batches; None: none moved, or no probe.
        layers: means over the runs.
        null_shares: of those that were factorised: mean null space as a share of the layer's inputs.
        seconds_per_teleport: of all runs together; None where there was none.
        steps: what the teleports had come to step by step: of all runs together, each teleport counting alike.
        spectra: empty where the spec did not ask for them.
        seconds_by_phase: of all runs together, by phase of a teleport: ``capture``, ``subspace``, ``direction``,
            ``apply``; empty where the results are from before this was kept.
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
        seed: which.
        is_diverged: whether the loss was no longer finite after the last point.
        step: optimizer steps.
        seconds: on the optimizer clock.
        metrics: by name; None where a row lacks it.
        gradient_evaluations: so far, a double backward as what it costs.
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
        metric: of the curves.
        axis: ``step``, ``seconds`` or ``gradient_evaluations``.
        x: positions.
        median: None where it is infinite: half the runs diverged before.
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
        metric: of the workload's target.
        target: its value.
        baseline: median of the baseline's metric over the seeds on which the arm arrived, on the same seeds, as last
            measured by that second of the optimizer clock; at or beyond the target: the baseline was there first.
        num_seeds: how many these are.
    """

    metric: str
    target: float
    baseline: float
    num_seeds: int


class StudyReport(Part):
    """One workload under one arm.

    Args:
        workload: label.
        arm: label.
        kind: of the arm.
        num_trials: search trials that ended.
        num_planned: search trials that shall give an answer.
        num_replaced: more that are tried because as many crashed or were lost.
        num_complete: of those that ended, COMPLETE.
        num_pruned: PRUNED: stopped early by the search's scheduler, an answer, and counted in the budget.
        num_diverged: FAIL because the loss was not finite: an answer, and counted in the budget.
        num_crashed: crashed, lost or out of memory: no answer.
        best: the candidate that is compared; None while the search has none.
        candidates: all that were sent to confirm, best by search first.
        search: every search trial in the order of its number.
        price: over the best's confirm runs; None before.
        curves: of the best's confirm runs.
        bands: over these curves.
        source: label of the teleport arm whose chosen settings a control takes; None: it has its own.
        equal_time: None for the baseline, and where no seed arrived.
        tau: of the best's teleports, ``auto`` or its expression where it is chosen per layer; None: it has none, or
            there is no best.
        num_timeout: FAIL because it was over the budget of one trial: an answer too.
        num_undefined: FAIL because an expression gave no number that can be used: an answer too.
        arrivals: of the best's confirm runs, by metric; empty before.
        tuning: what less search would have found; None where it has had none of its own.
        space: what was searched over; what a control takes from its source is not.
        importance: the most important first; empty where too few trials are COMPLETE, and where it was not asked for.
        shared: where one search was for all workloads; its trials here are the settings on this one.
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

    @property
    def num_answers(self) -> int:
        """Search trials that say something of their configuration: what two arms' budgets are compared by."""
        return self.num_trials - self.num_crashed

    @property
    def num_wanted(self) -> int:
        """Search trials in all, those that replace a crash included."""
        return self.num_planned + self.num_replaced
