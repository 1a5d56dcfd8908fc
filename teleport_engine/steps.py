"""The steps of one teleport: direction, projection, length, guards, and the way back."""

import copy
import functools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from teleport_engine.nullspace import Survey, facts_of, project
from teleport_engine.objective import Evaluation, Problem, Route, square_norm
from teleport_engine.options import Options
from teleport_engine.report import GuardEvent, Outcome, Seconds, StepTrace, TeleportReport, log_growth
from teleport_engine.step import (
    Breach,
    Ceiling,
    Exactness,
    Guards,
    LayerwiseStep,
    Probe,
    Room,
    WeightLine,
    difference,
)

__all__ = ["Climb"]

# A step of which `max_relative_step` leaves less than this share is not worth taking.
_LEAST_SHARE = 0.01

_Directions = Sequence[Tensor | None]


@final
@dataclass(frozen=True, eq=False)
class _Landing:
    """Where a step has landed, and stays."""

    here: Evaluation
    eta: float
    probe_loss: float | None
    is_last: bool


@final
class Climb:
    """The steps of one teleport.

    Attributes:
        hint: how far off the slope's prediction was at the last step; to begin with, of the teleport before.
    """

    def __init__(
        self, view: Survey, problem: Problem, seconds: Seconds, options: Options, probe: Probe, hint: float = 1.0
    ) -> None:
        self._view = view
        self._problem = problem
        self._seconds = seconds
        self._options = options
        self._limits = options.limits_in_force
        self._probe = probe
        self._weights: list[Tensor] = [parameter for layer in view.live for parameter in layer.parameters]
        self._origin = [weight.detach().clone() for weight in self._weights]
        self._probe_before = self._probe_after = probe.loss()
        self._trace: list[StepTrace] = []
        self._events: list[GuardEvent] = []
        self._outcome = view.outcome
        self._messages = list(view.messages)
        self._route_name = "none"
        self._seen: tuple[WeightLine, float, float | None] | None = None
        self._is_over = False
        self.hint = hint

    @property
    def landed(self) -> Evaluation:
        """Loss and gradient at the present weights, once the steps are taken."""
        return self._after

    def run(self, route: Route) -> None:
        """Takes the steps, with the directions that a route gives."""
        start = time.perf_counter()
        self._before = self._after = route.finish(self._view.record)
        self._seconds.direction += time.perf_counter() - start
        if not self._view.live:
            return
        self._outcome = self._climb(route)
        if self._outcome is Outcome.NON_FINITE:
            self._trace.clear()
            self._restore()
        elif self._trace and not self._options.move.is_kept:
            self._outcome = Outcome.PUT_BACK
            self._restore()
        elif self._trace and self._trace[-1].probe_loss is None:
            self._probe_after = self._probe.loss()

    @contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Puts the weights back first, whatever raises inside."""
        try:
            yield
        except BaseException:
            self._put_back()
            raise

    def _climb(self, route: Route) -> Outcome:
        limits, view = self._limits, self._view
        self._guards = Guards(limits, self._before, self._probe_before)
        self._exactness = Exactness(self._problem, self._before, self._weights, self._origin) if view.is_exact else None
        self._room = (
            None if limits.max_relative_step is None else Room(view.live, self._origin, limits.max_relative_step)
        )
        breach = self._guards.breach(self._before)
        if breach is not None:
            self._note(0, breach, "stopped")
            return breach.outcome
        for index in range(self._options.num_steps):
            end = self._step(index, route)
            if end is not None:
                return end
            if self._options.while_it_pays and not self._pays(index):
                return Outcome.MOVED
        return Outcome.MOVED

    def _pays(self, index: int) -> bool:
        """Says whether the step just taken has gained, per gradient evaluation, what the teleport has on average.

        It has not where a guard had to hold the step back: what this teleport may do has been done then. Else by the
        marginal value theorem: the basis is paid for already, so a step more is worth it as long as it is better than a
        teleport begun anew, whose best guess is this one's average, the basis and its guards included.
        """
        if self._is_over or any(event.step == index for event in self._events):
            return False
        last = self._trace[-1]
        earlier = self._trace[-2].grad_norm if len(self._trace) > 1 else self._before.grad_norm
        cost, spent = last.num_gradient_evaluations, self._problem.num_gradient_evaluations
        gain, total = (log_growth(last.grad_norm, start) for start in (earlier, self._before.grad_norm))
        return gain * spent >= total * cost

    def _step(self, index: int, route: Route) -> Outcome | None:
        """Takes one step and notes it, or says how the climb ends."""
        mark, cost = copy.copy(self._seconds), self._problem.num_gradient_evaluations
        start = time.perf_counter()
        ascents = route.ascent(self._after)
        projected, square = project(self._view, ascents)
        self._problem.spend(self._view.projection_work(ascents))
        self._seconds.direction += time.perf_counter() - start
        if route.fault and route.fault not in self._messages:
            self._messages.append(route.fault)
        self._route_name = route.name
        if not math.isfinite(square):
            self._note(index, Breach("non_finite", square, math.inf, Outcome.NON_FINITE), "rolled back")
            return Outcome.NON_FINITE
        if square == 0.0:
            return Outcome.NO_ASCENT
        start = time.perf_counter()
        directions, slope = self._scaled(projected, square)
        landing = self._take(index, route, directions, slope)
        self._seconds.apply += time.perf_counter() - start
        if isinstance(landing, Outcome):
            return landing
        here, probe_loss = landing.here, landing.probe_loss
        self._after, self._is_over = here, landing.is_last
        self._probe_after = probe_loss if probe_loss is not None else self._probe_after
        self._trace.append(
            StepTrace(
                loss=here.loss,
                grad_norm=here.grad_norm,
                eta=landing.eta,
                loss_drift=here.loss - self._before.loss,
                probe_loss=probe_loss,
                probe_drift=difference(probe_loss, self._probe_before),
                objective=here.measured.value,
                seconds=self._seconds.since(mark),
                num_gradient_evaluations=self._problem.num_gradient_evaluations - cost,
            )
        )
        return None

    def _scaled(self, directions: _Directions, slope: float) -> tuple[_Directions, float]:
        """Gives the directions and the slope along them, once a rule of layers has been asked for their scales."""
        rule, view = self._options.step, self._view
        if not isinstance(rule, LayerwiseStep):
            return directions, slope
        grads = {id(one): grad for one, grad in zip(self._problem.parameters, self._after.grads, strict=True)}
        moving = [layer for layer, part in zip(view.live, directions, strict=True) if part is not None]
        parts = [[grads[id(parameter)] for parameter in layer.parameters] for layer in moving]
        found = iter(facts_of(moving, view.linear, parts, view.subspaces))
        return rule.scaled([None if part is None else next(found) for part in directions], directions)

    def _line(self, route: Route, directions: _Directions, slope: float, is_last: bool) -> WeightLine:
        moving = [
            pair
            for layer, part in zip(self._view.live, directions, strict=True)
            if part is not None
            for pair in zip(layer.parameters, layer.unpack(part), strict=True)
        ]
        num_layers = len(self._view.linear)
        return WeightLine(route, self._problem.objective, self._after, moving, slope, self.hint, num_layers, is_last)

    def _take(self, index: int, route: Route, directions: _Directions, slope: float) -> _Landing | Outcome:
        """Chooses a length, moves, asks the guards: the weights end where the step has landed, or where they were."""
        is_last = index == self._options.num_steps - 1
        along = self._options.move.along(directions, self._view.projectors)
        longest = math.inf if self._room is None else self._room.longest(along)
        line = path = self._line(route, directions, slope, is_last)
        if along is directions:
            self._limit(index, path, longest)
        eta = self._options.step.length(line)
        if eta is None:
            line.undo()
            return Outcome.TARGET_MISSED
        self._learn(line, eta)
        if along is not directions:
            # A control goes another way than the line that its length is measured on, and has another room.
            line.undo()
            path = self._line(route, along, slope, is_last)
            self._limit(index, path, longest)
        if eta > longest and self._is_crowded(index, eta, longest):
            path.undo()
            return Outcome.CAP_REACHED
        eta = path.allowed(eta)
        if eta == 0.0:
            path.undo()
            return Outcome.DRIFT
        for num_left in reversed(range(self._limits.max_backoffs + 1)):
            here = path.land(eta)
            if path is line:
                self._learn(line, eta)
            breach, probe_loss = self._guards.breach(here), None
            if breach is None and self._limits.is_probe_watched:
                probe_loss = self._probe_loss(path, eta)
                breach = self._guards.probe_breach(probe_loss)
            wrong = None if breach or self._exactness is None else self._exactness.breach(here)
            if wrong is not None:
                self._note(index, wrong, "rolled back")
                self._trace.clear()
                self._restore()
                return wrong.outcome
            if breach is None:
                return _Landing(here, eta, probe_loss, path.is_last(eta))
            if num_left:
                eta *= self._shorten(index, breach)
                path.ceiling.longest = eta
        path.undo()
        assert breach is not None
        self._note(index, breach, "rolled back" if breach.outcome is Outcome.NON_FINITE else "undone")
        return breach.outcome

    def _limit(self, index: int, path: WeightLine, longest: float) -> None:
        """Gives a path its ceiling.

        Where a step that is held back is the last, the probe batch is looked at before a gradient is taken: a forward
        tells what else would cost a gradient to find out.
        """
        looks = self._options.while_it_pays and self._limits.is_probe_watched
        look = functools.partial(self._look, index, path) if looks else None
        path.ceiling = Ceiling(longest, look, is_end=self._options.while_it_pays)

    def _look(self, index: int, path: WeightLine, eta: float) -> float:
        """Gives the longest step, up to a length, that keeps the probe batch within its limit; 0 where none does."""
        for num_left in reversed(range(self._limits.max_backoffs + 1)):
            path.place(eta)
            breach = self._guards.probe_breach(self._probe_loss(path, eta))
            if breach is None:
                return eta
            if num_left:
                eta *= self._shorten(index, breach)
        assert breach is not None
        self._note(index, breach, "undone")
        return 0.0

    def _probe_loss(self, path: WeightLine, eta: float) -> float | None:
        """Gives the loss on the probe batch at a length of a path, where the weights are; remembers it."""
        if self._seen is None or self._seen[:2] != (path, eta):
            self._seen = path, eta, self._probe.loss()
        return self._seen[2]

    def _shorten(self, index: int, breach: Breach) -> float:
        """Notes a breach, and gives the share of the step that is kept."""
        share = _share_kept(breach) if self._options.while_it_pays else 0.5
        self._note(index, breach, "halved" if share == 0.5 else "shortened")
        return share

    def _learn(self, line: WeightLine, eta: float) -> None:
        """Notes how far off the slope's prediction was, where the directed line is known at this length."""
        value = line.reached(eta)
        if value is not None:
            predicted = (value - line.value) / line.slope
            self.hint = eta / predicted if predicted > 0.0 else 1.0

    def _is_crowded(self, index: int, eta: float, longest: float) -> bool:
        """Notes that `max_relative_step` shortens a step; whether next to nothing is left of it."""
        share = self._limits.max_relative_step
        assert share is not None
        # Where a step that is held back ends the teleport anyway, what room there is may as well be used.
        is_end = longest == 0.0 if self._options.while_it_pays else longest < _LEAST_SHARE * eta
        value = share * eta / longest if longest > 0.0 else math.inf
        self._say(GuardEvent(index, "relative_step", value, share, "stopped" if is_end else "shortened"))
        return is_end

    def _note(
        self, index: int, breach: Breach, action: Literal["halved", "shortened", "undone", "rolled back", "stopped"]
    ) -> None:
        self._say(GuardEvent(index, breach.guard, breach.value, breach.limit, action))

    def _say(self, event: GuardEvent) -> None:
        self._events.append(event)
        self._messages.append(str(event))

    def _put_back(self) -> None:
        with torch.no_grad():
            for weight, origin in zip(self._weights, self._origin, strict=True):
                if not torch.equal(weight, origin):
                    weight.copy_(origin)

    def _restore(self) -> None:
        self._put_back()
        self._after, self._probe_after = self._before, self._probe_before

    def report(self, eval_drift: float | None, *notes: str) -> TeleportReport:
        """Reports what was done; `notes` are added to the messages."""
        moves = iter(weight.detach() - origin for weight, origin in zip(self._weights, self._origin, strict=True))
        lengths = {
            layer.parameter_name: math.sqrt(square_norm([next(moves) for _ in layer.parameters]))
            for layer in self._view.live
        }
        idle = "no gradient in its null space"
        if self._outcome is Outcome.PUT_BACK:
            idle = "put back"
        elif not self._trace and self._outcome is not Outcome.NO_ASCENT:
            idle = "rolled back"
        return TeleportReport(
            outcome=self._outcome,
            loss_before=self._before.loss,
            loss_after=self._after.loss,
            grad_norm_before=self._before.grad_norm,
            grad_norm_after=self._after.grad_norm,
            num_steps=0 if self._outcome is Outcome.PUT_BACK else len(self._trace),
            layers=self._view.layer_reports(lengths, idle),
            trace=tuple(self._trace),
            objective_before=self._before.measured.value,
            objective_after=self._after.measured.value,
            probe_drift=difference(self._probe_after, self._probe_before),
            eval_drift=eval_drift,
            events=tuple(self._events),
            num_gradient_evaluations=self._problem.num_gradient_evaluations,
            seconds=self._seconds,
            route=self._route_name,
            messages=(*self._messages, *filter(None, notes)),
        )


def _share_kept(breach: Breach) -> float:
    """Says what is left of a step that has passed a limit, where a step that is held back is the last.

    For a drift, what a drift in proportion to the length leaves room for, a tenth less: one try is then mostly enough.
    """
    if breach.outcome is not Outcome.DRIFT or not math.isfinite(breach.value):
        return 0.5
    return min(0.5, max(0.01, 0.9 * breach.limit / breach.value))
