"""The ascent direction at `tau = 1`, by one gradient and one forward-mode tangent pass.

With `g = dL/dW` over all trainable parameters and `d` for a derivative along `g`, the gradient of `1/2 ||g||^2`
is `(Hg)_l = (d delta_l)^T X_l + delta_l^T dX_l` (rows as samples; `delta [N, o]`, `X [N, d]`). At
`tau = 1`, with the objective batch inside the subspace sample, `X_l P_l = 0` and the first term is gone:
`(Hg)_l P_l = delta_l^T (dX_l P_l)`: no double backward.
"""

import functools
import warnings
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from teleport_engine.model import TANGENT, Product, Use, Watch, WeightLayer
from teleport_engine.objective.direction import DoubleBackwardRoute
from teleport_engine.objective.problem import Evaluation, Problem, Record, refuse_another, tensors_of

__all__ = ["TangentRoute"]


@final
class TangentRoute:
    """`delta_l^T dX_l` by one forward-mode pass along `g`: for `tau = 1`, the batch inside the subspace sample.

    The first pass carries the tangent through the loss, where it must come out as `||g||^2`: a free certificate
    that the forward mode saw every use of every parameter. Where it fails, or an operation has no forward mode,
    the double backward takes over for good.
    """

    def __init__(self, problem: Problem, layers: Sequence[WeightLayer]) -> None:
        _load_forward_mode()
        self._problem = problem
        self._layers = layers
        self._reverse = DoubleBackwardRoute(problem, layers)
        self._is_certified = False
        self.fault = ""
        if problem.differentiates:
            # A derivative may be a number to what follows (no graph of it is kept), but its tangent would go on.
            self.fault = "no tangent pass (the forward or the loss takes a derivative): double backward instead"

    @property
    def name(self) -> str:
        """The route really taken."""
        return self._reverse.name if self.fault else "jvp"

    def evaluate(self, *, is_last: bool) -> Evaluation:
        """Takes loss and gradient, with the gradients at the outputs of the live layers unless this is the last."""
        if self.fault:
            return self._reverse.evaluate(is_last=is_last)
        record = self._problem.record(() if is_last else self._layers)
        return self._problem.differentiate(record, with_deltas=not is_last)

    def finish(self, record: Record) -> Evaluation:
        """Evaluates from a forward already run, which watched the live layers."""
        if self.fault:
            return self._reverse.finish(record)
        return self._problem.differentiate(record, with_deltas=True)

    def ascent(self, evaluation: Evaluation) -> list[Product]:
        """Gives `delta_l^T dX_l` of each live layer, all its uses added.

        Raises:
            RuntimeError: if a tangent pass fails after an earlier one did not (out of memory, say).
            ValueError: if the forward is found to be random.
        """
        if self.fault:
            return self._reverse.ascent(evaluation)
        try:
            with torch.no_grad(), forward_ad.dual_level():
                return self._ascent(evaluation)
        except RuntimeError as error:  # NotImplementedError too: an operation without a forward mode
            if self._is_certified:
                raise
            self.fault = f"no tangent pass ({error}): double backward instead"
            self._problem.refuse_random(evaluation)
            return self._reverse.ascent(self._reverse.evaluate(is_last=False))

    def _ascent(self, evaluation: Evaluation) -> list[Product]:
        problem = self._problem
        duals = {
            id(parameter): _make_dual(parameter, grad)
            for parameter, grad in zip(problem.parameters, evaluation.grads, strict=True)
            if grad is not None
        }
        watch = Watch(self._layers, duals)
        with watch:
            outputs, loss = problem.forward.loss(problem.inputs, problem.targets, duals)
        problem.num_gradient_evaluations += TANGENT
        if not self._is_certified:
            refuse_another(evaluation.outputs, tensors_of(outputs))  # this is a second forward too
            change = _tangent(loss)
            _certify(0.0 if change is None else float(change), evaluation)
            self._is_certified = True
        rate = evaluation.measured.rate
        return [
            _product(layer, uses, deltas).times(rate)
            for layer, uses, deltas in zip(self._layers, watch.uses, evaluation.deltas, strict=True)
        ]


def _make_dual(primal: Tensor, tangent: Tensor) -> Tensor:
    dual: Tensor = forward_ad.make_dual(primal, tangent)  # type: ignore[no-untyped-call]
    return dual


def _tangent(dual: Tensor) -> Tensor | None:
    tangent: Tensor | None = forward_ad.unpack_dual(dual).tangent  # type: ignore[no-untyped-call]
    return tangent


def _certify(rate: float, evaluation: Evaluation) -> None:
    """Checks that the derivative of the loss along its gradient is the gradient's squared norm."""
    if not abs(rate - evaluation.square_norm) <= 1e-3 * evaluation.square_norm:
        raise NotImplementedError(
            f"the loss changes by {rate:.6g} along its gradient, not by {evaluation.square_norm:.6g}"
        )


def _product(layer: WeightLayer, uses: Sequence[Use], deltas: Sequence[Tensor | None]) -> Product:
    """Adds `delta^T dX` over the uses; not multiplied where every use feeds all blocks."""
    parts = []
    for use, delta in zip(uses, deltas, strict=True):
        tangent = _tangent(use.inputs)
        if tangent is not None and delta is not None:
            parts.append((use, use.product(tangent, delta)))
    lefts = [part.left for use, part in parts if part.left is not None and use.num_blocks == layer.num_blocks]
    if parts and len(lefts) == len(parts):
        rights = [part.right for _, part in parts]
        return parts[0][1] if len(parts) == 1 else Product(torch.cat(lefts, 1), torch.cat(rights, 1))
    total = layer.matrix([torch.zeros_like(parameter) for parameter in layer.parameters])
    for use, part in parts:
        total[use.blocks] += part.matrix()
    return Product(None, total)


@functools.cache
def _load_forward_mode() -> None:
    """Loads torch's forward-mode decompositions, which are scripted at import and say so in a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.no_grad(), forward_ad.dual_level():
            _make_dual(torch.zeros(()), torch.zeros(()))
