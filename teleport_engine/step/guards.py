"""What no step of a teleport may do, and what is watched beside the batch."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.nn.modules.batchnorm import _NormBase

from teleport_engine.model import FORWARD, Inputs, WeightLayer, checked_data, checked_inputs, is_whole, num_samples
from teleport_engine.objective import ROUNDING, Evaluation, Problem
from teleport_engine.report import Outcome

__all__ = ["Breach", "EvalMode", "Exactness", "Guards", "Limits", "Probe", "Room", "difference"]


# Rounding of a move, which adds up over layers and steps, over that of the weights.
_MARGIN = 100.0


@final
@dataclass(frozen=True)
class Limits:
    """What no step of a teleport may pass; None means no limit.

    A step that passes a limit, or is not finite, is halved up to `max_backoffs` times, and undone if that does not
    help.

    Args:
        grad_norm_cap: largest gradient norm.
        max_loss_drift: largest change of the loss on the batch. None with an `AutoTau`: the `drift` of that.
        max_probe_drift: largest change of the loss on the probe batch, which is then evaluated at each step.
        max_drift_share: like `max_loss_drift`, as a share of the loss before the teleport. None with a `DriftTau`: the
            `drift` of that; below `tau = 1` without any of the two: 1, so that the loss at most doubles.
        max_probe_drift_share: the same on the probe batch, where one is given.
        max_relative_step: no step, and no move since the start of a teleport, is longer than this share of `||W||`, in
            any layer; a step that would be is shortened. None with an `AutoTau` or a `DriftTau`: 0.1.
        max_growth: largest factor by which `||g||` may grow in a teleport. None with a step rule that does not aim at a
            growth, and no `grad_norm_cap`: 10; `math.inf` for no limit.
        max_backoffs: how often a step is halved before it is undone.

    Raises:
        ValueError: if a number is out of its range; the message names every one that is.
    """

    grad_norm_cap: float | None = None
    max_loss_drift: float | None = None
    max_probe_drift: float | None = None
    max_drift_share: float | None = None
    max_probe_drift_share: float | None = None
    max_relative_step: float | None = None
    max_growth: float | None = None
    max_backoffs: int = 3

    def __post_init__(self) -> None:
        faults = []
        for one in fields(self)[:-1]:
            value = getattr(self, one.name)
            if isinstance(value, Real) and float(value) > 0.0:
                object.__setattr__(self, one.name, float(value))
            elif value is not None:
                faults.append(f"{one.name} must be > 0 or None, got {value!r}")
        if not is_whole(self.max_backoffs, 0):
            faults.append(f"max_backoffs must be a whole number >= 0, got {self.max_backoffs!r}")
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def is_probe_watched(self) -> bool:
        """Whether the probe batch has to be looked at after each step."""
        return self.max_probe_drift is not None or self.max_probe_drift_share is not None


@final
class Probe:
    """The loss on data outside the batch; without data it gives None.

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
        """Evaluates the loss at the present weights; None without a probe."""
        if self._data is None:
            return None
        problem, (inputs, targets) = self._problem, self._data
        problem.num_gradient_evaluations += FORWARD * num_samples(inputs) / num_samples(problem.inputs)
        return problem.loss(inputs, targets)


@final
class EvalMode:
    """The loss of the objective batch in evaluation mode, where a batch norm is in train mode; else it gives None.

    A move keeps the outputs in the mode it was made in: with batch statistics there, those of the same batch with
    running statistics do move.

    Attributes:
        fault: why there is no loss where there should be one; empty where there is.
    """

    def __init__(self, problem: Problem, model: nn.Module) -> None:
        self._problem = problem
        self._model = model
        self._is_silent = not any(
            isinstance(module, _NormBase) and module.training and module.running_mean is not None
            for module in model.modules()
        )
        self._is_known = False
        self.fault = ""

    def loss(self) -> float | None:
        """Evaluates the loss at the present weights.

        Returns:
            The loss; None where train and evaluation mode do not differ by a batch norm, or the loss has no meaning
            in evaluation mode.

        Raises:
            Exception: whatever the model or the loss raises, once they have been run in evaluation mode.
        """
        if self._is_silent:
            return None
        problem = self._problem
        problem.num_gradient_evaluations += FORWARD
        try:
            with _evaluating(self._model):
                loss = problem.loss(problem.inputs, problem.targets)
        except Exception as error:
            if self._is_known:
                raise
            # Some models take or give something else there: no auxiliary outputs, detections instead of losses.
            self.fault = f"no eval_drift: in evaluation mode the loss raises {type(error).__name__} ({error})"
            self._is_silent = True
            return None
        self._is_known = True
        return loss


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Sets the flag alone, because `train()` and `eval()` may be overridden, and do more."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@final
@dataclass(frozen=True)
class Breach:
    """A limit that was passed: the guard of `GuardEvent`, what it saw and allows, the outcome if nothing helps."""

    guard: Literal["non_finite", "grad_norm_cap", "loss_drift", "output_drift", "probe_drift"]
    value: float
    limit: float
    outcome: Outcome


def difference(after: float | None, before: float | None) -> float | None:
    """Gives after less before; None where one of them is."""
    return None if after is None or before is None else after - before


@final
class Guards:
    """Judges a point at which a step has landed.

    Args:
        limits: what is allowed.
        before: where the teleport began.
        probe_before: loss on the probe batch there.
    """

    def __init__(self, limits: Limits, before: Evaluation, probe_before: float | None) -> None:
        self._limits = limits
        self._before = before
        self._probe_before = probe_before
        self._loss_limit = _least(limits.max_loss_drift, limits.max_drift_share, before.loss)
        self._probe_limit = _least(limits.max_probe_drift, limits.max_probe_drift_share, probe_before or 0.0)
        growth = math.inf if limits.max_growth is None else limits.max_growth * before.grad_norm
        self._cap = min(growth, math.inf if limits.grad_norm_cap is None else limits.grad_norm_cap)

    def breach(self, here: Evaluation) -> Breach | None:
        """Gives the first limit that a point breaks, as far as the evaluation there tells; None if it breaks none."""
        if not here.is_finite:
            seen = [here.loss, here.grad_norm, here.measured.value]
            bad = next((value for value in seen if not math.isfinite(value)), math.inf)
            return Breach("non_finite", bad, math.inf, Outcome.NON_FINITE)
        if here.grad_norm > self._cap:
            return Breach("grad_norm_cap", here.grad_norm, self._cap, Outcome.CAP_REACHED)
        drift = abs(here.loss - self._before.loss)
        if drift > self._loss_limit:
            return Breach("loss_drift", drift, self._loss_limit, Outcome.DRIFT)
        return None

    def probe_breach(self, probe_loss: float | None) -> Breach | None:
        """Gives the limit that the loss on the probe batch breaks; None if it breaks none."""
        drift = difference(probe_loss, self._probe_before)
        if drift is None or abs(drift) <= self._probe_limit:
            return None
        return Breach("probe_drift", abs(drift), self._probe_limit, Outcome.DRIFT)


@final
class Exactness:
    """Judges the claim that a move changes loss and outputs on the batch by rounding alone.

    Each of them may change by a share of itself. What changes more is compared with its own rounding: a loss near zero
    that is computed from large numbers has more of that.

    Args:
        problem: loss and outputs.
        before: where the teleport began.
        weights: that move, with what they were there.
    """

    def __init__(
        self, problem: Problem, before: Evaluation, weights: Sequence[Tensor], origin: Sequence[Tensor]
    ) -> None:
        self._problem = problem
        self._before = _sizes(before.loss, before.outputs)
        self._first = before
        self._weights, self._origin = list(weights), list(origin)
        self._share = max(ROUNDING[weight.dtype] for weight in weights)

    def breach(self, here: Evaluation) -> Breach | None:
        """Says what has changed by more than rounding; None where nothing has."""
        found = self._changes(here.loss, here.outputs)
        if all(change <= self._share * size for change, size in zip(found, self._before, strict=True)):
            return None
        limits = [max(self._share * size, own) for size, own in zip(self._before, self._own_rounding(), strict=True)]
        for index, (change, limit) in enumerate(zip(found, limits, strict=True)):
            if not change <= limit:
                return Breach("output_drift" if index else "loss_drift", change, limit, Outcome.DRIFT)
        return None

    def _changes(self, loss: float, outputs: Sequence[Tensor]) -> list[float]:
        pairs = zip(outputs, self._first.outputs, strict=True)
        gaps = [one - other if one.shape == other.shape else one.new_full((), math.inf) for one, other in pairs]
        return _sizes(loss - self._first.loss, gaps)

    def _own_rounding(self) -> list[float]:
        """Says how much all change where each weight is the next number towards zero, times a hundred.

        Raises:
            ValueError: if they change without that.
        """
        landed = [weight.detach().clone() for weight in self._weights]
        # A graph of the landing may need the weights, which are in the end what they were.
        with torch.no_grad(), _unsafe_preserve_version_counter(tuple(self._weights)):
            try:
                torch._foreach_copy_(self._weights, self._origin)
                self._problem.refuse_random(self._first)
                for weight in self._weights:
                    weight.copy_(torch.nextafter(weight, torch.zeros_like(weight)))
                return [_MARGIN * change for change in self._changes(*self._problem.repeated())]
            finally:
                torch._foreach_copy_(self._weights, landed)


def _sizes(loss: float, outputs: Sequence[Tensor]) -> list[float]:
    return [abs(loss), *(float(torch.linalg.vector_norm(one, dtype=torch.float64)) for one in outputs)]


def _least(absolute: float | None, share: float | None, loss: float) -> float:
    """Gives the narrower of two limits, either of which may be missing."""
    return min(math.inf if absolute is None else absolute, math.inf if share is None else share * abs(loss))


@final
class Room:
    """How far each layer may still go: `||step||` and `||move since the start||` at most a share of its `||W||`.

    `W` is the weight at the start (with its bias, where that moves along). A layer whose weight is zero there has no
    such length and is not limited. `origin` holds the parameters of the live layers at the start of the teleport.
    """

    def __init__(self, layers: Sequence[WeightLayer], origin: Sequence[Tensor], share: float) -> None:
        parts = iter(origin)
        self._layers = layers
        self._origin = [layer.matrix([next(parts) for _ in layer.parameters]) for layer in layers]
        self._share = share

    def longest(self, directions: Sequence[Tensor | None]) -> float:
        """Gives the largest `eta >= 0` with `||eta D||` and `||W + eta D - W_start||` within every layer's share."""
        numbers = []
        for layer, origin, part in zip(self._layers, self._origin, directions, strict=True):
            if part is not None:
                moved = layer.matrix([parameter.detach() for parameter in layer.parameters]) - origin
                numbers.append(torch.stack([part.norm(), (part * moved).sum(), moved.norm(), origin.norm()]))
        longest = math.inf
        for length, inner, moved_length, size in torch.stack(numbers).tolist():
            if size == 0.0:
                continue
            limit = self._share * size
            # ||moved + eta D||^2 = limit^2, for the larger root.
            along, room = inner / length, limit**2 - moved_length**2
            eta = (-along + math.sqrt(max(0.0, along**2 + room))) / length
            longest = min(longest, limit / length, max(0.0, eta))
        return longest
