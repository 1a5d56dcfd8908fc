"""One teleport of a rival: where the weights are, where they were, and the report."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from teleport_engine.model import (
    FORWARD,
    SECOND_BACKWARD,
    Forward,
    Inputs,
    LossFn,
    Watch,
    WeightLayer,
    checked_data,
    checked_inputs,
    checked_model,
    untouched,
)
from teleport_engine.objective import Problem, norms_of
from teleport_engine.report import LayerReport, Outcome, Seconds, StepTrace, TeleportReport
from teleport_engine.step import Probe, difference

__all__ = ["Attempt", "Point", "attempt", "filled", "layer_reports", "posed"]


@final
@dataclass(frozen=True, eq=False)
class Point:
    """Loss and gradient somewhere.

    Args:
        loss: primary loss on the batch.
        square_norm: `||g||^2` over all trainable parameters.
        grads: `g`, zeros where the loss does not depend on a parameter.
        ascent: `Hg`, the gradient of `1/2 ||g||^2`; empty where it was not asked for.
    """

    loss: float
    square_norm: float
    grads: Sequence[Tensor]
    ascent: Sequence[Tensor] = ()

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient norm are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.square_norm)


@final
class Attempt:
    """The weights of a model during one teleport, and the way back to where they were."""

    def __init__(self, model: nn.Module, problem: Problem, origin: Sequence[Tensor], probe: Probe) -> None:
        self._model = model
        self._problem = problem
        self._probe = probe
        self._started_at = time.perf_counter()
        self.parameters = list(problem.parameters)
        self._origin = origin
        problem.refuse_random(problem.record((), is_census=True))
        self._probe_before = probe.loss()
        self.start = self.evaluate(with_ascent=True)
        self.trace: list[StepTrace] = []
        self.messages: list[str] = []

    def evaluate(self, *, with_ascent: bool) -> Point:
        """Takes loss and gradient at the present weights; `with_ascent` also `Hg`, by a second backward."""
        found = self._problem.differentiate(self._problem.record(()), with_graph=with_ascent)
        grads = filled(found.grads, self.parameters)
        if not with_ascent:
            return Point(found.loss, found.square_norm, grads)
        live = [grad for grad in found.grads if grad is not None and grad.requires_grad]
        ascent: Sequence[Tensor | None] = [None] * len(self.parameters)
        if live:
            ascent = torch.autograd.grad(live, self.parameters, [g.detach() for g in live], allow_unused=True)
            self._problem.num_gradient_evaluations += SECOND_BACKWARD
        return Point(found.loss, found.square_norm, grads, filled(ascent, self.parameters))

    def inputs_of(self, weights: Sequence[nn.Parameter]) -> list[list[Tensor]]:
        """Gives what each Linear weight `[d_out, d_in]` multiplies on the batch: per use, rows `[N, d_in]`."""
        watch = Watch(WeightLayer("", "", weight) for weight in weights)
        with self._problem.without_graph(), watch:
            self._problem.forward.outputs(self._problem.inputs)
        self._problem.num_gradient_evaluations += FORWARD
        return [[use.inputs.detach().flatten(0, -2) for use in uses] for uses in watch.uses]

    def snapshot(self) -> list[Tensor]:
        """Copies the present weights: one tensor per trainable parameter."""
        return [parameter.detach().clone() for parameter in self.parameters]

    def put(self, weights: Sequence[Tensor]) -> None:
        """Moves the model to some weights, one tensor per trainable parameter."""
        with torch.no_grad():
            torch._foreach_copy_(list(self.parameters), list(weights))

    def roll_back(self) -> None:
        """Puts the weights back, bit for bit, to where the teleport began."""
        self.put(self._origin)
        self.trace.clear()

    def keep(self, point: Point, eta: float) -> None:
        """Notes a step of length `eta` that was kept, and the point where it landed."""
        self.trace.append(StepTrace(point.loss, math.sqrt(point.square_norm), eta))

    def report(self, outcome: Outcome, route: str) -> TeleportReport:
        """Reports what was done, measured at the present weights; `route` is the name of the rival."""
        end = self.evaluate(with_ascent=False) if self.trace else self.start
        return TeleportReport(
            outcome=outcome,
            loss_before=self.start.loss,
            loss_after=end.loss,
            grad_norm_before=math.sqrt(self.start.square_norm),
            grad_norm_after=math.sqrt(end.square_norm),
            num_steps=len(self.trace),
            layers=layer_reports(self._model, self.parameters, self._origin, "did not move"),
            trace=tuple(self.trace),
            probe_drift=difference(self._probe.loss(), self._probe_before),
            num_gradient_evaluations=self._problem.num_gradient_evaluations,
            seconds=Seconds(direction=time.perf_counter() - self._started_at),
            route=route,
            messages=tuple(self.messages),
        )


@contextmanager
def attempt(
    model: nn.Module, loss_fn: LossFn, inputs: Inputs, targets: Any, probe: tuple[Inputs, Any] | None
) -> Iterator[Attempt]:
    """Begins a teleport that climbs from the present weights; otherwise as `posed`."""
    with posed(model, loss_fn, inputs, targets) as (problem, origin):
        yield Attempt(model, problem, origin, Probe(problem, probe, checked_model(model)))


@contextmanager
def posed(
    model: nn.Module, loss_fn: LossFn, inputs: Inputs, targets: Any
) -> Iterator[tuple[Problem, Sequence[Tensor]]]:
    """Poses the problem of a teleport, and gives a copy of each trainable parameter with it.

    Whatever raises inside, the weights are put back first.

    Raises:
        BaseException: whatever the model or the loss raises.
    """
    device = checked_model(model)
    with untouched(device, model):
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        batch, wanted = checked_inputs("inputs", inputs, device), checked_data("targets", targets, device)
        problem = Problem(Forward(model, loss_fn), batch, wanted, parameters)
        origin = [parameter.detach().clone() for parameter in parameters]
        try:
            yield problem, origin
        except BaseException:
            with torch.no_grad():
                torch._foreach_copy_(list(parameters), origin)
            raise


def layer_reports(
    model: nn.Module, parameters: Sequence[Tensor], origin: Sequence[Tensor], idle: str
) -> tuple[LayerReport, ...]:
    """Reports on every module with parameters of its own, by how far these are from their origin.

    Args:
        model: that the parameters belong to.
        parameters: the trainable ones.
        origin: where each of them was.
        idle: why a module stayed where it was.
    """
    moves = [parameter.detach() - before for parameter, before in zip(parameters, origin, strict=True)]
    lengths = dict(zip(map(id, parameters), norms_of(moves), strict=True))
    reports = []
    for name, module in model.named_modules():
        own = [parameter for parameter in module._parameters.values() if parameter is not None]
        if not own:
            continue
        length = math.hypot(*(lengths.get(id(parameter), 0.0) for parameter in own))
        d_in = next((math.prod(p.shape[1:]) for p in own if p.ndim > 1), None)
        reason = "" if length > 0.0 else idle
        reports.append(LayerReport(name, d_in, moved=length > 0.0, reason=reason, step_length=length))
    return tuple(reports)


def filled(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Puts zeros where the loss does not depend on a tensor, and detaches the rest."""
    return [
        torch.zeros_like(weight) if part is None else part.detach() for part, weight in zip(found, like, strict=True)
    ]
