"""The records of candidates, trials and sweeps, which trial, launcher, files, tracker and report exchange as JSON."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.spec import CHECKPOINT_EVERY, Arm, Json, Objective, Phase, Share, SweepSpec, Workload, digest


class Record(BaseModel):
    """A frozen record that is read from JSON and written to it; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrialConfig(Record):
    """What one trial runs: a candidate of an arm on a seed, in one phase. The last four fields do not identify it.

    Args:
        workload: label of the workload in the spec.
        arm: label of the arm in the spec.
        phase: search or confirm; claims rest on confirm alone.
        seeds: each seed has its own initial weights and data order.
        training: the workload with every value fixed.
        method: the arm with every value fixed.
        objective: the metric that the search improves.
        also: further metrics that it improves.
        values: by dotted path, the value that was drawn from each distribution of the spec.
        number: the candidate's number in its Optuna study; None in confirm.
        origin: in confirm, the id of the search trial that had this configuration, or would have it where nothing was
            searched.
        replicate: which of the arm's independent searches it comes from, from 0.
        share: the resources that the trial is given.
        checkpoint_every: wall-clock seconds between checkpoints; None takes none.
        system_metrics_every: wall-clock seconds between measurements of the machine; None takes none.
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
    replicate: int = 0
    share: Share = Share()
    checkpoint_every: float | None = CHECKPOINT_EVERY
    system_metrics_every: float | None = None

    @property
    def study(self) -> str:
        """The name of the study, ``workload/arm``."""
        return f"{self.workload}/{self.arm}"

    @property
    def place(self) -> str:
        """The candidate's place in its search, ``#3`` or ``#3 of search 2``; in confirm the seed, ``seed 1000``."""
        if self.phase == "confirm":
            return f"seed {self.seeds[0]}"
        return f"#{self.number}{f' of search {self.replicate + 1}' if self.replicate else ''}"

    @cached_property
    def configuration_id(self) -> str:
        """Hash of workload, arm and every value; the phase, the seeds and the place of the data do not count.

        Values at their defaults do not count either, so that a new option leaves the ids in older homes as they are.
        For the same reason the default of an option is never changed.
        """
        method = self.method.model_dump(mode="json", exclude_defaults=True)
        return digest([self.workload, self.arm, self.training.identifying_values(), method])

    @cached_property
    def trial_id(self) -> str:
        """Hash of the configuration, the phase and the seeds."""
        return self.trial_id_on(self.seeds)

    def trial_id_on(self, seeds: Sequence[int]) -> str:
        """Tell the id of the same trial on other seeds."""
        return digest([self.configuration_id, self.phase, list(seeds)])


class HistoryRow(Record):
    """One evaluation during a trial, which is one line of ``history.jsonl``.

    Args:
        seed: the seed that ran.
        step: optimizer steps taken.
        epoch: passes over the training split, fractional.
        seconds: on the optimizer clock, which counts forward, backward, optimizer and teleport, but no evaluation.
        teleport_seconds: the part of ``seconds`` that teleports took.
        gradient_evaluations: gradients computed so far; a double backward counts as what it costs.
        num_teleports: teleports so far that moved the weights.
        metrics: all finite: ``train_loss`` (fixed training subset, evaluation mode), ``validation_loss`` and
            ``validation_accuracy``. If a teleport moved the weights since the last row, also
            ``teleport_loss_drift`` (largest absolute) and ``teleport_gain`` (mean ratio of ‖g‖² after to before);
            with a probe ``teleport_probe_drift`` (largest absolute), and after moves in null spaces
            ``teleport_null_dim`` (mean over the layers moved). The last row of a confirm trial has ``test_loss`` and
            ``test_accuracy``.
        system: how busy the machine is, under MLflow's names; empty unless it was measured for this row.
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
        mean_rank: mean rank of the preserved subspace; None if the layer was never factorised.
        mean_null_dim: mean dimension of the null space; None if the layer was never factorised.
        moved: number of teleports that moved the layer.
        reason: why it did not move, the last time that it did not.
    """

    name: str
    d_in: int
    mean_rank: float | None
    mean_null_dim: float | None
    moved: int
    reason: str | None


class StepSummary(Record):
    """What a seed's teleports had reached after some number of their steps.

    Args:
        step: teleport steps taken, from 1.
        count: teleports that took so many steps.
        gain: geometric mean over these of ‖g‖² after the step over ‖g‖² before the teleport.
        loss_drift: mean absolute change of the loss on the teleport batch since the teleport began.
        probe_drift: the same on the probe; None without a probe, or if it was not measured at each step.
    """

    step: int
    count: int
    gain: float
    loss_drift: float
    probe_drift: float | None = None


class LayerSpectrum(Record):
    """How much of the energy of a layer's inputs lies in the strongest directions.

    Args:
        name: dotted module name.
        d_in: input dimensions.
        directions: at most 64 numbers of directions; the last one counts all that were found.
        shares: the share of the energy that each of these numbers of directions holds.
    """

    name: str
    d_in: int
    directions: tuple[int, ...]
    shares: tuple[float, ...]


class TeleportSummary(Record):
    """All teleports of one seed, or what its arm does in their place.

    Args:
        count: teleports tried.
        outcomes: number of teleports by outcome.
        mean_gain: geometric mean of ‖g‖² after over before, of the teleports that moved the weights, or that were
            measured and undone; None without any.
        max_loss_drift: largest absolute change of the loss on a teleport batch; None if none moved.
        layers: the model's layers in order.
        max_probe_drift: largest absolute change of the loss on a probe; None if none moved or there was no probe.
        steps: at most the first 64 steps; empty if nothing moved.
        spectra: of the layers' inputs at the first teleport; empty unless the options asked for them.
        seconds: wall-clock seconds of all teleports by phase, as the engine measures them.
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
    """How one seed of a trial ended.

    Args:
        seed: the seed that ran.
        outcome: ``diverged`` if the loss was no longer finite; ``stopped`` if the scheduler ended the trial before the
            seed had its budget, so that a target which it did not reach is no miss.
        num_steps: optimizer steps taken.
        budget_steps: optimizer steps that the workload allows; a miss is censored there.
        steps_to_target: steps until the target was reached, between two evaluations as :func:`times_to_target` says;
            None if it was not (censored).
        seconds_to_target: the same on the optimizer clock.
        gradient_evaluations_to_target: the same in gradients.
        seconds: the whole run on the optimizer clock.
        teleport_seconds: the part of ``seconds`` that teleports took.
        gradient_evaluations: gradients computed.
        metrics: of the last row; empty if none was finite.
        teleports: None if the arm has none or the trial was stopped.
        chance_loss: the cross-entropy of a model that gives every class the same probability; None if the trial was
            stopped.
    """

    seed: int
    outcome: Literal["completed", "diverged", "stopped"]
    num_steps: int
    budget_steps: int
    steps_to_target: float | None
    seconds_to_target: float | None
    gradient_evaluations_to_target: float | None
    seconds: float
    teleport_seconds: float
    gradient_evaluations: float
    metrics: dict[str, float]
    teleports: TeleportSummary | None = None
    chance_loss: float | None = None


class TrialState(StrEnum):
    """How a trial ended."""

    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


FailureKind = Literal["diverged", "expression", "timeout", "crashed", "memory", "lost"]
# The failures that tell something about the configuration; the others tell something about the machine.
ANSWERS: frozenset[str] = frozenset({"diverged", "expression", "timeout"})


class TrialFailure(Record):
    """Why a trial is FAIL.

    Args:
        kind: ``diverged`` (a loss was not finite), ``expression`` (a rule gave no usable number), ``timeout`` (over the
            budget of one trial), ``crashed`` (an exception), ``memory`` (too little) or ``lost`` (the worker died).
        message: one line.
        traceback: of the exception of a crash; otherwise empty.
    """

    kind: FailureKind
    message: str
    traceback: str = ""

    @property
    def is_answer(self) -> bool:
        """Whether the failure tells something about the configuration, and not only about the machine."""
        return self.kind in ANSWERS


class Code(Record):
    """The code that ran; two are the same code if ``source`` and ``plugins`` agree.

    Args:
        commit: None outside a repository.
        changes: hash of what differed from the commit; empty: nothing did; None outside a repository.
        source: hash of the files that results depend on.
        plugins: module -> hash of the plug-in's files.
    """

    commit: str | None
    changes: str | None
    source: str
    plugins: dict[str, str] = Field(default_factory=dict)

    @property
    def in_words(self) -> str:
        """The commit and the hash of what differed from it, or of the files where no commit is known."""
        if self.commit is None:
            return f"no known commit, files {self.source}"
        return f"commit {self.commit}{f' with uncommitted changes {self.changes}' if self.changes else ''}"


class Machine(Record):
    """Where a trial ran: the host, ``cpu`` or the GPU's name, torch's threads, versions of python, torch, platform."""

    host: str
    device: str
    num_threads: int
    versions: dict[str, str]


class TrialResult(Record):
    """How a trial ended: ``result.json``.

    Args:
        version: of this record's fields.
        trial_id: of the trial.
        state: COMPLETE, PRUNED or FAIL.
        value: the objective; None unless COMPLETE.
        values: all objectives if there are several; empty unless COMPLETE.
        seeds: a result for each seed that ran.
        failure: None unless FAIL.
        started_at: Unix time in seconds.
        ended_at: Unix time in seconds.
        machine: None if the worker died or was killed.
        code: that ran it; None if the worker died or was killed before it could tell.
        by_user: whether the user ended the trial, which is then PRUNED.
        files: name -> SHA-256 of the trial's configuration and of its curves, which are closed before.
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
    code: Code | None = None
    by_user: bool = False
    files: dict[str, str] = Field(default_factory=dict)

    @property
    def failure_kind(self) -> FailureKind | None:
        """The kind of its failure; None unless FAIL."""
        return None if self.failure is None else self.failure.kind

    @property
    def is_no_answer(self) -> bool:
        """Whether the trial failed in a way that tells nothing about its configuration."""
        return self.failure is not None and not self.failure.is_answer

    @classmethod
    def lost(cls, trial_id: str, message: str, started_at: float, ended_at: float, kind: FailureKind = "lost") -> Self:
        """Make the result of a trial that gave none, since its worker died or it was ended from outside."""
        failure = TrialFailure(kind=kind, message=message)
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
    """Take the arithmetic mean of the objective over at least one seed, all of them completed.

    A seed that missed its target counts as twice its budget, or as twice what its run has cost. That is worse than any
    hit and yet finite, so that samplers can rank configurations that miss on some seeds only.
    """
    values = [_seed_value(objective.metric, seed) for seed in seeds]
    return sum(values) / len(values)


def _seed_value(metric: str, seed: SeedResult) -> float:
    of_a_miss = {
        "steps_to_target": 2.0 * seed.budget_steps,
        "seconds_to_target": 2 * seed.seconds,
        "gradient_evaluations_to_target": 2 * seed.gradient_evaluations,
    }
    if metric in {*of_a_miss, "seconds", "gradient_evaluations"}:
        found: float | None = getattr(seed, metric)
        return of_a_miss[metric] if found is None else float(found)
    return seed.metrics[metric]


class Trial(Record):
    """A trial as it is on file.

    Args:
        config: what it runs.
        result: how it ended; None while it runs, or if it was cut off.
        history: its rows in order; left empty by readers that need no curves.
    """

    config: TrialConfig
    result: TrialResult | None = None
    history: tuple[HistoryRow, ...] = ()

    @property
    def trial_id(self) -> str:
        """The configuration's trial id."""
        return self.config.trial_id


class Provenance(Record):
    """Where a sweep comes from, so that its claims can be traced.

    Args:
        command: a shell's command that runs the sweep again.
        versions: of python, torch, ray, optuna, mlflow and this package.
        host: where the driver ran.
        started_at: Unix time in seconds.
        codes: the code that the sweep began with, and each other code that it went on with, in order.
    """

    command: str
    versions: dict[str, str]
    host: str
    started_at: float
    codes: tuple[Code, ...] = ()

    @property
    def code_in_words(self) -> str:
        """The codes that the sweep has run with."""
        return "; then ".join(code.in_words for code in self.codes) or "not known"


class Tracking(Record):
    """Where a sweep's runs are shown: ``tracking.json``, so that whoever goes on with it goes on there.

    Args:
        uri: of the store without credentials; empty: the store of the home in which the sweep lies.
        experiment: name of the experiment.
    """

    uri: str
    experiment: str


class SweepOutcome(Record):
    """How a sweep ended: ``outcome.json``, which is removed while the sweep runs again.

    Args:
        status: whether the sweep counts as failed.
        failures: a sentence for each reason why it failed.
        ended_early: a sentence on the budget that ended it before its last trial; empty if none did.
    """

    status: Literal["FINISHED", "FAILED"]
    failures: tuple[str, ...] = ()
    ended_early: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether every trial that was wanted has ended."""
        return not self.ended_early


class IndexLine(Record):
    """One line of ``index.jsonl``: how a file of the sweep was when it was stored.

    Args:
        path: below the sweep's directory.
        sha256: of its content, in hexadecimal digits.
        num_bytes: of a file that grows, how many of its first bytes were hashed; None: all of it.
    """

    path: str
    sha256: str
    num_bytes: int | None = None


class WarmStart(Record):
    """The points that each study proposes first: ``warm_start.json``.

    Args:
        sweep: name of the sweep that the points come from.
        points: by the study's name.
    """

    sweep: str
    points: dict[str, list[dict[str, Json]]]


class Stage(Record):
    """A sweep as it was when it was extended; its claims stand beside those of what was added.

    Args:
        spec: as YAML.
        trial_ids: of the trials that had ended by then.
    """

    spec: str
    trial_ids: tuple[str, ...]


@dataclass(frozen=True)
class SweepRecord:
    """A whole sweep as it is on file.

    Args:
        trials: all that were begun, but for those with damaged files.
        ended_early: the outcome's.
        damage: a sentence for each file that is damaged or gone.
        earlier: the sweep as it was each time that it was extended, the first one first.
    """

    spec: SweepSpec
    provenance: Provenance
    trials: tuple[Trial, ...]
    ended_early: str = ""
    damage: tuple[str, ...] = ()
    earlier: tuple[SweepRecord, ...] = ()
