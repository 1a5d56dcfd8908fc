"""Teleportation by a group that acts on neighbouring layers of an MLP.

For `... Linear, sigma, Linear ...` with a bijective `sigma` and hidden width `d`, an invertible `g [d, d]` takes
the hidden values `a = sigma(z)` to `a g^T`: the upper weight becomes `W g^-1`, the lower one whatever gives
`sigma^-1(a g^T)` on the batch. Source: Zhao, Dehmamy, Walters and Yu (arXiv 2205.10637; 2305.13404).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard, final

import torch
from torch import Tensor, nn

from teleport_engine.compare.attempt import Attempt, Point
from teleport_engine.compare.rival import ClimbingRival
from teleport_engine.report import Outcome

__all__ = ["SymmetryTeleporter"]

_MAX_HALVINGS = 30

Elementwise = Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True, eq=False)
class _Chain:
    """Linear layers one after the other, each but the last followed by a bijective activation."""

    names: list[str]
    layers: list[nn.Linear]
    activations: list[nn.Module]


@final
class SymmetryTeleporter(ClimbingRival):
    """Raises the gradient norm by `g = I + eta T` on every pair of neighbouring layers, `T` the ascent direction.

    `T` is the gradient of `1/2 ||grad L||^2` at `g = I`, by one double backward, pulled back through the action.
    The step is halved until the gradient norm grows; where a hidden value comes near a kink of the activation or
    the end of its range, the steps get short and the climb ends. The lower weight of a pair is solved for with a
    pseudo-inverse of its inputs on the batch (the least move that does it), so the action keeps the loss only
    where the batch has no more samples than that layer has inputs; elsewhere the report says so and the loss
    drifts.

    The options are those of `ClimbingRival`. The model must hold `nn.Sequential`s with `Linear, LeakyReLU | Tanh |
    Sigmoid | Identity, Linear` in a row. A step that takes the loss further than `max_loss_drift` is undone, and is
    the last.
    """

    route = "symmetry"
    first_step_size = 0.1

    def _climb(self, now: Attempt) -> Outcome:
        chains, refusal = _chains(self._model)
        chains, refusal = _used_once(now, chains, refusal)
        if not chains:
            now.messages.append(refusal)
            return Outcome.NO_MOVABLE_LAYER
        here = now.start
        for index in range(self._num_steps):
            actions = [_Action(now, chain) for chain in chains]
            if index == 0:
                now.messages.extend(action.warning for action in actions if action.warning)
            slopes = [action.pull_back(here) for action in actions]
            if not any(float(T.abs().max()) > 0.0 for of_chain in slopes for T in of_chain):
                return Outcome.NO_ASCENT
            before = now.snapshot()
            landed, eta = self._search(now, here, actions, slopes, with_ascent=index < self._num_steps - 1)
            trouble = Outcome.NO_ASCENT if landed is None else self._trouble(now, landed)
            if landed is None or trouble is not None:
                now.put(before)
                return trouble or Outcome.NO_ASCENT
            now.keep(landed, eta)
            here = landed
        return Outcome.MOVED

    def _search(
        self,
        now: Attempt,
        here: Point,
        actions: "Sequence[_Action]",
        slopes: Sequence[Sequence[Tensor]],
        *,
        with_ascent: bool,
    ) -> tuple[Point | None, float]:
        """Halves the length until all is finite and the gradient norm has grown; gives the first such point."""
        eta = self._step_size
        for _ in range(_MAX_HALVINGS):
            with torch.no_grad():
                for action, of_chain in zip(actions, slopes, strict=True):
                    action.move([eta * T for T in of_chain])
            landed = now.evaluate(with_ascent=with_ascent)
            if landed.is_finite and landed.square_norm > here.square_norm:
                return landed, eta
            eta *= 0.5
        return None, eta

    def _trouble(self, now: Attempt, landed: Point) -> Outcome | None:
        if math.sqrt(landed.square_norm) > self._cap:
            return Outcome.CAP_REACHED
        drift = abs(landed.loss - now.start.loss)
        if not drift <= self._max_loss_drift:
            now.messages.append(f"loss changed by {drift:.6g}, limit {self._max_loss_drift:.6g}: step undone")
            return Outcome.DRIFT
        return None


@final
class _Action:
    """The group's action on one chain, at the weights and on the batch of the moment of creation."""

    def __init__(self, now: Attempt, chain: _Chain) -> None:
        self._chain = chain
        self._index = {id(parameter): index for index, parameter in enumerate(now.parameters)}
        self._weights = [layer.weight.detach().clone() for layer in chain.layers]
        self._inputs = [uses[0] for uses in now.inputs_of(_weights(chain))]
        self._linear = [
            nn.functional.linear(h, layer.weight, layer.bias).detach()
            for h, layer in zip(self._inputs, chain.layers, strict=True)
        ]
        short = [
            f"{name!r} ({h.shape[0]} samples, {h.shape[1]} inputs)"
            for name, h in zip(chain.names[:-1], self._inputs[:-1], strict=True)
            if h.shape[0] > h.shape[1]
        ]
        self.warning = f"not exact, the batch is larger than the width of: {', '.join(short)}" if short else ""

    def pull_back(self, here: Point) -> list[Tensor]:
        """Gives `d/dT of <Hg, W(T)>` at `T = 0`: per pair `[d, d]`."""
        T = [torch.zeros(a.shape[1], a.shape[1], dtype=a.dtype, device=a.device) for a in self._inputs[1:]]
        for part in T:
            part.requires_grad_()
        vector = [here.ascent[self._index[id(layer.weight)]] for layer in self._chain.layers]
        return list(torch.autograd.grad(self._act(T), T, vector))

    def move(self, T: Sequence[Tensor]) -> None:
        """Moves the weights to where `g = I + T`, per pair `[d, d]`, takes those of the moment of creation."""
        for layer, weight in zip(self._chain.layers, self._act(T), strict=True):
            layer.weight.copy_(weight)

    def _act(self, T: Sequence[Tensor]) -> list[Tensor]:
        moved, last = [], len(self._weights) - 1
        for m, (weight, h, z) in enumerate(zip(self._weights, self._inputs, self._linear, strict=True)):
            if m > 0:
                eye = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
                h = h @ (eye + T[m - 1]).T
                weight = torch.linalg.solve(eye + T[m - 1], weight, left=False)
            if m < last:
                activation = self._chain.activations[m]
                target = _inverse(activation)(activation(z) + activation(z) @ T[m].T)
                # At T = 0 the difference is zero, so the pseudo-inverse has no part in the derivative.
                weight = weight + (torch.linalg.pinv(h.detach()) @ (target - z)).T
            moved.append(weight)
        return moved


def _inverse(activation: nn.Module) -> Elementwise:
    """Gives the inverse of a bijective activation; it is NaN outside its range."""
    if isinstance(activation, nn.LeakyReLU):
        slope = activation.negative_slope
        return lambda a: torch.where(a >= 0.0, a, a / slope)
    if isinstance(activation, nn.Tanh):
        return torch.atanh
    return torch.logit if isinstance(activation, nn.Sigmoid) else nn.Identity()


def _is_bijective(module: nn.Module) -> bool:
    if isinstance(module, nn.LeakyReLU):
        return module.negative_slope > 0.0
    return type(module) in (nn.Tanh, nn.Sigmoid, nn.Identity)


def _chains(model: nn.Module) -> tuple[list[_Chain], str]:
    """Finds the chains of a model, and a sentence for the case that there is none."""
    found: list[_Chain] = []
    kinds: set[str] = set()
    for path, module in model.named_modules():
        if not isinstance(module, nn.Sequential):
            continue
        prefix = f"{path}." if path else ""
        row = [(prefix + name, part) for name, part in module._modules.items() if part is not None]
        chain = None
        for (name, part), (_, after), (upper, then) in zip(row, row[1:], row[2:], strict=False):
            if not (_is_free(part) and _is_free(then)):
                continue
            if not _is_bijective(after):
                kinds.add(type(after).__name__)
                continue
            if chain is None or chain.layers[-1] is not part:
                chain = _Chain([name], [part], [])
                found.append(chain)
            chain.names.append(upper)
            chain.layers.append(then)
            chain.activations.append(after)
    refused = f" ({', '.join(sorted(kinds))} has no inverse)" if kinds else ""
    return found, f"no pair of Linear layers with a bijective activation between them{refused}"


def _used_once(now: Attempt, chains: Sequence[_Chain], refusal: str) -> tuple[list[_Chain], str]:
    """Keeps the chains whose layers each multiply one input: the action knows no other."""
    kept = [chain for chain in chains if all(len(uses) == 1 for uses in now.inputs_of(_weights(chain)))]
    return kept, "every pair has a layer that is used more than once" if chains and not kept else refusal


def _weights(chain: _Chain) -> list[nn.Parameter]:
    return [layer.get_parameter("weight") for layer in chain.layers]


def _is_free(module: nn.Module) -> TypeGuard[nn.Linear]:
    return type(module) is nn.Linear and module.weight.requires_grad
