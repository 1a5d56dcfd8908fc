"""Closed-form moves along the orbit of rescalings, which leave the function unchanged on all data.

A unit's incoming weights and bias may be multiplied by `a > 0` and its outgoing weights by `1 / a`
(`teleport_engine.compare.chains` says where). One gradient gives the new gradient norm in closed form, since a weight
that is multiplied by `s` has its gradient divided by `s`. So no factorisation and no search is needed. Source: Dinh
et al. (arXiv 1703.04933) for the symmetry; Stock et al. (arXiv 1902.10416) for balancing, which is ENorm with p = 2.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, final, get_args

import torch
from torch import Tensor, nn

from teleport_engine.compare.attempt import filled, layer_reports, posed
from teleport_engine.compare.chains import Chain, Part, chains
from teleport_engine.compare.rival import Rival
from teleport_engine.model import Inputs, LossFn
from teleport_engine.objective import Evaluation, square_norm
from teleport_engine.report import Outcome, Seconds, StepTrace, TeleportReport
from teleport_engine.schedule import Schedule

__all__ = ["OrbitTeleporter"]

Towards: TypeAlias = Literal["first", "last"]
To: TypeAlias = Literal["growth", "balance"]

_MAX_SWEEPS, _BALANCED = 1_000, 1e-12
# How far loss and outputs may be from where they were, relative to themselves: rounding of the weights.
_EXACT = {torch.float64: 1e-8, torch.float32: 1e-4}
# By what power of a weight's factor its entries in an optimizer's state change: like its gradient, or that squared.
_STATE_POWERS = {
    **dict.fromkeys(("momentum_buffer", "exp_avg", "grad_avg"), -1),
    **dict.fromkeys(("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum"), -2),
    "exp_inf": -1,
}


@final
class OrbitTeleporter(Rival):
    """Rescales neighbouring layers in closed form: to a growth of the gradient norm, or to balance.

    To *growth*: in each chain of layers, all but the last have their bias multiplied by one `a`, the first its weight
    too, and the last its weight by `1 / a`. `||g||^2 = P / a^2 + Q a^2 + R` then has two solutions for a growth,
    towards larger first layers (`a > 1`) or larger last ones. In an attention, values come first and the output
    projection last, and queries first and keys last. To *balance*: each unit's incoming weights, with its
    bias, get the norm of its outgoing ones (the least sum of squares on the orbit).

    A teleport costs the gradient at its start and a forward at its end (4/3 of a gradient), which checks that loss and
    outputs have stayed; if they have not, all is put back.

    Args:
        model: any module; chains of layers are looked for in each `nn.Sequential` and in torch's own attention and
            transformer layers.
        loss_fn: `loss_fn(outputs, targets)` gives a tensor without dimensions.
        to: "growth" or "balance".
        growth: the factor of `||g||^2` to grow by, > 1; for "growth" alone.
        towards: which layers grow: "first" or "last"; for "growth" alone.
        optimizer: whose state is carried along by the same symmetry (momentum like a gradient, second moments like its
            square); None leaves the state as it is.
        schedule: when `step()` teleports.

    Raises:
        ValueError: if an option is out of its range.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> orbit = OrbitTeleporter(model, nn.functional.cross_entropy, growth=2.0)
        >>> report = orbit.teleport(torch.randn(6, 4), torch.arange(6) % 3)
        >>> round((report.grad_norm_after / report.grad_norm_before) ** 2, 4)
        2.0
    """

    route = "orbit"

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFn,
        *,
        to: To = "growth",
        growth: float = 2.5,
        towards: Towards = "first",
        optimizer: torch.optim.Optimizer | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        if to not in get_args(To):
            raise ValueError(f"to must be 'growth' or 'balance', got {to!r}")
        if towards not in get_args(Towards):
            raise ValueError(f"towards must be 'first' or 'last', got {towards!r}")
        if not (math.isfinite(growth) and growth > 1.0):
            raise ValueError(f"growth must be finite and > 1, got {growth}")
        super().__init__(model, loss_fn, schedule=schedule)
        self._to = to
        self._growth = growth
        self._towards = towards
        self._optimizer = optimizer

    def teleport(self, inputs: Inputs, targets: Any, *, probe: tuple[Inputs, Any] | None = None) -> TeleportReport:
        """Rescales the layers; the function stays the same on all data, so a probe has no drift to show.

        Otherwise see `Rival.teleport`.
        """
        del probe
        started_at = time.perf_counter()
        with posed(self._model, self._loss_fn, inputs, targets) as (problem, origin):
            parameters = list(problem.parameters)
            start = problem.differentiate(problem.record(()))
            grads = dict(zip(map(id, parameters), filled(start.grads, parameters), strict=True))
            outcome, factors, messages = self._factors(start, grads)
            loss_after, after = start.loss, start.square_norm
            if outcome is Outcome.MOVED:
                _scale(parameters, factors)
                loss_after, outputs = problem.repeated()
                if _has_stayed(start, loss_after, outputs, parameters[0].dtype):
                    after = _scaled_square_norm(parameters, grads, factors)
                    if self._optimizer is not None:
                        _carry(self._optimizer, parameters, factors)
                else:
                    with torch.no_grad():
                        torch._foreach_copy_(list[Tensor](parameters), list(origin))
                    outcome, loss_after = Outcome.DRIFT, start.loss
                    messages = ["loss or outputs changed, so the layers do not follow each other as they stand: undone"]
            layers = layer_reports(self._model, parameters, origin, "not rescaled")
        has_moved = outcome is Outcome.MOVED
        return TeleportReport(
            outcome=outcome,
            loss_before=start.loss,
            loss_after=loss_after,
            grad_norm_before=math.sqrt(start.square_norm),
            grad_norm_after=math.sqrt(after),
            num_steps=int(has_moved),
            layers=layers,
            trace=(StepTrace(loss_after, math.sqrt(after), 1.0),) if has_moved else (),
            num_gradient_evaluations=problem.num_gradient_evaluations,
            seconds=Seconds(direction=time.perf_counter() - started_at),
            route=self.route,
            messages=tuple(messages),
        )

    def _factors(self, start: Evaluation, grads: Mapping[int, Tensor]) -> tuple[Outcome, dict[int, Tensor], list[str]]:
        """Finds what each parameter is multiplied by, by id; none where nothing is to move."""
        if not start.is_finite:
            return Outcome.NON_FINITE, {}, []
        found, refusal = chains(self._model)
        factors: dict[int, Tensor] = {}
        if not found:
            return Outcome.NO_MOVABLE_LAYER, {}, [refusal]
        if self._to == "balance":
            for chain in found:
                chain.multiply(_balance(chain), factors)
            return Outcome.MOVED, factors, []
        a = _growth_factor(found, grads, start.square_norm, self._growth, self._towards)
        if a is None:
            return Outcome.TARGET_MISSED, {}, [f"no rescaling towards the {self._towards} layers has this growth"]
        for chain in found:
            logs = [torch.full((part.num_units,), math.log(a), dtype=torch.float64) for part in chain.parts[:-1]]
            chain.multiply(logs, factors)
        return Outcome.MOVED, factors, [f"a = {a:.6g}"]


def _growth_factor(
    found: Sequence[Chain], grads: Mapping[int, Tensor], whole: float, growth: float, towards: Towards
) -> float | None:
    """Solves `P / a^2 + Q a^2 + R = growth ||g||^2` for `a`, on the side of `towards`; None where that cannot be."""
    falling = rising = 0.0
    for chain in found:
        first, *_, last = chain.parts
        falling += square_norm([grads[id(first.weight)][first.rows], *_bias_grads(chain.parts[:-1], grads)])
        rising += square_norm([grads[id(last.weight)][last.rows]])
        rising += square_norm(_bias_grads([last], grads)) if chain.is_product else 0.0
    # With x = a^2: rising x^2 - excess x + falling = 0, where what does not change is on the right.
    excess = growth * whole - (whole - falling - rising)
    root = excess * excess - 4.0 * rising * falling
    if root < 0.0 or not math.isfinite(root):
        return None
    # Without cancellation: the larger root first, the smaller one by their product.
    larger = (excess + math.sqrt(root)) / 2.0
    x = larger / rising if towards == "first" and rising > 0.0 else falling / larger if towards == "last" else 0.0
    return math.sqrt(x) if 0.0 < x < math.inf and (x > 1.0) == (towards == "first") else None


def _bias_grads(parts: Sequence[Part], grads: Mapping[int, Tensor]) -> list[Tensor]:
    return [grads[id(part.bias)][part.bias_rows] for part in parts if part.bias is not None]


def _balance(chain: Chain) -> list[Tensor]:
    """Finds the logarithms of the units' factors at which incoming and outgoing norms are equal, unit by unit.

    Coordinate descent on a convex function, pair of layers by pair of layers. A unit without incoming or outgoing
    weights stays as it is.
    """
    squares, biases = [part.squares() for part in chain.parts], [part.bias_squares() for part in chain.parts]
    logs = [squares[0].new_zeros(part.num_units) for part in chain.parts[:-1]]
    for _ in range(_MAX_SWEEPS):
        largest = 0.0
        for place, span in enumerate(chain.spans):
            incoming = squares[place].sum(1) + biases[place]
            if chain.is_product:
                outgoing = squares[place + 1].sum(1) + biases[place + 1]
            else:
                outgoing = squares[place + 1].sum(0).view(len(incoming), -1).sum(1)
            is_live = (incoming > 0.0) & (outgoing > 0.0)
            change = torch.where(is_live, (outgoing / incoming).log() / 4.0, 0.0)
            logs[place] = logs[place] + change
            squares[place] = squares[place] * (2.0 * change).exp()[:, None]
            biases[place] = biases[place] * (2.0 * change).exp()
            shrunk = (-2.0 * change).exp()
            if chain.is_product:
                squares[place + 1] = squares[place + 1] * shrunk[:, None]
                biases[place + 1] = biases[place + 1] * shrunk
            else:
                squares[place + 1] = squares[place + 1] * shrunk.repeat_interleave(span)[None]
            largest = max(largest, float(change.abs().max()))
        if largest < _BALANCED:
            break
    return logs


def _scale(parameters: Sequence[nn.Parameter], factors: Mapping[int, Tensor]) -> None:
    with torch.no_grad():
        for parameter in parameters:
            if id(parameter) in factors:
                parameter.mul_(factors[id(parameter)])


def _scaled_square_norm(
    parameters: Sequence[nn.Parameter], grads: Mapping[int, Tensor], factors: Mapping[int, Tensor]
) -> float:
    """Gives `||g||^2` after the move: the gradient of a weight that is multiplied by `s` is divided by `s`."""
    scaled = (
        grads[id(one)] / factors[id(one)].to(grads[id(one)].dtype) if id(one) in factors else grads[id(one)]
        for one in parameters
    )
    return square_norm(list(scaled))


def _has_stayed(start: Evaluation, loss: float, outputs: Sequence[Tensor], dtype: torch.dtype) -> bool:
    """Says whether loss and outputs are those of the start, but for rounding."""
    limit = _EXACT[dtype]
    if not abs(loss - start.loss) <= limit * max(abs(start.loss), 1e-6):
        return False
    return all(
        float((one - other).abs().max()) <= limit * max(float(one.abs().max()), 1e-6)
        for one, other in zip(start.outputs, outputs, strict=True)
        if one.numel()
    )


def _carry(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], factors: Mapping[int, Tensor]) -> None:
    """Moves an optimizer's state along: what it keeps of gradients changes as gradients do."""
    with torch.no_grad():
        for parameter in parameters:
            if id(parameter) not in factors:
                continue
            for name, power in _STATE_POWERS.items():
                kept = optimizer.state.get(parameter, {}).get(name)
                if isinstance(kept, Tensor) and kept.shape == parameter.shape:
                    kept.mul_(factors[id(parameter)].to(kept.dtype) ** power)
