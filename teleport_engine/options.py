"""Every option of a teleport, checked when it is made.

`Teleporter(model, loss_fn, Options(...))` takes all of them, `Teleporter(model, loss_fn, tau=..., step=...)` the few
that matter most.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, final

from teleport_engine.model import Inputs, is_whole
from teleport_engine.nullspace import AutoTau, ConstantTau, DriftTau, Factorisation, TauRule, tau_rule
from teleport_engine.objective import GradNorm, Objective
from teleport_engine.schedule import Schedule, Timetable
from teleport_engine.step import (
    DirectedMove,
    FixedStep,
    GrowthStep,
    LayerwiseStep,
    Limits,
    MeasuredGrowth,
    Move,
    StepRule,
)

__all__ = ["GROWTH_TOLERANCE", "PROBE_MARGIN", "Options"]

_PAPER_STEP = FixedStep(0.2)
_PAPER_OBJECTIVE = GradNorm()
_PAPER_MOVE = DirectedMove()
_NO_LIMITS = Limits()
_AUTO_REACH = 0.1
_MOST_GROWTH = 10.0
PROBE_MARGIN = 0.15
"""Of a drift budget, what the probe batch may use of it: the rest is for what another batch shows beyond that."""

GROWTH_TOLERANCE = 0.4
"""How near the growth asked for an adaptive step must come: each try costs a gradient, and nobody needs 5 %."""


@final
@dataclass(frozen=True)
class Options:
    """How a model is teleported.

    Args:
        tau: share of the energy of each layer's inputs that a move must leave alone, in (0, 1]. At 1 a move changes the
            loss on the batch by rounding alone. "auto", or an `AutoTau`: tau is lowered only in layers whose null space
            is shorter than asked for, and only as far as a bound on the drift allows. A `DriftTau`: tau is lowered as
            far as a drift budget allows. A `LayerwiseTau`: a function of what is measured of each layer gives tau.
        step: chooses the length of each step.
        objective: the function of the weights that a teleport climbs.
        num_steps: teleport steps per batch, at most.
        while_it_pays: ends the teleport once a step has gained less, in log ||g||^2 per gradient evaluation, than the
            teleport has on average, the basis included.
        schedule: when `Teleporter.step` teleports.
        batch_source: gives inputs and targets for `Teleporter.step` to teleport on instead of the training batch; it
            is called with the index of the optimizer step when a teleport is due.
        limits: what no step may pass.
        move: what the weights are moved along: the directed move, or a control (`teleport_engine.compare`).
        route: how the direction is taken: "jvp" by a forward-mode pass, which needs `tau = 1`; "double_backward" by a
            second backward; "auto" by the cheaper one that is valid.
        move_bias: the bias of a linear map moves along with its weight, as `[W | b]` on `[x; 1]`. The null space is
            larger exactly where a one is in the span of the inputs. A bias that is used elsewhere too stays.
        factorisation: of each layer's inputs. "exact" takes all their directions. "randomised" applies where
            `tau < 1`: a subspace iteration, certified to hold a share `tau` of the energy with about as few directions
            as the exact one. It starts from the layer's basis of the call before, so a basis depends on the calls
            before. "auto" does the same from a fresh start, and only where `min(d, N) >= 512`: it takes half to a fifth
            of the time where an eighth of the directions hold enough, a third more where over a quarter are needed.
        keep_gradient: keeps the gradient where a teleport has landed, for `Teleporter.reuse_gradient`. It takes the
            memory of a gradient until it is asked for.
        num_threads: how many layers are factorised and projected at a time, each by one intra-op thread; the result has
            the same bits for any number. None takes one layer after the other, with torch's own threads.

    Raises:
        ValueError: if options are out of range or do not go together; the message names every fault.
    """

    tau: float | TauRule | Literal["auto"] = 1.0
    step: StepRule = _PAPER_STEP
    objective: Objective = _PAPER_OBJECTIVE
    num_steps: int = 8
    while_it_pays: bool = False
    schedule: Timetable | None = None
    batch_source: Callable[[int], tuple[Inputs, Any]] | None = None
    limits: Limits = _NO_LIMITS
    move: Move = _PAPER_MOVE
    route: Literal["auto", "jvp", "double_backward"] = "auto"
    move_bias: bool = False
    factorisation: Factorisation = "exact"
    keep_gradient: bool = False
    num_threads: int | None = None

    def __post_init__(self) -> None:
        faults = [*self._faults_of_parts(), *self._faults_of_values()]
        if not faults:
            faults = self._faults_together()
        if faults:
            raise ValueError("; ".join(faults))

    def _faults_of_parts(self) -> list[str]:
        """Names the options that are objects, but not of the right kind."""
        source: Any = self.batch_source
        faults = [
            f"{name} must be an object such as {example}, got {part!r}"
            for name, part, seam, example in (
                ("step", self.step, StepRule, "GrowthStep(1.1)"),
                ("objective", self.objective, Objective, "GradNorm()"),
                ("move", self.move, Move, "RandomMove(0)"),
                ("schedule", self.schedule or Schedule(), Timetable, "Schedule(every=10)"),
                ("limits", self.limits, Limits, "Limits(max_loss_drift=0.01)"),
            )
            if isinstance(part, type) or not isinstance(part, seam)
        ]
        if source is not None and not callable(source):
            faults.append(f"batch_source must be callable, got {source!r}")
        return faults

    def _faults_of_values(self) -> list[str]:
        """Names the options that are numbers or names, but out of range."""
        faults = []
        try:
            tau_rule(self.tau)
        except ValueError as error:
            faults.append(str(error))
        threads = 1 if self.num_threads is None else self.num_threads
        for name, value in (("num_steps", self.num_steps), ("num_threads", threads)):
            if not is_whole(value, 1):
                faults.append(f"{name} must be a whole number >= 1, got {value!r}")
        if self.route not in ("auto", "jvp", "double_backward"):
            faults.append(f"route must be 'auto', 'jvp' or 'double_backward', got {self.route!r}")
        if self.factorisation not in ("exact", "randomised", "auto"):
            faults.append(f"factorisation must be 'exact', 'randomised' or 'auto', got {self.factorisation!r}")
        return faults

    def _faults_together(self) -> list[str]:
        """Names the options that are right alone, but exclude each other."""
        faults, rule = [], self.tau_rule
        if self.route == "jvp" and rule != ConstantTau(1.0):
            faults.append(f"route 'jvp' needs tau = 1 (below it the other term of Hg stays), got tau {self.tau}")
        if self.route == "jvp" and self.objective.needs_hessian:
            faults.append(f"route 'jvp' serves objectives of the gradient norm alone, got {self.objective!r}")
        if self.factorisation == "randomised" and isinstance(rule, (AutoTau, DriftTau)):
            faults.append(f"factorisation 'randomised' needs a tau to aim at, got tau {self.tau}")
        return faults

    @property
    def tau_rule(self) -> TauRule:
        """The rule that `tau` stands for."""
        return tau_rule(self.tau)

    @property
    def limits_in_force(self) -> Limits:
        """The limits, with those that stand where none was given, or that an `AutoTau` or a `DriftTau` brings along."""
        rule, limits = self.tau_rule, self.limits
        step = self.step.rule if isinstance(self.step, LayerwiseStep) else self.step
        if limits.max_growth is None and limits.grad_norm_cap is None:
            aims = isinstance(step, (GrowthStep, MeasuredGrowth))
            limits = replace(limits, max_growth=None if aims else _MOST_GROWTH)
        is_inexact = rule != ConstantTau(1.0) and not isinstance(rule, (AutoTau, DriftTau))
        if is_inexact and limits.max_loss_drift is None and limits.max_drift_share is None:
            limits = replace(limits, max_drift_share=1.0)
        if not isinstance(rule, (AutoTau, DriftTau)):
            return limits
        if limits.max_relative_step is None:
            limits = replace(limits, max_relative_step=_AUTO_REACH)
        if isinstance(rule, AutoTau):
            return limits if limits.max_loss_drift is not None else replace(limits, max_loss_drift=rule.drift)
        return limits if limits.max_drift_share is not None else replace(limits, max_drift_share=rule.drift)

    @classmethod
    def adaptive(
        cls, *, drift: float = 0.01, growth: float = 1.5, limits: Limits | None = None, **more: Any
    ) -> "Options":
        """Makes options from two knobs, both free of scale: how much drift, and how much growth.

        Tau is lowered in each layer as far as the budget allows: all layers together may change the loss by a share
        `drift` of it (`DriftTau`). Each step goes to where `||g||^2` has grown by `growth` (`GrowthStep`), or as near
        as the limits let it. There are up to 8 steps on a batch, as long as they pay. A step that changes the loss by
        more than `drift` of it is undone; the same holds for 15 % of `drift` on the probe batch, where `teleport(...,
        probe=...)` is given one. Another batch sees the same move with a noise of its own, and the rest of the budget
        leaves room for that.

        `limits` are further ones, and `more` further options, in place of what is chosen here.
        """
        chosen: dict[str, Any] = {
            "tau": DriftTau(drift),
            "step": GrowthStep(growth, tolerance=GROWTH_TOLERANCE),
            "num_steps": 8,
            "while_it_pays": True,
        }
        limits = limits or Limits()
        if limits.max_probe_drift_share is None:
            limits = replace(limits, max_probe_drift_share=PROBE_MARGIN * drift)
        return cls(limits=limits, **{**chosen, **more})
