"""What each kind of arm does to a run: the one place where the engine and the orchestrator meet."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Literal, Protocol, final

from torch import Tensor

from orchestrator.home import LayerSpectrum, TeleportSummary
from orchestrator.spec import Arm
from orchestrator.spec.options import (
    AutoTauOptions,
    ExpressionOptions,
    FixedStepOptions,
    GrowthStepOptions,
    InitScaledOptions,
    LevelSetOptions,
    LrScaledOptions,
    MeasuringOptions,
    RandomMoveOptions,
    ScheduleOptions,
    StateResetOptions,
    SymmetryOptions,
    TauExpression,
    TeleportOptions,
)
from orchestrator.trial.isolation import stream_seed
from orchestrator.trial.loop import Move, Site, Treat, Treatment
from orchestrator.trial.teleport_summary import Tally, gain_of, has_moved, null_dim_of
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
from teleport_engine import Move as EngineMove
from teleport_engine.compare import LevelSetTeleporter, SymmetryTeleporter


def tau_of(
    tau: float | Literal["auto"] | AutoTauOptions | TauExpression,
) -> float | Literal["auto"] | AutoTau | LayerwiseTau:
    """Make the engine's tau.

    Args:
        tau: as the options have it.

    Returns:
        What ``Teleporter(tau=...)`` takes; for an expression a rule that measures what it names and no more.
    """
    if isinstance(tau, TauExpression):
        return LayerwiseTau(_per_layer(tau), tau.uses("grad_norm"), tau.uses("stable_rank"))
    return AutoTau(**tau.model_dump()) if isinstance(tau, AutoTauOptions) else tau


def step_rule_of(options: FixedStepOptions | GrowthStepOptions | None) -> StepRule:
    """Make the engine's step rule.

    Args:
        options: of the step; a teleport has none only where it is adaptive, which makes its own.

    Returns:
        What ``Teleporter(step=...)`` takes.
    """
    assert options is not None, "a teleport without step and adaptive is not valid"
    if isinstance(options, FixedStepOptions):
        lr = options.lr
        return FixedStep(lr) if isinstance(lr, float) else LayerwiseStep(_per_layer(lr))
    factor = options.factor
    if isinstance(factor, float):
        return GrowthStep(factor)

    def rho(model: ModelFacts) -> float:
        return factor.value({name: getattr(model, name) for name in factor.leaf().names})

    return MeasuredGrowth(rho)


def _per_layer(options: ExpressionOptions) -> LayerRule:
    def rule(layer: LayerFacts) -> float:
        measured = {name: getattr(layer, name) for name in options.leaf().names if options.uses(name)}
        return options.value(measured, f"layer {layer.name!r}")

    return rule


# Of a spectrum that is kept.
MAX_POINTS = 64

OBJECTIVES: dict[str, Objective] = {
    "grad_norm": GradNorm(),
    "log_grad_norm": LogGradNorm(),
    "sharper": GradCurvature("sharper"),
    "flatter": GradCurvature("flatter"),
}


def treatment_of(arm: Arm) -> Treat:
    """Look up what an arm does.

    Args:
        arm: with at most one kind of treatment.

    Returns:
        What makes its treatment once the model is there; gives None for the baseline.

    Raises:
        ValueError: the arm still lacks the settings of a teleport arm.
    """
    if arm.kind == "baseline":
        return lambda site: None
    if arm.follows:
        raise ValueError(f"this {arm.kind} arm has no settings yet: those of a teleport arm's search are to come first")
    return functools.partial(TREATMENTS[arm.kind], arm.settings)


class _Teleports(Protocol):
    """One teleport, of whichever kind, before an optimizer step."""

    def __call__(self, step_index: int, inputs: Tensor, targets: Tensor) -> TeleportReport: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


@final
class TeleportTreatment:
    """Teleports before the optimizer step; the optimizer's state stays as it is.

    Args:
        teleport: makes one teleport.
        timetable: when.
        around: what the step after a teleport is taken inside of, from the teleport's report.
        spectra: gives the energy spectra at the first teleport, once training has ended.
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
        self._tally = Tally()
        self._spectra = spectra

    def is_due(self, step_index: int) -> bool:
        """Tell what the timetable says; without it each step would pay for a reading of the clock."""
        return self._timetable.is_due(step_index)

    def apply(self, step_index: int, inputs: Tensor, targets: Tensor) -> Move:
        """Teleport, and tell what it cost and did."""
        report = self._teleport(step_index, inputs, targets)
        self._timetable.note(report)
        self._tally.add(report)
        return Move(
            has_moved=has_moved(report),
            gradient_evaluations=report.num_gradient_evaluations,
            loss_drift=report.loss_drift,
            gain=gain_of(report),
            probe_drift=report.probe_drift,
            null_dim=null_dim_of(report),
            around=self._around(report),
        )

    def summary(self) -> TeleportSummary:
        """Sum up all teleports of the seed."""
        return self._tally.summary().model_copy(update={"spectra": self._spectra()})

    def state_dict(self) -> dict[str, Any]:
        """Tell what the teleports to come depend on, and what has been counted so far."""
        return {
            "teleport": self._teleport.state_dict(),
            "timetable": self._timetable.state_dict(),
            "tally": self._tally.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        self._teleport.load_state_dict(state_dict["teleport"])
        self._timetable.load_state_dict(state_dict["timetable"])
        self._tally.load_state_dict(state_dict["tally"])


@final
class ResetTreatment:
    """Lets the optimizer forget its state where a teleport would be due, and moves nothing.

    Args:
        options: of the arm.
        site: the optimizer and its training.
    """

    def __init__(self, options: StateResetOptions, site: Site) -> None:
        assert options.schedule is not None, "treatment_of lets nothing through that lacks its settings"
        self._schedule = _schedule(options.schedule, site)
        self._optimizer = site.optimizer
        self._count = 0

    def is_due(self, step_index: int) -> bool:
        """Tell what the schedule says."""
        return self._schedule.is_due(step_index)

    def apply(self, step_index: int, inputs: Tensor, targets: Tensor) -> Move:
        """Reset; it costs no gradient."""
        reset_state(self._optimizer)
        self._count += 1
        return Move(has_moved=False, gradient_evaluations=0.0)

    def summary(self) -> TeleportSummary:
        """Count the resets."""
        outcomes = {"state reset": self._count} if self._count else {}
        return TeleportSummary(count=self._count, outcomes=outcomes, mean_gain=None, max_loss_drift=None, layers=())

    def state_dict(self) -> dict[str, Any]:
        """Tell how often it has acted."""
        return {"count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        self._count = state_dict["count"]


def _teleport(options: TeleportOptions, site: Site) -> Treatment:
    teleport = _NullSpace(options, site)
    return TeleportTreatment(teleport, _due(options, site), spectra=teleport.spectra)


def _random_move(options: RandomMoveOptions, site: Site) -> Treatment:
    """Random moves on the teleport's schedule, each as long as the directed move would have been in its place."""
    teleport = _settings(options)
    move = RandomMove(stream_seed(site.seed, "random move"), options.scale)
    return TeleportTreatment(_NullSpace(teleport, site, move), _due(teleport, site))


def _lr_scaled(options: LrScaledOptions, site: Site) -> Treatment:
    """The measured ratio of ‖g‖ on the learning rate of the step that would have followed the teleport."""
    teleport = _settings(options)

    def around(report: TeleportReport) -> AbstractContextManager[None] | None:
        ratio = report.grad_norm_ratio
        # A ratio that is no number comes of a loss that is none, and ends the seed at its own step.
        if not 0.0 < ratio < math.inf or ratio == 1.0:
            return None
        return scaled_lr(site.optimizer, ratio**options.scale)

    measured = _NullSpace(teleport, site, IdentityMove())
    return TeleportTreatment(measured, _due(teleport, site), around)


def _init_scaled(options: InitScaledOptions, site: Site) -> None:
    """Scale before the first evaluation; there is nothing to do during training."""
    scale_initial_weights(site.model, options.factor)


def _level_set(options: LevelSetOptions, site: Site) -> Treatment:
    return _rival(LevelSetTeleporter, options, site)


def _symmetry(options: SymmetryOptions, site: Site) -> Treatment:
    return _rival(SymmetryTeleporter, options, site)


def _rival(
    build: type[LevelSetTeleporter] | type[SymmetryTeleporter], options: LevelSetOptions | SymmetryOptions, site: Site
) -> Treatment:
    rival = build(
        site.model,
        site.loss_fn,
        step_size=options.step_size,
        num_steps=options.schedule.steps,
        grad_norm_cap=options.grad_norm_cap,
        max_loss_drift=options.max_loss_drift,
    )
    return TeleportTreatment(_RivalTeleport(rival, options.batch_size, site), _timetable(options.schedule, site))


TREATMENTS: dict[str, Callable[[Any, Site], Treatment | None]] = {
    "teleport": _teleport,
    "random_move": _random_move,
    "level_set": _level_set,
    "symmetry": _symmetry,
    "lr_scaled": _lr_scaled,
    "init_scaled": _init_scaled,
    "state_reset": ResetTreatment,
}


@final
class _RivalTeleport:
    """One teleport of a rival, on a batch of its own where the options ask for one; it remembers nothing."""

    def __init__(self, rival: LevelSetTeleporter | SymmetryTeleporter, batch_size: int | None, site: Site) -> None:
        self._rival = rival
        self._batch_size = batch_size
        self._draws = site.draws

    def __call__(self, step_index: int, inputs: Tensor, targets: Tensor) -> TeleportReport:
        if self._batch_size is not None:
            inputs, targets = self._draws.samples(self._draws.indices(self._batch_size))
        return self._rival.teleport(inputs, targets)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


@final
class _NullSpace:
    """One null-space teleport on the batches that the options ask for.

    Args:
        options: of the teleport.
        site: the model and its training.
        move: of a control.
    """

    def __init__(self, options: TeleportOptions, site: Site, move: EngineMove | None = None) -> None:
        self._options = options
        self._draws = site.draws
        self._model = site.model
        self._first: tuple[dict[str, Tensor], Tensor] | None = None
        self._probe_size = options.probe_size
        if self._probe_size is None and (options.max_probe_drift is not None or options.adaptive is not None):
            self._probe_size = site.draws.batch_size
        self._teleporter = Teleporter(site.model, site.loss_fn, engine_options(options, move))

    def __call__(self, step_index: int, inputs: Tensor, targets: Tensor) -> TeleportReport:
        options, draws = self._options, self._draws
        seen: list[Tensor] = []
        subspace = probe = None
        if options.batch_size is not None:
            seen.append(draws.indices(options.batch_size))
            inputs, targets = draws.samples(seen[-1])
        if options.subspace_size is not None:
            seen.append(draws.indices(options.subspace_size))
            subspace, _ = draws.samples(seen[-1])
        if self._probe_size is not None:
            # Outside the training batch too: the step that follows is about to fit it.
            probe = draws.samples(draws.indices(self._probe_size, [draws.batch(step_index), *seen]))
        if options.spectrum and self._first is None:
            # The weights are put aside: what a full factorisation takes is not what a teleport takes.
            weights = {name: value.clone() for name, value in self._model.state_dict().items()}
            self._first = weights, inputs if subspace is None else subspace
        return self._teleporter.teleport(inputs, targets, subspace=subspace, probe=probe)

    def state_dict(self) -> dict[str, Any]:
        return {"teleporter": self._teleporter.state_dict(), "first": self._first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._teleporter.load_state_dict(state_dict["teleporter"])
        self._first = state_dict["first"]

    def spectra(self) -> tuple[LayerSpectrum, ...]:
        """Take the spectra of the first teleport's sample, at the weights it had; for after training."""
        if self._first is None:
            return ()
        weights, inputs = self._first
        last = {name: value.clone() for name, value in self._model.state_dict().items()}
        self._model.load_state_dict(weights)
        try:
            found = self._teleporter.spectrum(inputs)
        finally:
            self._model.load_state_dict(last)
        # The blocks of a packed or grouped weight are alike enough for a figure: the first stands for all.
        return tuple(_layer_spectrum(name, blocks[0]) for name, blocks in found.items())


def engine_options(options: TeleportOptions, move: EngineMove | None = None) -> Options:
    """Make the engine's options, by the two knobs or by rules for everything.

    Args:
        options: of the teleport.
        move: of a control; None for the directed move.
    """
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


def _settings(options: MeasuringOptions) -> TeleportOptions:
    assert options.teleport is not None, "treatment_of lets nothing through that lacks its settings"
    return options.teleport


def _schedule(when: ScheduleOptions, site: Site) -> Schedule:
    if when.at is not None:
        return Schedule(at=when.at)
    return Schedule(
        epochs=when.epochs,
        batches=when.batches,
        batches_per_epoch=site.budget.batches_per_epoch,
        warmup=when.warmup,
        every=when.every,
    )


def _timetable(when: ScheduleOptions, site: Site) -> Timetable:
    schedule = _schedule(when, site)
    return schedule if when.stop_below_gain is None else WhileItPays(schedule, when.stop_below_gain, when.patience)


def _due(options: TeleportOptions, site: Site) -> Timetable:
    payback = None if options.adaptive is None else options.adaptive.payback
    if payback is None:
        return _timetable(options.schedule, site)
    return WhileItPays(_schedule(options.schedule, site), 1.0 / payback)


def _layer_spectrum(name: str, subspace: Subspace) -> LayerSpectrum:
    """Thin a curve to points that lie evenly on a logarithmic scale, the first and the last among them."""
    curve = subspace.energy_curve().tolist()
    ratio = math.log(max(len(curve), 1)) / (MAX_POINTS - 1)
    directions = (
        sorted({min(len(curve), round(math.exp(ratio * place))) for place in range(MAX_POINTS)}) if curve else []
    )
    shares = tuple(min(1.0, curve[number - 1]) for number in directions)
    return LayerSpectrum(
        name=name.removesuffix(".weight").removesuffix(".in_proj_weight"),
        d_in=subspace.dim,
        directions=tuple(directions),
        shares=shares,
    )
