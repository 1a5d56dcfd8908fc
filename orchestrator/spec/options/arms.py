"""The kinds of arm: ways to train. ``baseline`` is the empty arm and has no options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, NonNegativeInt, PositiveFloat, PositiveInt, Tag, model_validator

from orchestrator.spec.options.entry import Entry, Options
from orchestrator.spec.options.expressions import (
    FactorExpression,
    LrExpression,
    TauExpression,
    form_of_number,
    is_expression,
)

Lr = Annotated[
    Annotated[PositiveFloat, Tag("number")] | Annotated[LrExpression, Tag("expression")],
    Field(discriminator=Discriminator(form_of_number)),
]
Factor = Annotated[
    Annotated[float, Field(gt=1.0), Tag("number")] | Annotated[FactorExpression, Tag("expression")],
    Field(discriminator=Discriminator(form_of_number)),
]


class FixedStepOptions(Options):
    """Move by ``lr`` times the projected ascent direction (the paper's η); an expression gives one for each layer."""

    rule: Literal["fixed"]
    lr: Lr


class GrowthStepOptions(Options):
    """Move until ‖g‖² has grown by ``factor`` in one teleport step: scale-free; an expression gives it step by step."""

    rule: Literal["growth"]
    factor: Factor


def _changed(options: Options, *names: str) -> list[str]:
    """List which of these settings are not at their defaults."""
    # Values are compared, since a configuration on file has every default written out.
    fields = type(options).model_fields
    return [name for name in names if getattr(options, name) != fields[name].default]


# The settings of a schedule that may end it early.
STOPPING = ("stop_below_gain", "patience")


class ScheduleOptions(Options):
    """When to teleport: in the first ``epochs`` epochs, at the first ``batches`` batches of each.

    Args:
        epochs: how many epochs have teleports.
        batches: how many batches of such an epoch have teleports.
        steps: teleport steps per batch.
        warmup: optimizer steps before the first teleport.
        every: only every n-th of the batches chosen so far has a teleport.
        at: the optimizer steps, counted from 0, before which to teleport; it replaces all of the above but ``steps``.
        stop_below_gain: there are no more teleports once ``patience`` in a row have each raised log ‖g‖² by less than
            this per gradient evaluation that they cost; None: the schedule alone decides.
        patience: see ``stop_below_gain``.
    """

    epochs: NonNegativeInt = 5
    batches: PositiveInt = 32
    steps: PositiveInt = 8
    warmup: NonNegativeInt = 0
    every: PositiveInt = 1
    at: Annotated[tuple[NonNegativeInt, ...], Field(strict=False)] | None = None
    stop_below_gain: PositiveFloat | None = None
    patience: PositiveInt = 3

    @model_validator(mode="after")
    def _at_stands_alone(self) -> Self:
        others = _changed(self, "epochs", "batches", "warmup", "every")
        if self.at is not None and others:
            raise ValueError(f"at says which steps have teleports, so {', '.join(others)} must not be given beside it")
        return self


class AutoTauOptions(Options):
    """Tau for each layer and batch: 1 where that leaves room to move, elsewhere as little below 1 as is needed.

    Args:
        null_share: the share of a layer's inputs that its null space should have.
        drift: how much all layers together may change the loss on the batch, to first order; it also bounds the
            measured change of each step unless ``max_loss_drift`` is given.
        least: no layer's tau falls below this.
    """

    null_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    drift: PositiveFloat = 0.01
    least: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.99


class AdaptiveOptions(Options):
    """Two settings without a scale, ``drift`` and ``growth``, from which all others follow by measurement.

    Tau is lowered in each layer as far as the drift allows, the length of a step is searched for the growth, and what
    the steps gain decides how many there are and when teleports end: see ``Teleporter.adaptive``.

    Args:
        drift: no teleport may change the loss on the batch by more than this share of it, nor the loss on the probe by
            more than 15 % of that.
        growth: the factor of ‖g‖² that each step aims at.
        max_steps: the most teleport steps per batch.
        payback: a teleport pays if its growth of log ‖g‖² would make up for the gradient evaluations that it took
            within this many optimizer steps; after three in a row that do not pay there are no more. None: the schedule
            alone decides.
    """

    drift: PositiveFloat = 0.01
    growth: Annotated[float, Field(gt=1.0)] = 1.5
    max_steps: PositiveInt = 8
    payback: PositiveFloat | None = 50.0


def _form_of_tau(value: Any) -> str:
    """Tell which of the ways to write tau is meant, so that messages speak of that one alone."""
    if is_expression(value):
        return "expression"
    if isinstance(value, dict | AutoTauOptions):
        return "settings"
    return "word" if isinstance(value, str) else "number"


Tau = Annotated[
    Annotated[float, Field(gt=0.0, le=1.0), Tag("number")]
    | Annotated[Literal["auto"], Tag("word")]
    | Annotated[AutoTauOptions, Tag("settings")]
    | Annotated[TauExpression, Tag("expression")],
    Field(discriminator=Discriminator(_form_of_tau)),
]


class ArmOptions(Options, ABC):
    """The settings of one kind of arm; ``plan`` and the lints learn from them what they need to know about it."""

    @property
    @abstractmethod
    def timing(self) -> ScheduleOptions | None:
        """When the arm acts during training; None: it does not act, or another arm's search decides when."""


class TeleportOptions(ArmOptions):
    """Teleport by null-space projection (arXiv 2502.11362).

    Samples that it draws from the training split, it draws by a generator of its own that follows from the seed.

    Args:
        tau: share of the input energy that the preserved subspace holds; 1 is exact. ``auto`` or its settings choose it
            per layer and batch, see :class:`AutoTauOptions`; an expression gives it per layer.
        step: how far each teleport step goes; needed unless ``adaptive`` is given.
        adaptive: replaces ``tau``, ``step``, the limits of drift, and the schedule's steps and stop.
        schedule: when to teleport.
        grad_norm_cap: a teleport step that would take ‖g‖ above this is undone, and the teleport ends. None: a teleport
            with a fixed step may raise ‖g‖ tenfold and no more; a large cap lifts that limit.
        max_loss_drift: a teleport step that would change the loss on its batch by more than this is undone, and the
            teleport ends. None: at tau = 1 the limit is what rounding explains, below it the loss may at most double.
        objective: what is climbed: ½‖g‖², log ‖g‖, or the curvature along the gradient, up (``sharper``) or down
            (``flatter``).
        batch_size: size of a batch drawn for the teleport alone; None: it takes the optimizer step's batch.
        subspace_size: size of a sample drawn for the subspace alone; None: the teleport batch. With a sample of its
            own, the batch lies outside the preserved subspace and its loss drifts, at tau = 1 too.
        probe_size: size of a sample, outside the batches above, on which drift is measured. None: there is none, or it
            is as large as the optimizer step's batch where ``max_probe_drift`` or ``adaptive`` asks for one.
        max_probe_drift: like ``max_loss_drift``, on the probe.
        max_relative_step: a step, or the whole teleport, that would move a layer by more than this share of ‖W‖ is
            shortened to it.
        move_bias: whether biases move along with their weights.
        factorisation: method for the layers' inputs; ``randomised`` and ``auto`` save time on wide layers below tau =
            1.
        spectrum: whether the report shows the energy spectrum of each layer's inputs at the first teleport. It is
            computed after training, off the clock, and costs a full factorisation of every layer.
    """

    tau: Tau = 1.0
    step: FixedStepOptions | GrowthStepOptions | None = Field(default=None, discriminator="rule")
    adaptive: AdaptiveOptions | None = None
    schedule: ScheduleOptions = ScheduleOptions()
    grad_norm_cap: PositiveFloat | None = None
    max_loss_drift: PositiveFloat | None = None
    objective: Literal["grad_norm", "log_grad_norm", "sharper", "flatter"] = "grad_norm"
    batch_size: PositiveInt | None = None
    subspace_size: PositiveInt | None = None
    probe_size: PositiveInt | None = None
    max_probe_drift: PositiveFloat | None = None
    max_relative_step: PositiveFloat | None = None
    move_bias: bool = False
    factorisation: Literal["exact", "randomised", "auto"] = "exact"
    spectrum: bool = False

    @model_validator(mode="after")
    def _auto_tau_needs_every_direction(self) -> Self:
        if not isinstance(self.tau, float | TauExpression) and self.factorisation == "randomised":
            raise ValueError("tau: auto chooses among all directions; factorisation must be exact or auto")
        return self

    @model_validator(mode="after")
    def _step_or_adaptive(self) -> Self:
        if self.adaptive is None:
            if self.step is None:
                raise ValueError(
                    "nothing says how far a step goes: give step: {rule: fixed, lr: ...}, step: {rule: growth, factor: "
                    "...}, or adaptive: {}, which chooses tau, step and number of steps by what is measured"
                )
            return self
        others = _changed(self, "tau", "step", "max_loss_drift", "max_probe_drift")
        others += [f"schedule.{name}" for name in _changed(self.schedule, "steps", *STOPPING)]
        if others:
            raise ValueError(
                f"adaptive chooses {', '.join(others)} itself, so {'that' if len(others) == 1 else 'they'} must not be "
                "given beside it; its own settings are drift, growth, max_steps and payback"
            )
        if self.factorisation == "randomised":
            raise ValueError("adaptive chooses among all directions; factorisation must be exact or auto")
        return self

    @property
    def timing(self) -> ScheduleOptions:
        """The schedule."""
        return self.schedule


class RivalOptions(ArmOptions, ABC):
    """Settings that every rival teleport has; a rival's search has the same budget as the teleport's.

    Args:
        schedule: when to teleport.
        grad_norm_cap: a step that would take ‖g‖ above this is undone, and the teleport ends.
        max_loss_drift: how far the loss on the batch may be from where it began; None: no limit.
        batch_size: size of a batch drawn for the teleport alone; None: it takes the optimizer step's batch.
    """

    schedule: ScheduleOptions = ScheduleOptions()
    grad_norm_cap: PositiveFloat | None = None
    max_loss_drift: PositiveFloat | None = None
    batch_size: PositiveInt | None = None

    @property
    def timing(self) -> ScheduleOptions:
        """The schedule."""
        return self.schedule


class LevelSetOptions(RivalOptions):
    """Teleport along the level set of the loss itself (arXiv 2403.03362); every parameter moves.

    Args:
        step_size: the first step length that is tried.
    """

    step_size: PositiveFloat = 1.0


class SymmetryOptions(RivalOptions):
    """Teleport by a group that acts on neighbouring layers (arXiv 2205.10637, 2305.13404).

    Args:
        step_size: the first step length that is tried.
    """

    step_size: PositiveFloat = 0.1


class OrbitOptions(ArmOptions):
    """Rescale neighbouring layers in closed form; the function stays the same on all data.

    Args:
        to: ``growth``: until ‖g‖² has grown by ``growth``; ``balance``: until each unit's incoming and outgoing weights
            have the same norm.
        growth: the factor of ‖g‖²; it has no effect with ``balance``.
        towards: which layers grow, the ``first`` or the ``last``; the same growth is reached in both directions, so
            that one is the control of the other. It has no effect with ``balance``.
        carry_state: whether the optimizer's state is rescaled by the same symmetry; else it stays as it is.
        schedule: when to rescale; left out, once before the first step. Its ``steps`` has no effect.
    """

    to: Literal["growth", "balance"] = "growth"
    growth: Annotated[float, Field(gt=1.0)] = 2.5
    towards: Literal["first", "last"] = "first"
    carry_state: bool = False
    schedule: ScheduleOptions = ScheduleOptions(at=(0,), steps=1)

    @property
    def timing(self) -> ScheduleOptions:
        """The schedule."""
        return self.schedule


class FollowerOptions(ArmOptions, ABC):
    """A control that takes over the settings which the search of a teleport arm has chosen.

    Args:
        of: label of that arm; None: the spec's only teleport arm.
    """

    of: str | None = None

    @property
    @abstractmethod
    def is_concrete(self) -> bool:
        """Whether the control has its settings, so that it needs none from another arm."""

    @abstractmethod
    def following(self, teleport: TeleportOptions) -> Self:
        """Return this control with the settings of a teleport arm, and without ``of``."""

    @model_validator(mode="after")
    def _from_one_source(self) -> Self:
        if self.of is not None and self.is_concrete:
            raise ValueError(f"must take its settings from the arm {self.of!r} (of) or have its own, not both")
        return self


class MeasuringOptions(FollowerOptions, ABC):
    """A control that makes another arm's teleports and measures what they do.

    Args:
        teleport: the settings of these teleports, in place of ``of``.
        scale: how much of what was measured is applied: a multiple, or an exponent.
    """

    teleport: TeleportOptions | None = None
    scale: PositiveFloat = 1.0

    @property
    def is_concrete(self) -> bool:
        """Whether ``teleport`` is given."""
        return self.teleport is not None

    @property
    def timing(self) -> ScheduleOptions | None:
        """The schedule of the teleports, once they are given."""
        return None if self.teleport is None else self.teleport.schedule


class RandomMoveOptions(MeasuringOptions):
    """The control for direction: a random move in the null space, as long as the teleport in its place would be.

    Args:
        scale: length of a move, as a multiple of the teleport's.
    """

    def following(self, teleport: TeleportOptions) -> Self:
        """Take over all settings except those that end the schedule early: a random move is not made to gain."""
        return self.model_copy(update={"of": None, "teleport": _without_stop(teleport)})


class LrScaledOptions(MeasuringOptions):
    """The control for larger steps: a larger learning rate in place of each teleport.

    Each teleport is made, measured and put back bit for bit. The optimizer step that follows is then taken with the
    learning rate times (‖g‖ after / ‖g‖ before) to the power of ``scale``.

    Args:
        scale: exponent of the measured ratio.
    """

    def following(self, teleport: TeleportOptions) -> Self:
        """Take over all settings."""
        return self.model_copy(update={"of": None, "teleport": teleport})


class StateResetOptions(FollowerOptions):
    """The control for a fresh optimizer: where a teleport would be due, the optimizer's state is reset; nothing moves.

    Args:
        schedule: when to reset, in place of ``of``; its ``steps`` and ``stop_below_gain`` have no effect here.
    """

    schedule: ScheduleOptions | None = None

    @property
    def is_concrete(self) -> bool:
        """Whether ``schedule`` is given."""
        return self.schedule is not None

    @property
    def timing(self) -> ScheduleOptions | None:
        """The schedule, once it is given."""
        return self.schedule

    def following(self, teleport: TeleportOptions) -> Self:
        """Take over the schedule."""
        return self.model_copy(update={"of": None, "schedule": _without_stop(teleport).schedule})


class InitScaledOptions(ArmOptions):
    """The control for larger weights: training starts from the same weights times a factor; biases are not scaled.

    Args:
        factor: multiplies the weights that a teleport could move.
    """

    factor: PositiveFloat

    @property
    def timing(self) -> None:
        """None: the arm acts before training."""
        return None


def _without_stop(teleport: TeleportOptions) -> TeleportOptions:
    """Return the same teleports without the settings that end the schedule early."""
    plain = {name: ScheduleOptions.model_fields[name].default for name in STOPPING}
    adaptive = teleport.adaptive
    return teleport.model_copy(
        update={
            "schedule": teleport.schedule.model_copy(update=plain),
            "adaptive": None if adaptive is None else adaptive.model_copy(update={"payback": None}),
        }
    )


# Arm, in orchestrator/spec/training.py, has a field for each of these kinds.
ARMS: dict[str, Entry] = {
    "teleport": Entry(TeleportOptions, "orchestrator.trial.arms:teleport"),
    "random_move": Entry(RandomMoveOptions, "orchestrator.trial.arms:random_move"),
    "orbit": Entry(OrbitOptions, "orchestrator.trial.arms:orbit"),
    "level_set": Entry(LevelSetOptions, "orchestrator.trial.arms:level_set"),
    "symmetry": Entry(SymmetryOptions, "orchestrator.trial.arms:symmetry"),
    "lr_scaled": Entry(LrScaledOptions, "orchestrator.trial.arms:lr_scaled"),
    "init_scaled": Entry(InitScaledOptions, "orchestrator.trial.arms:init_scaled"),
    "state_reset": Entry(StateResetOptions, "orchestrator.trial.arms:StateResetArm"),
}
