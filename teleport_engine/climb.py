"""The steps of one teleport: direction, projection, length, guards, and the way back."""

import math
import time
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from teleport_engine.boundary import checked_data, checked_inputs, num_samples
from teleport_engine.line import WeightLine
from teleport_engine.objective import Evaluation, Problem, square_norm
from teleport_engine.report import Outcome, Seconds, StepTrace, TeleportReport
from teleport_engine.route import Route
from teleport_engine.step_rule import StepRule
from teleport_engine.survey import Survey, project
from teleport_engine.types import Inputs

__all__ = ["Climb", "Limits", "Probe"]

# More drift than this of an exact move, relative to max(1, |loss|), is no rounding: something moves the loss.
_ROUNDING_DRIFT = {torch.float64: 1e-8, torch.float32: 1e-4}


@final
@dataclass(frozen=True)
class Limits:
    """What no step may pass; None: no limit.

    Args:
        grad_norm: largest gradient norm.
        loss_drift: largest change of the loss on the batch.
        probe_drift: largest change of the loss on the probe batch.
    """

    grad_norm: float | None
    loss_drift: float | None
    probe_drift: float | None


@final
class Probe:
    """The loss on data outside the batch; silent where there is none.

    Args:
        problem: the loss, and where its cost is counted.
        data: inputs and targets, or None.
        device: where the model is.

    Raises:
        ValueError: if the data are no pair, empty, or on another device.
    """

    def __init__(self, problem: Problem, data: Any, device: torch.device) -> None:
        self._problem = problem
        self._data: tuple[Inputs, Any] | None = None
        if data is not None:
            if not isinstance(data, (tuple, list)) or len(data) != 2:
                raise ValueError(f"probe must be a pair (inputs, targets), got {type(data).__name__}")
            self._data = checked_inputs("probe", data[0], device), checked_data("probe", data[1], device)

    def loss(self) -> float | None:
        """Evaluates it at the present weights.

        Returns:
            The loss, or None without a probe.
        """
        if self._data is None:
            return None
        problem, (inputs, targets) = self._problem, self._data
        problem.num_gradient_evaluations += num_samples(inputs) / num_samples(problem.inputs) / 3.0
        with torch.no_grad():
            return float(problem.loss_fn(problem.forward(inputs), targets))


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


@final
class Climb:
    """The steps of one teleport.

    Args:
        view: which layers can move, and where to.
        problem: the loss.
        seconds: where the time goes, added to.
        limits: the guards.
        probe: data outside the batch.
    """

    def __init__(self, view: Survey, problem: Problem, seconds: Seconds, limits: Limits, probe: Probe) -> None:
        self._view = view
        self._problem = problem
        self._seconds = seconds
        self._limits = limits
        self._probe = probe
        self._weights: list[Tensor] = [parameter for layer in view.live for parameter in layer.parameters]
        self._origin = [weight.detach().clone() for weight in self._weights]
        self._probe_before = self._probe_after = probe.loss()
        self._trace: list[StepTrace] = []
        self._outcome = view.outcome
        self._messages: list[str] = []
        self._route_name = "none"
        self._hint = 1.0

    def run(self, route: Route, rule: StepRule, num_steps: int) -> None:
        """Takes the steps; whatever raises, the weights are put back first.

        Args:
            route: to the direction.
            rule: for the length.
            num_steps: at most.

        Raises:
            BaseException: whatever the model or the loss raises.
        """
        start = time.perf_counter()
        self._before = self._after = route.finish(self._view.record)
        self._seconds.direction += time.perf_counter() - start
        if not self._view.live:
            return
        try:
            self._outcome = self._first_trouble(self._before) or self._steps(route, rule, num_steps)
            if self._outcome is Outcome.NON_FINITE:
                self._restore()
            elif self._trace and self._trace[-1].probe_loss is None:
                self._probe_after = self._probe.loss()
        except BaseException:
            self._restore()
            raise

    def _steps(self, route: Route, rule: StepRule, num_steps: int) -> Outcome:
        for index in range(num_steps):
            start = time.perf_counter()
            directions, square = project(self._view, route.ascent(self._after))
            self._seconds.direction += time.perf_counter() - start
            if route.fault and not self._messages:
                self._messages.append(route.fault)
            self._route_name = route.name
            if not math.isfinite(square):
                return Outcome.NON_FINITE
            if square == 0.0:
                return Outcome.NO_ASCENT
            start = time.perf_counter()
            moving = [
                pair
                for layer, part in zip(self._view.live, directions, strict=True)
                if part is not None
                for pair in zip(layer.parameters, layer.unpack(part), strict=True)
            ]
            line = WeightLine(
                route, self._problem.objective, self._after, moving, square, self._hint, index == num_steps - 1
            )
            trouble = self._take(line, rule)
            self._seconds.apply += time.perf_counter() - start
            if trouble is not None:
                return trouble
        return Outcome.MOVED

    def _take(self, line: WeightLine, rule: StepRule) -> Outcome | None:
        """One step along a line: kept, or undone with the reason."""
        eta = rule.length(line)
        if eta is None:
            line.undo()
            return Outcome.TARGET_MISSED
        landed = line.land(eta)
        trouble = self._first_trouble(landed)
        probe_loss = None
        if trouble is None and self._limits.probe_drift is not None:
            probe_loss = self._probe.loss()
            drift = _difference(probe_loss, self._probe_before)
            if drift is not None and not abs(drift) <= self._limits.probe_drift:
                trouble = Outcome.DRIFT
                self._messages.append(f"probe loss changed by {drift:.6g}: step undone")
        if trouble is not None:
            line.undo()
            return trouble
        predicted = (landed.measured.value - line.value) / line.slope
        self._hint = eta / predicted if predicted > 0.0 else 1.0
        self._after = landed
        self._probe_after = probe_loss if probe_loss is not None else self._probe_after
        self._trace.append(StepTrace(landed.loss, landed.grad_norm, eta, probe_loss, landed.measured.value))
        return None

    def _first_trouble(self, here: Evaluation) -> Outcome | None:
        """The guards, at a point that may become the next."""
        if not here.is_finite:
            return Outcome.NON_FINITE
        limits = self._limits
        if limits.grad_norm is not None and here.grad_norm > limits.grad_norm:
            return Outcome.CAP_REACHED
        limit = self._drift_limit()
        if abs(here.loss - self._before.loss) > limit:
            self._messages.append(f"loss {self._before.loss:.9g} -> {here.loss:.9g}, limit {limit:.3g}: step undone")
            return Outcome.DRIFT
        return None

    def _drift_limit(self) -> float:
        limit = math.inf if self._limits.loss_drift is None else self._limits.loss_drift
        if self._view.is_exact:
            coarse = max(_ROUNDING_DRIFT[weight.dtype] for weight in self._weights)
            limit = min(limit, coarse * max(1.0, abs(self._before.loss)))
        return limit

    def _restore(self) -> None:
        with torch.no_grad():
            for weight, origin in zip(self._weights, self._origin, strict=True):
                if not torch.equal(weight, origin):
                    weight.copy_(origin)
        self._after, self._probe_after = self._before, self._probe_before
        self._trace.clear()

    def report(self) -> TeleportReport:
        """What was done.

        Returns:
            The report.
        """
        moves = iter(weight.detach() - origin for weight, origin in zip(self._weights, self._origin, strict=True))
        lengths = {
            layer.parameter_name: math.sqrt(square_norm([next(moves) for _ in layer.parameters]))
            for layer in self._view.live
        }
        idle = "rolled back" if not self._trace else "no gradient in its null space"
        if self._outcome is Outcome.NO_ASCENT:
            idle = "no gradient in its null space"
        layers = self._view.layer_reports(lengths, idle)
        return TeleportReport(
            outcome=self._outcome,
            loss_before=self._before.loss,
            loss_after=self._after.loss,
            grad_norm_before=self._before.grad_norm,
            grad_norm_after=self._after.grad_norm,
            num_steps=len(self._trace),
            layers=layers,
            trace=tuple(self._trace),
            objective_before=self._before.measured.value,
            objective_after=self._after.measured.value,
            probe_drift=_difference(self._probe_after, self._probe_before),
            num_gradient_evaluations=self._problem.num_gradient_evaluations,
            seconds=self._seconds,
            route=self._route_name,
            messages=tuple(self._messages),
        )
