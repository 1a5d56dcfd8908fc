"""The one loop: capture, subspace, direction, projection, step, guard, report.

Source of the method: arXiv 2502.11362 (teleportation along the loss level set by projection on the null space of
each layer's inputs). What this project adds to it, and why each part is as it is: docs/method.md.
"""

import functools
from collections.abc import Callable
from numbers import Real
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from teleport_engine.model import (
    Forward,
    Inputs,
    LossFn,
    Params,
    Workers,
    Wrapped,
    checked_data,
    checked_inputs,
    checked_limit,
    checked_model,
    eagerly,
    untouched,
)
from teleport_engine.nullspace import (
    AutoTau,
    DriftTau,
    Factorisation,
    LayerwiseTau,
    Search,
    Settings,
    Subspace,
    Survey,
    TauRule,
    project,
    spectrum,
    survey,
)
from teleport_engine.objective import DoubleBackwardRoute, GradNorm, Objective, Problem, Route, TangentRoute
from teleport_engine.report import Seconds, TeleportReport
from teleport_engine.schedule import Schedule, Timetable
from teleport_engine.step import (
    DirectedMove,
    EvalMode,
    FixedStep,
    GrowthStep,
    Limits,
    Move,
    Probe,
    StepRule,
    difference,
)
from teleport_engine.steps import Climb, Plan

__all__ = ["Teleporter"]

_PAPER_STEP = FixedStep(0.2)
_PAPER_OBJECTIVE = GradNorm()
_PAPER_MOVE = DirectedMove()
_AUTO_REACH = 0.1
# Of a drift budget, what the probe batch may use of it: the rest is for what another batch shows beyond that.
PROBE_MARGIN = 0.15
# How near the growth asked for an adaptive step must come: each try costs a gradient, and nobody needs 5 %.
GROWTH_TOLERANCE = 0.4
_ANY_SCHEDULE = Schedule()


@final
class Teleporter:
    """Moves a model's weights along the level set of its loss to where the gradient is larger.

    Args:
        model: any module; its linear maps move, everything else stays and is named in the report. One that is
            compiled or data-parallel is teleported through the module inside.
        loss_fn: `loss_fn(outputs, targets)` gives a tensor without dimensions.
        tau: share of each layer's input energy that a move must not touch, in (0, 1]. 1 is exact on the batch. "auto",
            or an `AutoTau`: 1, and less only in the layers, and by as much, as their null space is shorter than asked
            for and a bound of the drift allows; layers whose input is fixed stay, where the basis holds the batch. A
            `LayerwiseTau`: by a rule of what is measured of each layer. A `DriftTau`: as much less as a drift budget
            allows.
        step: how far to move; see `teleport_engine.step`. `LayerwiseStep` and `MeasuredGrowth` go by what is
            measured.
        objective: what to climb; see `teleport_engine.objective`.
        num_steps: teleport steps per batch, at most.
        while_it_pays: no further step on a batch once one has gained less, in log ||g||^2 per gradient evaluation, than
            the teleport has on average, basis included.
        schedule: when `step()` teleports.
        batch_source: what `step(step_index, ...)` teleports on instead of the training batch it is given, a larger or
            an independent one, say: called with the step's index when a teleport is due, gives inputs and targets.
        grad_norm_cap: a step that would take the gradient norm above this is undone.
        max_loss_drift: a step that would change the loss on the batch by more than this is undone; None with
            `tau="auto"`: the bound of that.
        max_probe_drift: the same on the probe batch, which is then evaluated at each step.
        max_drift_share: like `max_loss_drift`, as a share of the loss before the teleport. None with a `DriftTau`: its
            `drift`.
        max_probe_drift_share: the same on the probe batch, where one is given.
        max_relative_step: no step, and no move since the start of a teleport, is longer than this share of `||W||`, in
            any layer; a step that would be is shortened. None with `tau="auto"`: 0.1.
        max_backoffs: how often a step that passes another limit, or is not finite, is halved before it is undone.
        move: what to move along: the directed move, or a control (`teleport_engine.compare`).
        route: "auto", "jvp" (only at `tau = 1`), or "double_backward": how the direction is taken.
        move_bias: the bias of a linear map moves along with its weight: `[W | b]` on `[x; 1]`, a larger null space
            exactly where a one is in the span of the inputs. A bias that is used elsewhere too stays.
        factorisation: of each layer's inputs. "exact"; "randomised": where `tau < 1`, a subspace iteration, each
            layer's started from its basis of the call before (so that a basis depends on the calls before), and
            certified to hold a share `tau` of the energy, with about as few directions as the exact one; "auto": the
            same from a fresh start, and only where `min(d, N) >= 512`: half to a fifth of the time where an eighth of
            the directions hold enough, a third more where over a quarter are needed.
        num_threads: layers are factorised and projected by so many threads at a time, each with one intra-op thread:
            the same bits for any number. None: one after the other, with torch's own threads.

    Raises:
        ValueError: if an option is out of its range, or the weights are sharded over ranks.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 3))
        >>> teleporter = Teleporter(model, nn.functional.cross_entropy, step=FixedStep(0.1), num_steps=2)
        >>> report = teleporter.teleport(torch.randn(8, 4), torch.arange(8) % 3)
        >>> report.outcome, report.grad_norm_after > report.grad_norm_before, abs(report.loss_drift) < 1e-5
        (<Outcome.MOVED: 'moved'>, True, True)
        >>> [(layer.name, layer.null_dim, layer.reason) for layer in report.layers]
        [('0', None, 'input is fixed'), ('2', 24, '')]
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFn,
        *,
        tau: float | TauRule | LayerwiseTau | Literal["auto"] = 1.0,
        step: StepRule = _PAPER_STEP,
        objective: Objective = _PAPER_OBJECTIVE,
        num_steps: int = 8,
        while_it_pays: bool = False,
        schedule: Timetable | None = None,
        batch_source: Callable[[int], tuple[Inputs, Any]] | None = None,
        grad_norm_cap: float | None = None,
        max_loss_drift: float | None = None,
        max_probe_drift: float | None = None,
        max_drift_share: float | None = None,
        max_probe_drift_share: float | None = None,
        max_relative_step: float | None = None,
        max_backoffs: int = 3,
        move: Move = _PAPER_MOVE,
        route: Literal["auto", "jvp", "double_backward"] = "auto",
        move_bias: bool = False,
        factorisation: Factorisation = "exact",
        num_threads: int | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"model must be a torch.nn.Module, got {model!r}")
        for name, given in (("loss_fn", loss_fn), ("batch_source", batch_source)):
            if not callable(given) and not (name == "batch_source" and given is None):
                raise ValueError(f"{name} must be callable, got {given!r}")
        for name, part, seam, example in (
            ("step", step, StepRule, "GrowthStep(1.1)"),
            ("objective", objective, Objective, "GradNorm()"),
            ("move", move, Move, "RandomMove(0)"),
            ("schedule", schedule or _ANY_SCHEDULE, Timetable, "Schedule(every=10)"),
        ):
            if isinstance(part, type) or not isinstance(part, seam):
                raise ValueError(f"{name} must be an object such as {example}, got {part!r}")
        auto, rule, share = _checked_tau(tau)
        counts = [("num_steps", num_steps, 1), ("max_backoffs", max_backoffs, 0)]
        for name, value, least in [*counts, ("num_threads", 1 if num_threads is None else num_threads, 1)]:
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
        if route not in ("auto", "jvp", "double_backward"):
            raise ValueError(f"route must be 'auto', 'jvp' or 'double_backward', got {route!r}")
        if factorisation not in ("exact", "randomised", "auto"):
            raise ValueError(f"factorisation must be 'exact', 'randomised' or 'auto', got {factorisation!r}")
        if route == "jvp" and (share < 1.0 or auto or rule):
            raise ValueError(f"route 'jvp' needs tau = 1 (below it the other term of Hg stays), got tau {tau}")
        if factorisation == "randomised" and auto:
            raise ValueError(f"factorisation 'randomised' needs a tau to aim at, got tau {tau}")
        if route == "jvp" and objective.needs_hessian:
            raise ValueError(f"route 'jvp' serves objectives of the gradient norm alone, got {objective!r}")
        self._wrapped = Wrapped(model)
        self._model = self._wrapped.module
        self._loss_fn = loss_fn
        starts: dict[str, tuple[Tensor, ...]] | None = {} if factorisation == "randomised" and share < 1.0 else None
        if auto is not None:
            if isinstance(auto, AutoTau):
                max_loss_drift = auto.drift if max_loss_drift is None else max_loss_drift
            else:
                max_drift_share = auto.drift if max_drift_share is None else max_drift_share
            max_relative_step = _AUTO_REACH if max_relative_step is None else max_relative_step
        self._search = Search(
            Settings(share, factorisation, with_energies=auto is not None),
            Workers(num_threads),
            move_bias,
            starts,
            auto,
            checked_limit("max_relative_step", max_relative_step) or 0.0,
            rule,
        )
        self._objective = objective
        self._schedule = schedule
        self._batch_source = batch_source
        limits = Limits(
            checked_limit("grad_norm_cap", grad_norm_cap),
            checked_limit("max_loss_drift", max_loss_drift),
            checked_limit("max_probe_drift", max_probe_drift),
            checked_limit("max_drift_share", max_drift_share),
            checked_limit("max_probe_drift_share", max_probe_drift_share),
            checked_limit("max_relative_step", max_relative_step),
            max_backoffs,
        )
        self._plan = Plan(step, move, num_steps, limits, while_it_pays)
        self._route = route
        self._hint = 1.0

    @classmethod
    def adaptive(
        cls, model: nn.Module, loss_fn: LossFn, *, drift: float = 0.01, growth: float = 1.5, **more: Any
    ) -> "Teleporter":
        """A teleporter with two knobs, both free of scale: how much drift, and how much growth.

        Tau is lowered in each layer as far as the drift budget allows (`DriftTau`); each step goes to where `||g||^2`
        has grown by `growth` (`GrowthStep`), or as near as the guards let it; there are up to 8 steps on a batch, as
        long as they pay. A step that changes the loss by more than `drift` of it is undone, on the batch and, where
        `teleport(..., probe=...)` is given one, by more than 15 % of `drift` on the probe batch: another batch sees
        the same move with a noise of its own, and the rest leaves room for that.

        Args:
            model: as for `Teleporter`.
            loss_fn: likewise.
            drift: of the loss, as a share of it.
            growth: of `||g||^2` per step.
            more: further options of `Teleporter`, in place of what is chosen here.

        Returns:
            The teleporter.

        Examples:
            >>> _ = torch.manual_seed(0)
            >>> model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
            >>> teleporter = Teleporter.adaptive(model, nn.functional.cross_entropy)
            >>> report = teleporter.teleport(torch.randn(64, 4), torch.arange(64) % 3)
            >>> report.grad_norm_ratio > 1.05, abs(report.loss_drift) <= 0.01 * report.loss_before
            (True, True)
        """
        chosen: dict[str, Any] = {
            "tau": DriftTau(drift),
            "step": GrowthStep(growth, tolerance=GROWTH_TOLERANCE),
            "num_steps": 8,
            "while_it_pays": True,
            "max_probe_drift_share": PROBE_MARGIN * drift,
        }
        return cls(model, loss_fn, **{**chosen, **more})

    @property
    def model(self) -> nn.Module:
        """The module whose weights move, without wrappers."""
        return self._model

    @property
    def schedule(self) -> Timetable | None:
        """When `step()` teleports."""
        return self._schedule

    def state_dict(self) -> dict[str, Any]:
        """What the next teleports depend on, besides weights and batches.

        Returns:
            The state of the schedule and of the move, where the step rule begins its search, and the bases that the
            randomised factorisation starts from; for `load_state_dict`, and for `torch.save`.
        """
        return {
            "schedule": {} if self._schedule is None else self._schedule.state_dict(),
            "move": self._plan.move.state_dict(),
            "hint": self._hint,
            "starts": dict(self._search.starts or {}),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a state.

        Args:
            state_dict: from `state_dict` of a teleporter with the same options.
        """
        if self._schedule is not None:
            self._schedule.load_state_dict(state_dict["schedule"])
        self._plan.move.load_state_dict(state_dict["move"])
        self._hint = state_dict.get("hint", 1.0)  # not in states of before it was kept
        if self._search.starts is not None:
            device = next(self._model.parameters()).device
            self._search.starts.clear()
            for name, bases in state_dict["starts"].items():
                self._search.starts[name] = tuple(basis.to(device) for basis in bases)

    def step(
        self,
        step_index: int,
        inputs: Inputs,
        targets: Any,
        *,
        subspace: Inputs | list[Inputs] | None = None,
        probe: tuple[Inputs, Any] | None = None,
    ) -> TeleportReport | None:
        """Teleports where the schedule says so.

        Args:
            step_index: index of the optimizer step about to be taken, from 0.
            inputs: as in `teleport`; not looked at where there is a `batch_source`.
            targets: likewise.
            subspace: as in `teleport`.
            probe: as in `teleport`.

        Returns:
            The report, or None where no teleport is due.

        Raises:
            ValueError: if there is no schedule; as in `teleport`.
        """
        if self._schedule is None:
            raise ValueError("Teleporter.step needs a schedule: give Teleporter(schedule=Schedule(...)), got None")
        if not self._schedule.is_due(step_index):
            return None
        if self._batch_source is not None:
            batch = self._batch_source(step_index)
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(f"batch_source must give a pair (inputs, targets), got {type(batch).__name__}")
            inputs, targets = batch
        report = self.teleport(inputs, targets, subspace=subspace, probe=probe)
        self._schedule.note(report)
        return report

    def direction(self, inputs: Inputs, targets: Any, *, subspace: Inputs | list[Inputs] | None = None) -> Params:
        """The projected ascent direction of the objective (`1/2 ||grad||^2`) at the present weights. Nothing moves.

        Args:
            inputs: objective batch: a tensor, or a tuple or dict of what the model takes.
            targets: what `loss_fn` compares with.
            subspace: as in `teleport`.

        Returns:
            Parameter name to `(grad F)_l P_l` in the parameter's shape (`(Hg)_l P_l` for the paper's objective); what
            cannot move is absent. Empty where a value is not finite.

        Raises:
            ValueError: if the input is wrong: see `teleport`.
        """
        device = checked_model(self._model)
        with untouched(device) as random_state, eagerly():
            problem, sample = self._problem(inputs, targets, subspace, device)
            view = survey(self._model, problem, self._search, sample, random_state, Seconds())
            if not view.live:
                return {}
            route = self._route_for(view, problem)
            directions, _ = project(view, route.ascent(route.finish(view.record)))
            names = {id(parameter): name for name, parameter in self._model.named_parameters()}
            return {
                names[id(parameter)]: part
                for layer, matrix in zip(view.live, directions, strict=True)
                if matrix is not None
                for parameter, part in zip(layer.parameters, layer.unpack(matrix), strict=True)
            }

    def spectrum(self, inputs: Inputs | list[Inputs]) -> dict[str, tuple[Subspace, ...]]:
        """The input subspace of every linear map at the present weights: ranks, energies, `energy_curve()` (figure 6a).

        Args:
            inputs: a batch, or a list of batches added up in the memory of one.

        Returns:
            Parameter name to one exact subspace per row block (a Linear has one; a convolution, one per group; the
            packed projection of an attention, three), of the layers that cannot move too.

        Raises:
            ValueError: if a batch is wrong: see `teleport`; if an input of a layer is not finite.
        """
        device = checked_model(self._model)
        given = inputs if isinstance(inputs, list) else [inputs]
        if not given:
            raise ValueError("inputs must hold at least one batch, got an empty list")
        with untouched(device) as random_state, eagerly():
            batches = [checked_inputs("inputs", one, device) for one in given]
            problem = Problem(Forward(self._model), self._loss_fn, batches[0], None, [], self._objective)
            settings = Settings(self._search.settings.tau, with_energies=True)
            search = Search(settings, self._search.workers, self._search.move_bias)
            return spectrum(self._model, problem, search, batches, random_state)

    def teleport(
        self,
        inputs: Inputs,
        targets: Any,
        *,
        subspace: Inputs | list[Inputs] | None = None,
        probe: tuple[Inputs, Any] | None = None,
    ) -> TeleportReport:
        """Moves the weights `num_steps` times uphill in the gradient norm, the loss on the batch staying.

        Gradients, optimizer state, buffers, modes, hooks, `requires_grad` and torch's random state are as before. If
        anything raises on the way, so are the weights. (What a model writes to its own weights in a forward it has
        written then, as in any forward.) With DistributedDataParallel every rank must call it; the
        move is made by rank 0 on its batch, and all ranks end with its weights and its report.

        Args:
            inputs: objective batch: a tensor, or a tuple or dict of what the model takes.
            targets: what `loss_fn` compares with.
            subspace: inputs to take the basis from instead of the batch's; then the loss on the batch may drift, except
                where the batch is found to lie inside. A list: several batches, each run through the model on its
                own and added up in the memory of one; with `inputs` itself among them the move is exact at `tau = 1`.
            probe: inputs and targets on which drift is watched: data outside the batch.

        Returns:
            What was done. Numerical trouble is an outcome in it, never an exception.

        Raises:
            ValueError: if a batch is empty or on another device than the model, the loss is no real scalar, the
                forward is random (active dropout), an operation has no second derivative where one is needed, a
                trainable weight is in low precision, or the route asked for is not valid here.
        """
        report, self._hint = self._wrapped.together(functools.partial(self._teleport, inputs, targets, subspace, probe))
        return report

    def _teleport(
        self, inputs: Inputs, targets: Any, subspace: Inputs | list[Inputs] | None, probe: tuple[Inputs, Any] | None
    ) -> tuple[TeleportReport, float]:
        """The report, and where the next search of a length begins."""
        device = checked_model(self._model)
        if probe is None and self._plan.limits.probe_drift is not None:
            raise ValueError("max_probe_drift needs teleport(..., probe=(inputs, targets)), got probe None")
        with untouched(device) as random_state, eagerly():
            problem, sample = self._problem(inputs, targets, subspace, device)
            watched = Probe(problem, probe, device)
            seconds = Seconds()
            view = survey(self._model, problem, self._search, sample, random_state, seconds)
            climb = Climb(view, problem, seconds, self._plan, watched, self._hint)
            evaluated = EvalMode(problem, self._model)
            before = evaluated.loss() if view.live else None
            with climb.undone_on_error():
                climb.run(self._route_for(view, problem))
                after = evaluated.loss() if view.live else None
                return climb.report(difference(after, before), evaluated.fault), climb.hint

    def _problem(
        self, inputs: Inputs, targets: Any, subspace: Inputs | list[Inputs] | None, device: torch.device
    ) -> tuple[Problem, list[Inputs] | None]:
        """The batch and the subspace sample, checked; the batch itself as its sample is no sample."""
        batch = checked_inputs("inputs", inputs, device)
        sample = None
        if subspace is not None and subspace is not inputs:
            given = subspace if isinstance(subspace, list) else [subspace]
            if not given:
                raise ValueError("subspace must hold at least one batch, got an empty list")
            sample = [batch if one is inputs else checked_inputs("subspace", one, device) for one in given]
        parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        wanted = checked_data("targets", targets, device)
        return Problem(Forward(self._model), self._loss_fn, batch, wanted, parameters, self._objective), sample

    def _route_for(self, view: Survey, problem: Problem) -> Route:
        """The cheapest valid route, or the one asked for."""
        if self._route == "jvp" and view.live and not view.is_exact:
            raise ValueError("route 'jvp' needs the objective batch inside the subspace sample, but it is not")
        if view.is_exact and self._route != "double_backward" and not self._objective.needs_hessian:
            return TangentRoute(problem, view.live)
        return DoubleBackwardRoute(problem, view.live)


def _checked_tau(tau: Any) -> tuple[TauRule | None, LayerwiseTau | None, float]:
    """How tau is chosen per layer, if it is, and the share to begin with."""
    if isinstance(tau, (AutoTau, DriftTau)) or tau == "auto":
        return (AutoTau() if isinstance(tau, str) else tau), None, 1.0
    if isinstance(tau, LayerwiseTau):
        return None, tau, 1.0
    if not (isinstance(tau, Real) and 0.0 < float(tau) <= 1.0):
        raise ValueError(f"tau must lie in (0, 1], or be 'auto', an AutoTau, a DriftTau or a LayerwiseTau, got {tau!r}")
    return None, None, float(tau)
