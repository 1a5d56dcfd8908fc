"""What each kind of arm does to a run: the one place where engine and orchestrator meet."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Protocol, final

from torch import Tensor

from orchestrator.home import LayerSpectrum, TeleportSummary
from orchestrator.spec import Arm
from orchestrator.spec.options import (
    ARMS,
    AutoTauOptions,
    ExpressionOptions,
    FixedStepOptions,
    GrowthStepOptions,
    InitScaledOptions,
    LevelSetOptions,
    LrScaledOptions,
    MeasuringOptions,
    OrbitOptions,
    RandomMoveOptions,
    ScheduleOptions,
    StateResetOptions,
    SymmetryOptions,
    TauExpression,
    TeleportOptions,
)
from orchestrator.trial.isolation import stream_seed
from orchestrator.trial.running_arm import ArmEffect, RunningArm, TrainingContext
from orchestrator.trial.teleport_summary import TeleportTotals, gain_of, has_moved, null_dim_of
from teleport_engine import (
    AutoTau,
    FixedStep,
    GradCurvature,
    GradNorm,
    GrowthStep,
    IdentityMove,
    LayerFacts,
    LayerRule,
    LayerwiseStep,
    LayerwiseTau,
    Limits,
    LogGradNorm,
    MeasuredGrowth,
    ModelFacts,
    Move,
    Objective,
    Options,
    RandomMove,
    Schedule,
    StepRule,
    Subspace,
    Teleporter,
    TeleportReport,
    Timetable,
    WhileItPays,
    reset_state,
    scale_initial_weights,
    scaled_lr,
)
from teleport_engine.compare import LevelSetTeleporter, OrbitTeleporter, Rival, SymmetryTeleporter

OBJECTIVES: dict[str, Objective] = {
    "grad_norm": GradNorm(),
    "log_grad_norm": LogGradNorm(),
    "sharper": GradCurvature("sharper"),
    "flatter": GradCurvature("flatter"),
}
# A spectrum is thinned to at most this many points.
MAX_POINTS = 64


def make_arm(arm: Arm, context: TrainingContext) -> RunningArm | None:
    """Make an arm for one seed; None: nothing is to be done during training.

    Raises:
        ValueError: the arm still lacks the settings that a teleport arm's search is to give.
    """
    if arm.settings is None:
        return None
    if arm.follows:
        raise ValueError(f"this {arm.kind} arm has no settings yet: those of a teleport arm's search are to come first")
    made: RunningArm | None = ARMS[arm.kind].load()(arm.settings, context)
    return made


class _Teleports(Protocol):
    """A teleport of any kind, made before an optimizer step."""

    def __call__(self, step_index: int, inputs: Any, targets: Tensor) -> TeleportReport: ...

    def reuse_gradient(self, inputs: Any, targets: Tensor) -> float | None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


@final
class TeleportingArm:
    """An arm that teleports before optimizer steps; the optimizer's state stays as it is.

    Args:
        teleport: makes one teleport.
        timetable: says when.
        around: takes a teleport's report and returns the context of the optimizer step that follows; None: no context.
        spectra: returns the energy spectra at the first teleport; it is called once training has ended.
    """

    def __init__(
        self,
        teleport: _Teleports,
        timetable: Timetable,
        around: Callable[[TeleportReport], AbstractContextManager[None] | None] = lambda report: None,
        spectra: Callable[[], tuple[LayerSpectrum, ...]] = tuple,
    ) -> None:
        self._teleport = teleport
        self._timetable = timetable
        self._around = around
        self._totals = TeleportTotals()
        self._spectra = spectra

    def is_due(self, step_index: int) -> bool:
        """Ask the timetable; ``apply`` alone would cost each step two readings of the clock."""
        return self._timetable.is_due(step_index)

    def apply(self, step_index: int, inputs: Any, targets: Tensor) -> ArmEffect:
        """Teleport."""
        report = self._teleport(step_index, inputs, targets)
        self._timetable.note(report)
        self._totals.add(report)
        return ArmEffect(
            has_moved=has_moved(report),
            gradient_evaluations=report.num_gradient_evaluations,
            loss_drift=report.loss_drift,
            gain=gain_of(report),
            probe_drift=report.probe_drift,
            null_dim=null_dim_of(report),
            around=self._around(report),
            step_gradient=partial(self._teleport.reuse_gradient, inputs, targets),
        )

    def summary(self) -> TeleportSummary:
        """Sum up all teleports of the seed."""
        return self._totals.summary().model_copy(update={"spectra": self._spectra()})

    def state_dict(self) -> dict[str, Any]:
        """Return what further teleports and the summary depend on."""
        return {
            "teleport": self._teleport.state_dict(),
            "timetable": self._timetable.state_dict(),
            "totals": self._totals.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state."""
        self._teleport.load_state_dict(state_dict["teleport"])
        self._timetable.load_state_dict(state_dict["timetable"])
        self._totals.load_state_dict(state_dict["totals"])


@final
class StateResetArm:
    """An arm that resets the optimizer's state where a teleport would be due, and moves nothing."""

    def __init__(self, options: StateResetOptions, context: TrainingContext) -> None:
        assert options.schedule is not None, "make_arm refuses an arm that lacks its settings"
        self._schedule = _schedule(options.schedule, context)
        self._optimizer = context.optimizer
        self._count = 0

    def is_due(self, step_index: int) -> bool:
        """Ask the schedule."""
        return self._schedule.is_due(step_index)

    def apply(self, step_index: int, inputs: Any, targets: Tensor) -> ArmEffect:
        """Reset the state, which costs no gradient."""
        reset_state(self._optimizer)
        self._count += 1
        return ArmEffect(has_moved=False, gradient_evaluations=0.0)

    def summary(self) -> TeleportSummary:
        """Count the resets."""
        outcomes = {"state reset": self._count} if self._count else {}
        return TeleportSummary(count=self._count, outcomes=outcomes, mean_gain=None, max_loss_drift=None, layers=())

    def state_dict(self) -> dict[str, Any]:
        """Return the number of resets."""
        return {"count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state."""
        self._count = state_dict["count"]


def teleport(options: TeleportOptions, context: TrainingContext) -> RunningArm:
    """Make an arm that teleports by null-space projection."""
    null_space = _NullSpaceTeleport(options, context)
    return TeleportingArm(null_space, _due(options, context), spectra=null_space.spectra)


def random_move(options: RandomMoveOptions, context: TrainingContext) -> RunningArm:
    """Make an arm of random moves on the teleport's schedule, each as long as the teleport in its place would be."""
    settings = _settings(options)
    move = RandomMove(stream_seed(context.seed, "random move"), options.scale)
    return TeleportingArm(_NullSpaceTeleport(settings, context, move), _due(settings, context))


def lr_scaled(options: LrScaledOptions, context: TrainingContext) -> RunningArm:
    """Make an arm that multiplies the learning rate of one step by the ratio of ‖g‖ a teleport there would have had."""
    settings = _settings(options)

    def around(report: TeleportReport) -> AbstractContextManager[None] | None:
        ratio = report.grad_norm_ratio
        # A ratio is NaN only where the loss is, and then the seed ends at this step anyway.
        if not 0.0 < ratio < math.inf or ratio == 1.0:
            return None
        return scaled_lr(context.optimizer, ratio**options.scale)

    measured = _NullSpaceTeleport(settings, context, IdentityMove())
    return TeleportingArm(measured, _due(settings, context), around)


def init_scaled(options: InitScaledOptions, context: TrainingContext) -> None:
    """Scale the initial weights at once; there is nothing to do during training."""
    scale_initial_weights(context.model, options.factor)


def orbit(options: OrbitOptions, context: TrainingContext) -> RunningArm:
    """Make an arm that rescales neighbouring layers in closed form."""
    mover = OrbitTeleporter(
        context.model,
        context.loss_fn,
        to=options.to,
        growth=options.growth,
        towards=options.towards,
        optimizer=context.optimizer if options.carry_state else None,
    )
    return TeleportingArm(_RivalTeleport(mover, None, context), _timetable(options.schedule, context))


def level_set(options: LevelSetOptions, context: TrainingContext) -> RunningArm:
    """Make an arm that teleports along the level set of the loss."""
    return _rival(LevelSetTeleporter, options, context)


def symmetry(options: SymmetryOptions, context: TrainingContext) -> RunningArm:
    """Make an arm that teleports by a symmetry group."""
    return _rival(SymmetryTeleporter, options, context)


def _rival(
    build: type[LevelSetTeleporter] | type[SymmetryTeleporter],
    options: LevelSetOptions | SymmetryOptions,
    context: TrainingContext,
) -> RunningArm:
    rival = build(
        context.model,
        context.loss_fn,
        step_size=options.step_size,
        num_steps=options.schedule.steps,
        grad_norm_cap=options.grad_norm_cap,
        max_loss_drift=options.max_loss_drift,
    )
    return TeleportingArm(_RivalTeleport(rival, options.batch_size, context), _timetable(options.schedule, context))


@final
class _RivalTeleport:
    """A rival's teleport, on a batch of its own where the options ask for one; it has no state."""

    def __init__(self, rival: Rival, batch_size: int | None, context: TrainingContext) -> None:
        self._rival = rival
        self._batch_size = batch_size
        self._extra = context.extra_batches

    def __call__(self, step_index: int, inputs: Any, targets: Tensor) -> TeleportReport:
        if self._batch_size is not None:
            inputs, targets = self._extra.samples(self._extra.indices(self._batch_size))
        return self._rival.teleport(inputs, targets)

    def reuse_gradient(self, inputs: Any, targets: Tensor) -> float | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


@final
class _NullSpaceTeleport:
    """A null-space teleport on the batches that the options ask for; ``move`` is a control's."""

    def __init__(self, options: TeleportOptions, context: TrainingContext, move: Move | None = None) -> None:
        self._options = options
        self._extra = context.extra_batches
        self._model = context.model
        self._first: tuple[dict[str, Tensor], Any] | None = None
        self._probe_size = options.probe_size
        if self._probe_size is None and (options.max_probe_drift is not None or options.adaptive is not None):
            self._probe_size = self._extra.batch_size
        chosen = replace(engine_options(options, move), keep_gradient=True)
        self._teleporter = Teleporter(context.model, context.loss_fn, chosen)

    def __call__(self, step_index: int, inputs: Any, targets: Tensor) -> TeleportReport:
        options, extra = self._options, self._extra
        seen: list[Tensor] = []
        subspace = probe = None
        if options.batch_size is not None:
            seen.append(extra.indices(options.batch_size))
            inputs, targets = extra.samples(seen[-1])
        if options.subspace_size is not None:
            seen.append(extra.indices(options.subspace_size))
            subspace, _ = extra.samples(seen[-1])
        if self._probe_size is not None:
            # The probe lies outside the training batch too, because the next step is about to fit that one.
            probe = extra.samples(extra.indices(self._probe_size, [extra.batch(step_index), *seen]))
        if options.spectrum and self._first is None:
            # The full factorisation is made after training, so that the teleport does not take its time.
            weights = {name: value.clone() for name, value in self._model.state_dict().items()}
            self._first = weights, inputs if subspace is None else subspace
        return self._teleporter.teleport(inputs, targets, subspace=subspace, probe=probe)

    def reuse_gradient(self, inputs: Any, targets: Tensor) -> float | None:
        return self._teleporter.reuse_gradient(inputs, targets)

    def state_dict(self) -> dict[str, Any]:
        return {"teleporter": self._teleporter.state_dict(), "first": self._first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._teleporter.load_state_dict(state_dict["teleporter"])
        self._first = state_dict["first"]

    def spectra(self) -> tuple[LayerSpectrum, ...]:
        """Factorise the first teleport's sample at the weights of that time; to be called after training."""
        if self._first is None:
            return ()
        weights, inputs = self._first
        last = {name: value.clone() for name, value in self._model.state_dict().items()}
        self._model.load_state_dict(weights)
        try:
            found = self._teleporter.spectrum(inputs)
        finally:
            self._model.load_state_dict(last)
        # The blocks of a packed or grouped weight are so alike that a figure shows the first alone.
        return tuple(_layer_spectrum(name, blocks[0]) for name, blocks in found.items())


def engine_options(options: TeleportOptions, move: Move | None = None) -> Options:
    """Make the engine's options, by the two knobs of ``adaptive`` or by a rule for each; ``move`` is a control's."""
    limits = Limits(
        grad_norm_cap=options.grad_norm_cap,
        max_loss_drift=options.max_loss_drift,
        max_probe_drift=options.max_probe_drift,
        max_relative_step=options.max_relative_step,
    )
    knobs = options.adaptive
    if knobs is not None:
        made = Options.adaptive(drift=knobs.drift, growth=knobs.growth, num_steps=knobs.max_steps, limits=limits)
    else:
        tau, step = tau_of(options.tau), step_rule_of(options.step)
        made = Options(tau=tau, step=step, num_steps=options.schedule.steps, limits=limits)
    return replace(
        made,
        objective=OBJECTIVES[options.objective],
        move=made.move if move is None else move,
        move_bias=options.move_bias,
        factorisation=options.factorisation,
    )


def tau_of(
    tau: float | Literal["auto"] | AutoTauOptions | TauExpression,
) -> float | Literal["auto"] | AutoTau | LayerwiseTau:
    """Make the engine's tau; that of an expression measures only what the expression names."""
    if isinstance(tau, TauExpression):
        return LayerwiseTau(_per_layer(tau), tau.uses("grad_norm"), tau.uses("stable_rank"))
    return AutoTau(**tau.model_dump()) if isinstance(tau, AutoTauOptions) else tau


def step_rule_of(options: FixedStepOptions | GrowthStepOptions | None) -> StepRule:
    """Make the engine's step rule; an adaptive teleport, whose options are None, has one already."""
    assert options is not None, "a teleport without step and adaptive is not valid"
    if isinstance(options, FixedStepOptions):
        lr = options.lr
        return FixedStep(lr) if isinstance(lr, float) else LayerwiseStep(_per_layer(lr))
    factor = options.factor
    if isinstance(factor, float):
        return GrowthStep(factor)

    def rho(model: ModelFacts) -> float:
        return factor.value({name: getattr(model, name) for name in factor.leaf.names})

    return MeasuredGrowth(rho)


def _per_layer(options: ExpressionOptions) -> LayerRule:
    def rule(layer: LayerFacts) -> float:
        measured = {name: getattr(layer, name) for name in options.leaf.names if options.uses(name)}
        return options.value(measured, f"layer {layer.name!r}")

    return rule


def _settings(options: MeasuringOptions) -> TeleportOptions:
    assert options.teleport is not None, "make_arm refuses an arm that lacks its settings"
    return options.teleport


def _schedule(when: ScheduleOptions, context: TrainingContext) -> Schedule:
    if when.at is not None:
        return Schedule(at=when.at)
    return Schedule(
        epochs=when.epochs,
        batches=when.batches,
        batches_per_epoch=context.budget.batches_per_epoch,
        warmup=when.warmup,
        every=when.every,
    )


def _timetable(when: ScheduleOptions, context: TrainingContext) -> Timetable:
    schedule = _schedule(when, context)
    return schedule if when.stop_below_gain is None else WhileItPays(schedule, when.stop_below_gain, when.patience)


def _due(options: TeleportOptions, context: TrainingContext) -> Timetable:
    payback = None if options.adaptive is None else options.adaptive.payback
    if payback is None:
        return _timetable(options.schedule, context)
    return WhileItPays(_schedule(options.schedule, context), 1.0 / payback)


def _layer_spectrum(name: str, subspace: Subspace) -> LayerSpectrum:
    """Thin a curve to points that are evenly spaced on a logarithmic scale and include the first and the last."""
    curve = subspace.energy_curve().tolist()
    ratio = math.log(max(len(curve), 1)) / (MAX_POINTS - 1)
    places = {min(len(curve), round(math.exp(ratio * place))) for place in range(MAX_POINTS)} if curve else set()
    directions = tuple(sorted(places))
    return LayerSpectrum(
        name=name.removesuffix(".weight").removesuffix(".in_proj_weight"),
        d_in=subspace.dim,
        directions=directions,
        shares=tuple(min(1.0, curve[number - 1]) for number in directions),
    )
