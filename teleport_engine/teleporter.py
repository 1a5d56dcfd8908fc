"""The one loop of a teleport: which layers can move, direction, projection, step, guards, report.

Source of the method: arXiv 2502.11362, teleportation along the loss level set by projection on the null space of each
layer's inputs. What this project adds to it, and why each part is as it is: docs/method.md.
"""

import functools
from dataclasses import replace
from typing import Any, Literal, final

import torch
from torch import nn

from teleport_engine.landing import KeptGradient
from teleport_engine.model import (
    Forward,
    Inputs,
    LossFn,
    Params,
    Workers,
    Wrapped,
    checked_data,
    checked_inputs,
    checked_model,
    eagerly,
    untouched,
)
from teleport_engine.nullspace import ConstantTau, Search, Subspace, Survey, TauRule, project, spectrum, survey
from teleport_engine.objective import DoubleBackwardRoute, Objective, Problem, Route, TangentRoute
from teleport_engine.options import Options
from teleport_engine.report import Seconds, TeleportReport
from teleport_engine.schedule import Timetable
from teleport_engine.step import EvalMode, LayerwiseStep, MeasuredGrowth, Probe, StepRule, difference
from teleport_engine.steps import Climb

__all__ = ["Teleporter"]


@final
class Teleporter:
    """Moves a model's weights along the level set of its loss to where the gradient is larger.

    Args:
        model: any module. Its linear maps move; everything else stays and is named in the report. A compiled or
            data-parallel model is teleported through the module inside.
        loss_fn: `loss_fn(outputs, targets)` gives a tensor without dimensions.
        options: every option of a teleport. In its place the most common ones (`tau`, `step`, `num_steps`, `schedule`,
            `objective`) may be given by name.

    Raises:
        ValueError: if an option is out of its range, `options` and a named option are both given, or the weights are
            sharded over ranks.

    Examples:
        >>> from teleport_engine import FixedStep
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
        options: Options | None = None,
        *,
        tau: float | TauRule | Literal["auto"] | None = None,
        step: StepRule | None = None,
        num_steps: int | None = None,
        schedule: Timetable | None = None,
        objective: Objective | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"model must be a torch.nn.Module, got {model!r}")
        if not callable(loss_fn):
            raise ValueError(f"loss_fn must be callable, got {loss_fn!r}")
        given = {"tau": tau, "step": step, "num_steps": num_steps, "schedule": schedule, "objective": objective}
        named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if options is not None and named:
            raise ValueError(
                f"options must be given in one place, as options or by name, got options and {', '.join(named)}: "
                f"write Options({', '.join(f'{name}=...' for name in named)}, ...)"
            )
        if options is not None and not isinstance(options, Options):
            raise ValueError(f"options must be an object such as Options(tau=0.999), got {options!r}")
        self._wrapped = Wrapped(model)
        self._model = self._wrapped.module
        self._loss_fn = loss_fn
        self._options = options = options or Options(**named)
        rule = options.tau_rule
        self._search = Search(
            rule,
            options.factorisation,
            options.move_bias,
            Workers(options.num_threads),
            options.limits_in_force.max_relative_step or 0.0,
            starts={} if options.factorisation == "randomised" and rule.start < 1.0 else None,
            with_facts=isinstance(options.step, LayerwiseStep | MeasuredGrowth),
        )
        self._hint = 1.0
        self._kept: KeptGradient | None = None

    @classmethod
    def adaptive(
        cls, model: nn.Module, loss_fn: LossFn, *, drift: float = 0.01, growth: float = 1.5, **more: Any
    ) -> "Teleporter":
        """Makes a teleporter with two knobs free of scale: how much drift, and how much growth (`Options.adaptive`).

        Examples:
            >>> _ = torch.manual_seed(0)
            >>> model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
            >>> teleporter = Teleporter.adaptive(model, nn.functional.cross_entropy)
            >>> report = teleporter.teleport(torch.randn(64, 4), torch.arange(64) % 3)
            >>> report.grad_norm_ratio > 1.05, abs(report.loss_drift) <= 0.01 * report.loss_before
            (True, True)
        """
        return cls(model, loss_fn, Options.adaptive(drift=drift, growth=growth, **more))

    @property
    def model(self) -> nn.Module:
        """The module whose weights move, without wrappers."""
        return self._model

    @property
    def loss_fn(self) -> LossFn:
        """The loss function, as it was given."""
        return self._loss_fn

    @property
    def schedule(self) -> Timetable | None:
        """The schedule of `step()`."""
        return self._options.schedule

    def state_dict(self) -> dict[str, Any]:
        """Gives what the next teleports depend on besides weights and batches, for `load_state_dict` and `torch.save`.

        It holds the state of the schedule and of the move, where the step rule begins its search, and the bases that
        the randomised factorisation starts from.
        """
        return {
            "schedule": {} if self._options.schedule is None else self._options.schedule.state_dict(),
            "move": self._options.move.state_dict(),
            "hint": self._hint,
            "starts": dict(self._search.starts or {}),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from the state of a teleporter with the same options."""
        if self._options.schedule is not None:
            self._options.schedule.load_state_dict(state_dict["schedule"])
        self._options.move.load_state_dict(state_dict["move"])
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
        """Teleports where the schedule says so; gives the report, or None where no teleport is due.

        `step_index` is that of the optimizer step about to be taken, from 0. The rest is as in `teleport`; inputs and
        targets are not looked at where there is a `batch_source`.

        Raises:
            ValueError: if there is no schedule; as in `teleport`.
        """
        if self._options.schedule is None:
            raise ValueError("Teleporter.step needs a schedule: give Teleporter(schedule=Schedule(...)), got None")
        if not self._options.schedule.is_due(step_index):
            return None
        if self._options.batch_source is not None:
            batch = self._options.batch_source(step_index)
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(f"batch_source must give a pair (inputs, targets), got {type(batch).__name__}")
            inputs, targets = batch
        report = self.teleport(inputs, targets, subspace=subspace, probe=probe)
        self._options.schedule.note(report)
        return report

    def direction(self, inputs: Inputs, targets: Any, *, subspace: Inputs | list[Inputs] | None = None) -> Params:
        """Gives the projected ascent direction of the objective at the present weights. Nothing moves.

        The arguments are those of `teleport`, and so are the errors.

        Returns:
            Parameter name to `(grad F)_l P_l` in the parameter's shape (`(Hg)_l P_l` for the paper's objective); what
            cannot move is absent. Empty where a value is not finite.
        """
        device = checked_model(self._model)
        with untouched(device, self._model), eagerly():
            problem, sample = self._problem(inputs, targets, subspace, device)
            view = survey(self._model, problem, self._search, sample, Seconds())
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
        with untouched(device, self._model), eagerly():
            batches = [checked_inputs("inputs", one, device) for one in given]
            problem = Problem(Forward(self._model, self._loss_fn), batches[0], None, [], self._options.objective)
            rule = ConstantTau(self._search.rule.start)
            search = replace(self._search, rule=rule, factorisation="exact", starts=None, with_energies=True)
            return spectrum(self._model, problem, search, batches)

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
                forward is random (a second one gives another result), an operation has no second derivative where one
                is needed, a trainable weight is in low precision, or the route asked for is not valid here.
        """
        self._kept = None
        report, self._hint = self._wrapped.together(functools.partial(self._teleport, inputs, targets, subspace, probe))
        return report

    def reuse_gradient(self, inputs: Inputs, targets: Any) -> float | None:
        """Takes the gradient of the next training step from the latest teleport, where that has computed it.

        A teleport ends with loss and gradient on its batch at the weights where it lands. A step on the same batch
        needs just these, so a forward and a backward are saved. The gradient is added to `.grad`, as `loss.backward()`
        does:

            loss = teleporter.reuse_gradient(inputs, targets)
            if loss is None:
                loss = loss_fn(model(inputs), targets)
                loss.backward()

        It is the step's gradient to rounding, and bit for bit where the teleport runs torch's own kernels (not in
        attention and recurrent layers, whose fast ones have no second derivative). It is given once.

        Returns:
            The loss; None, and nothing is added, where a step would compute something else or do more: another batch
            object, weights, buffers or a batch written since, another mode or `requires_grad`, autocast, several
            ranks, hooks on the model, dropout and other randomness, a batch norm in train mode or another module that
            writes to the model, trainable parameters outside the model. (Writes through `.data` are not seen.)

        Raises:
            ValueError: if the teleporter was made without `keep_gradient`.
        """
        if not self._options.keep_gradient:
            raise ValueError("reuse_gradient needs Teleporter(model, loss_fn, Options(keep_gradient=True)), got False")
        kept, self._kept = self._kept, None
        return None if kept is None else kept.give(self._model, inputs, targets)

    def _teleport(
        self, inputs: Inputs, targets: Any, subspace: Inputs | list[Inputs] | None, probe: tuple[Inputs, Any] | None
    ) -> tuple[TeleportReport, float]:
        """Gives the report, and where the next search of a length begins."""
        device = checked_model(self._model)
        if probe is None and self._options.limits.max_probe_drift is not None:
            raise ValueError("max_probe_drift needs teleport(..., probe=(inputs, targets)), got probe None")
        with untouched(device, self._model), eagerly():
            problem, sample = self._problem(inputs, targets, subspace, device)
            watched = Probe(problem, probe, device)
            seconds = Seconds()
            view = survey(self._model, problem, self._search, sample, seconds)
            climb = Climb(view, problem, seconds, self._options, watched, self._hint)
            evaluated = EvalMode(problem, self._model)
            before = evaluated.loss() if view.live else None
            with climb.undone_on_error():
                climb.run(self._route_for(view, problem))
                after = evaluated.loss() if view.live else None
                if self._options.keep_gradient and self._wrapped.is_alone:
                    loss = view.record.loss
                    self._kept = KeptGradient(self._model, inputs, targets, problem, climb.landed, loss)
                return climb.report(difference(after, before), evaluated.fault), climb.hint

    def _problem(
        self, inputs: Inputs, targets: Any, subspace: Inputs | list[Inputs] | None, device: torch.device
    ) -> tuple[Problem, list[Inputs] | None]:
        """Checks the batch and the subspace sample; None where the batch itself is the sample."""
        batch = checked_inputs("inputs", inputs, device)
        sample = None
        if subspace is not None and subspace is not inputs:
            given = subspace if isinstance(subspace, list) else [subspace]
            if not given:
                raise ValueError("subspace must hold at least one batch, got an empty list")
            sample = [batch if one is inputs else checked_inputs("subspace", one, device) for one in given]
        parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        wanted = checked_data("targets", targets, device)
        return Problem(Forward(self._model, self._loss_fn), batch, wanted, parameters, self._options.objective), sample

    def _route_for(self, view: Survey, problem: Problem) -> Route:
        """Gives the cheapest valid route, or the one asked for."""
        if self._options.route == "jvp" and view.live and not view.is_exact:
            raise ValueError("route 'jvp' needs the objective batch inside the subspace sample, but it is not")
        if view.is_exact and self._options.route != "double_backward" and not self._options.objective.needs_hessian:
            return TangentRoute(problem, view.live)
        return DoubleBackwardRoute(problem, view.live)
