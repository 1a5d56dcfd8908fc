"""Trial configurations and results: the wire format between trial, launcher, files, tracker and report.

Everything here is frozen pydantic and JSON both ways. Nothing here imports torch, ray or mlflow.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.spec import CHECKPOINT_EVERY, Arm, Json, Objective, Phase, Share, SweepSpec, Workload, digest


class Record(BaseModel):
    """A frozen JSON record; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrialConfig(Record):
    """One configuration on one list of seeds in one phase.

    Args:
        workload: label of the workload in the spec.
        arm: label of the arm in the spec.
        phase: search may be adaptive; claims come from confirm alone.
        seeds: each is trained from its own initial weights and data order.
        training: what is trained, every value fixed.
        method: how it is trained, every value fixed.
        objective: what the search improves.
        also: what it improves beside that.
        values: what each distribution of the spec became, by dotted path; empty where none was.
        number: the trial's number in its Optuna study; None in confirm.
        origin: in confirm, the id of the search trial whose configuration this is.
        share: what the trial is given; no part of its identity.
        checkpoint_every: wall-clock seconds between checkpoints; None: none is taken; no part of its identity.
        system_metrics_every: wall-clock seconds between measurements of the machine; None: none is taken; no part of
            its identity.
    """

    workload: str
    arm: str
    phase: Phase
    seeds: tuple[int, ...]
    training: Workload
    method: Arm
    objective: Objective = Objective()
    also: tuple[Objective, ...] = ()
    values: dict[str, Json] = Field(default_factory=dict)
    number: int | None = None
    origin: str | None = None
    share: Share = Share()
    checkpoint_every: float | None = CHECKPOINT_EVERY
    system_metrics_every: float | None = None

    @property
    def study(self) -> str:
        """Name of the study: ``workload/arm``."""
        return f"{self.workload}/{self.arm}"

    @cached_property
    def configuration_id(self) -> str:
        """Hash of workload, arm and every value, whatever the phase and seeds; where data lies does not count.

        A value at its default does not count either, so that an option added to the catalogue leaves the ids of
        older homes as they are; which is why the default of an existing option is never changed.
        """
        training = self.training.model_dump(mode="json", exclude_defaults=True)
        training["data"].pop("root", None)
        method = self.method.model_dump(mode="json", exclude_defaults=True)
        return digest([self.workload, self.arm, training, method])

    @cached_property
    def trial_id(self) -> str:
        """Hash of configuration, workload, arm, phase and seeds."""
        return digest([self.configuration_id, self.phase, list(self.seeds)])


class HistoryRow(Record):
    """One evaluation of one seed: a line of ``history.jsonl``.

    Args:
        seed: which seed.
        step: optimizer steps taken.
        epoch: passes over the training split, fractional.
        seconds: on the optimizer clock: forward, backward, optimizer and teleport; evaluation is off it.
        teleport_seconds: the teleports' part of ``seconds``.
        gradient_evaluations: gradients computed so far, a double backward as what it costs.
        num_teleports: teleports so far that moved the weights.
        metrics: ``train_loss`` (fixed training subset, evaluation mode), ``validation_loss``,
            ``validation_accuracy``, and, where a teleport moved the weights since the last row,
            ``teleport_loss_drift`` (largest absolute), ``teleport_gain`` (mean ratio of ‖g‖² after to before),
            with a probe ``teleport_probe_drift`` (largest absolute) and, where it moved them in null spaces,
            ``teleport_null_dim`` (mean over the layers moved); ``test_loss`` and ``test_accuracy`` in the last row of
            a confirm trial. All finite.
        system: how busy the machine is, in MLflow's names; empty where that was not asked for or not due, and then
            not written. Nothing is decided by it.
    """

    seed: int
    step: int
    epoch: float
    seconds: float
    teleport_seconds: float
    gradient_evaluations: float
    num_teleports: int
    metrics: dict[str, float]
    system: dict[str, float] = Field(default_factory=dict, exclude_if=operator.not_)


class LayerSummary(Record):
    """One layer over all teleports of a seed.

    Args:
        name: dotted module name.
        d_in: input dimensions.
        mean_rank: mean rank of the preserved subspace; None: never factorised.
        mean_null_dim: mean dimension of the null space; None: never factorised.
        moved: how many teleports moved it.
        reason: why it did not move, the last time it did not.
    """

    name: str
    d_in: int
    mean_rank: float | None
    mean_null_dim: float | None
    moved: int
    reason: str | None


class StepSummary(Record):
    """What a seed's teleports had come to after so many of their steps.

    Args:
        step: teleport steps taken, from 1.
        count: teleports that got so far.
        gain: geometric mean over these of ‖g‖² now over before the teleport.
        loss_drift: mean absolute change of the loss on the teleport batch since then.
        probe_drift: the same on the probe; None: none, or not measured at each step.
    """

    step: int
    count: int
    gain: float
    loss_drift: float
    probe_drift: float | None = None


class LayerSpectrum(Record):
    """How the energy of a layer's inputs lies in their directions, the strongest first.

    Args:
        name: dotted module name.
        d_in: input dimensions.
        directions: numbers of directions, at most 64 of them, the last all that have been found.
        shares: of the energy that so many directions hold.
    """

    name: str
    d_in: int
    directions: tuple[int, ...]
    shares: tuple[float, ...]


class TeleportSummary(Record):
    """All teleports of one seed, or what its arm does in their place.

    Args:
        count: teleports tried.
        outcomes: how many ended how.
        mean_gain: geometric mean of ‖g‖² after over before, of those that moved, or were measured and put back;
            None: none did.
        max_loss_drift: largest absolute change of the loss on a teleport batch; None: none moved.
        layers: the model's layers in order.
        max_probe_drift: largest absolute change of the loss on a probe; None: none moved, or there was no probe.
        steps: step by step, at most the first 64; empty where nothing moved or the results are older than this.
        spectra: of the layers' inputs at the first teleport; empty where the options did not ask for them.
        seconds: wall-clock of all of them by phase, as the engine measures it; empty where the results are older.
    """

    count: int
    outcomes: dict[str, int]
    mean_gain: float | None
    max_loss_drift: float | None
    layers: tuple[LayerSummary, ...]
    max_probe_drift: float | None = None
    steps: tuple[StepSummary, ...] = ()
    spectra: tuple[LayerSpectrum, ...] = ()
    seconds: dict[str, float] = Field(default_factory=dict)


class SeedResult(Record):
    """One seed of a trial.

    Args:
        seed: which.
        outcome: ``diverged`` where the loss was no longer finite; ``stopped`` where the scheduler ended the trial
            before the seed had its budget, which says nothing about what it did not reach.
        num_steps: optimizer steps taken.
        budget_steps: optimizer steps the workload allows: where a miss is censored.
        steps_to_target: steps at the first evaluation that reached the target; None: not reached (censored).
        seconds_to_target: the same on the optimizer clock.
        gradient_evaluations_to_target: the same in gradients.
        seconds: the whole run on the optimizer clock.
        teleport_seconds: the teleports' part of it.
        gradient_evaluations: gradients computed.
        metrics: the last row's metrics; empty where none was finite.
        teleports: None where the arm has none, and in a trial that was stopped.
    """

    seed: int
    outcome: Literal["completed", "diverged", "stopped"]
    num_steps: int
    budget_steps: int
    steps_to_target: int | None
    seconds_to_target: float | None
    gradient_evaluations_to_target: float | None
    seconds: float
    teleport_seconds: float
    gradient_evaluations: float
    metrics: dict[str, float]
    teleports: TeleportSummary | None = None


class TrialState(StrEnum):
    """How a trial ended."""

    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


FailureKind = Literal["diverged", "expression", "timeout", "crashed", "memory", "lost"]
# They speak of the configuration rather than of the machine.
ANSWERS: frozenset[str] = frozenset({"diverged", "expression", "timeout"})


class TrialFailure(Record):
    """Why a trial is FAIL.

    Args:
        kind: ``diverged`` (a loss was not finite), ``expression`` (one of its rules gave no number that can be used),
            ``timeout`` (it was over the budget of one trial), ``crashed`` (an exception), ``memory`` (there was not
            enough) or ``lost`` (the worker died).
        message: one line.
        traceback: where it was raised; empty for the other kinds.
    """

    kind: FailureKind
    message: str
    traceback: str = ""

    @property
    def is_answer(self) -> bool:
        """Whether it speaks of the configuration rather than of the machine; such a trial has had its budget."""
        return self.kind in ANSWERS


class Machine(Record):
    """Where a trial ran.

    Args:
        host: the node's name.
        device: ``cpu`` or the GPU's name.
        num_threads: torch's threads.
        versions: of python, torch and the platform.
    """

    host: str
    device: str
    num_threads: int
    versions: dict[str, str]


class TrialResult(Record):
    """How a trial ended: ``result.json``.

    Args:
        version: of this format.
        trial_id: whose.
        state: COMPLETE, PRUNED or FAIL.
        value: the objective over the seeds; None unless COMPLETE.
        values: where there are several objectives, each of them over the seeds; empty unless COMPLETE.
        seeds: a result for each seed that ran.
        failure: why, where the state is FAIL.
        started_at: Unix time in seconds.
        ended_at: Unix time in seconds.
        machine: where it ran; None where the worker died, or was ended from outside.
    """

    version: Literal[1] = 1
    trial_id: str
    state: TrialState
    value: float | None
    values: tuple[float, ...] = ()
    seeds: tuple[SeedResult, ...]
    failure: TrialFailure | None = None
    started_at: float
    ended_at: float
    machine: Machine | None = None

    @property
    def failure_kind(self) -> FailureKind | None:
        """Why it is FAIL; None: it is not."""
        return None if self.failure is None else self.failure.kind

    @property
    def is_no_answer(self) -> bool:
        """Whether it failed without telling of its configuration."""
        return self.failure is not None and not self.failure.is_answer

    @classmethod
    def lost(cls, trial_id: str, message: str, started_at: float, ended_at: float, kind: FailureKind = "lost") -> Self:
        """Make the result of a trial whose worker died without giving one."""
        return cls._without_seeds(trial_id, TrialFailure(kind=kind, message=message), started_at, ended_at)

    @classmethod
    def timed_out(cls, trial_id: str, message: str, started_at: float, ended_at: float) -> Self:
        """Make the result of a trial that was ended since it was over the budget of one trial."""
        return cls._without_seeds(trial_id, TrialFailure(kind="timeout", message=message), started_at, ended_at)

    @classmethod
    def _without_seeds(cls, trial_id: str, failure: TrialFailure, started_at: float, ended_at: float) -> Self:
        return cls(
            trial_id=trial_id,
            state=TrialState.FAIL,
            value=None,
            seeds=(),
            failure=failure,
            started_at=started_at,
            ended_at=ended_at,
        )


def objective_value(objective: Objective, seeds: Iterable[SeedResult]) -> float:
    """Average the objective over seeds that all completed.

    A seed that missed its target counts as twice its budget, or as twice what its run has cost: worse than any
    hit, and finite, so that samplers can rank configurations that miss on some seeds only.

    Args:
        objective: which metric.
        seeds: at least one result.

    Returns:
        The arithmetic mean over the seeds.
    """
    values = [_seed_value(objective.metric, seed) for seed in seeds]
    return sum(values) / len(values)


def _seed_value(metric: str, seed: SeedResult) -> float:
    if metric == "steps_to_target":
        return float(2 * seed.budget_steps if seed.steps_to_target is None else seed.steps_to_target)
    if metric == "seconds_to_target":
        return 2 * seed.seconds if seed.seconds_to_target is None else seed.seconds_to_target
    if metric == "gradient_evaluations_to_target":
        found = seed.gradient_evaluations_to_target
        return 2 * seed.gradient_evaluations if found is None else found
    if metric == "seconds":
        return seed.seconds
    if metric == "gradient_evaluations":
        return seed.gradient_evaluations
    return seed.metrics[metric]


class Trial(Record):
    """A trial as the report and the tracker read it: its configuration, how it ended, its curves.

    Args:
        config: what ran.
        result: how it ended; None while it runs or where it was cut off.
        history: its rows in order; may be empty where only the end is asked for.
    """

    config: TrialConfig
    result: TrialResult | None = None
    history: tuple[HistoryRow, ...] = ()

    @property
    def trial_id(self) -> str:
        """The configuration's trial id."""
        return self.config.trial_id


class Provenance(Record):
    """Where a sweep comes from, so that its claim can be traced.

    Args:
        command: the command that runs it again, for a shell.
        git_commit: of the code; None outside a repository.
        git_dirty: whether the code differed from that commit; None outside a repository.
        versions: of python, torch, ray, optuna, mlflow and this package.
        host: where the driver ran.
        started_at: Unix time in seconds.
    """

    command: str
    git_commit: str | None
    git_dirty: bool | None
    versions: dict[str, str]
    host: str
    started_at: float


class SweepOutcome(Record):
    """How a sweep ended: ``outcome.json``, there only while no run of it is under way.

    Args:
        status: FAILED where it counts as failed.
        failures: why, a sentence each.
        ended_early: the budget that ended it before its last trial, in a sentence; empty: it ran to its end.
    """

    status: Literal["FINISHED", "FAILED"]
    failures: tuple[str, ...] = ()
    ended_early: str = ""


class WarmStart(Record):
    """What each study begins with: ``warm_start.json``.

    Args:
        sweep: name of the one that it comes from.
        points: name of each study -> what it proposes first.
    """

    sweep: str
    points: dict[str, list[dict[str, Json]]]


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as it is stored: what was asked, where it comes from, what came out.

    Args:
        spec: as run.
        provenance: where it comes from.
        trials: every trial that was begun.
        ended_early: the budget that ended it before its last trial, in a sentence; empty: none did.
    """

    spec: SweepSpec
    provenance: Provenance
    trials: tuple[Trial, ...]
    ended_early: str = ""
