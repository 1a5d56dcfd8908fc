"""The primary loss of one batch, its gradient, and the teleport objective made from them, at the present weights.

Source: arXiv 2502.11362. The norm is over all trainable parameters, those that never move included. Which objectives
there are: `teleport_engine.objective`.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from teleport_engine.model import (
    BACKWARD,
    FORWARD,
    HESSIAN_PRODUCT,
    Forward,
    Inputs,
    Left,
    Use,
    Watch,
    WeightLayer,
    tensors_in,
    unrolled_grad,
)
from teleport_engine.objective.gradient import Gradient, GradNorm, Measured, Objective
from teleport_engine.objective.second_backward import Decomposed, Twice

__all__ = [
    "ROUNDING",
    "Evaluation",
    "Problem",
    "Record",
    "added",
    "norms_of",
    "refuse_another",
    "square_norm",
    "tensors_of",
]

ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-4}
"""A relative change larger than this is no rounding, per precision of what changes."""

_PAPER_OBJECTIVE = GradNorm()
_LEAST = 1e-15
_TWICE = "loss and model must be twice differentiable (the direction is the gradient of a gradient norm)"
_CHECKPOINT = "a checkpointed model needs torch.utils.checkpoint.checkpoint(..., use_reentrant=False) to teleport"
_RANDOM = (
    "the forward must not be random, but it drew random numbers: a second one on the same batch gave another result "
    "(dropout or stochastic depth is active, or the model draws from a generator of its own, of Python or numpy): put "
    "those modules in eval mode for the teleport, e.g. model.eval()"
)
# What torch says in a backward, and the rule that was broken.
_RULES = {
    "derivative for ": _TWICE,
    "ouble backward": _TWICE,
    "differentiate twice": _TWICE,
    "use_reentrant=True": _CHECKPOINT,
}


@final
@dataclass(frozen=True, eq=False)
class Record:
    """A forward with its graph.

    Args:
        loss: primary loss, with its graph.
        uses: per watched weight, what it multiplied.
        num_other_uses: per watched weight, its appearances elsewhere; zeros without a census.
        num_other_bias_uses: the same for biases that move along, with the uses of the weight without them.
        is_differentiated: per watched weight, whether the call takes a derivative through it; no one without a census.
        left: what the call left on the modules.
        outputs: tensors of real numbers that the model gave, without their graph.
    """

    loss: Tensor
    uses: Sequence[Sequence[Use]]
    num_other_uses: Sequence[int]
    num_other_bias_uses: Sequence[int]
    is_differentiated: Sequence[bool]
    left: Left
    outputs: Sequence[Tensor]

    def watching(self, uses: Sequence[Sequence[Use]]) -> "Record":
        """Gives the same forward, with the uses of some of the watched weights."""
        zeros = [0] * len(uses)
        return Record(self.loss, uses, zeros, zeros, [False] * len(uses), self.left, self.outputs)


@final
@dataclass(frozen=True, eq=False)
class Evaluation:
    """Loss and gradient at the present weights.

    Args:
        loss: primary loss.
        square_norm: `||g||^2` over all trainable parameters.
        grads: `g`, in the order of the trainable parameters; None where the loss does not depend on one.
        uses: per live layer, its uses.
        deltas: per live layer and use, `dL/dZ` in the shape of the output; empty where the route does not need it.
        measured: the objective.
        left: what the call left on the modules.
        outputs: tensors of real numbers that the model gave.
    """

    loss: float
    square_norm: float
    grads: Sequence[Tensor | None]
    uses: Sequence[Sequence[Use]]
    deltas: Sequence[Sequence[Tensor | None]]
    measured: Measured
    left: Left
    outputs: Sequence[Tensor]

    @property
    def is_finite(self) -> bool:
        """Whether loss, gradient and objective are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.square_norm) and math.isfinite(self.measured.value)

    @property
    def grad_norm(self) -> float:
        """`||g||`."""
        return math.sqrt(self.square_norm) if self.square_norm >= 0.0 else math.nan


@final
class Problem:
    """The primary loss of one batch, and the objective made of it, as functions of the trainable parameters.

    Attributes:
        num_gradient_evaluations: cost so far, in gradients (`teleport_engine.model.price`).
        gradient_work: work of one gradient; 0 until it is known.
        differentiates: whether model or loss take derivatives of their own; known from the first census on.
    """

    def __init__(
        self,
        forward: Forward,
        inputs: Inputs,
        targets: Any,
        parameters: Sequence[nn.Parameter],
        objective: Objective = _PAPER_OBJECTIVE,
    ) -> None:
        self.forward = forward
        self.inputs = inputs
        self.targets = targets
        self.parameters = parameters
        self.objective = objective
        self.num_gradient_evaluations = 0.0
        self.gradient_work = 0.0
        self.differentiates = False
        self._has_trainable_inputs = any(tensor.requires_grad for tensor in tensors_in(inputs))
        self._is_twice_differentiable = False
        self._is_served: bool | None = None

    def spend(self, work: float) -> None:
        """Adds work that is no pass through the model to the cost."""
        if self.gradient_work > 0.0:
            self.num_gradient_evaluations += work / self.gradient_work

    def record(self, layers: Sequence[WeightLayer], *, is_census: bool = False) -> Record:
        """Runs forward and loss, watching some weights.

        Args:
            layers: whose weights to watch, in the model and in the loss function.
            is_census: count also the other appearances of these.

        Raises:
            ValueError: if the loss is no scalar, or complex.
        """
        watch = Watch(layers, is_census=is_census)
        twice = Twice()
        with contextlib.ExitStack() as modes:
            if self.objective.needs_hessian:
                modes.enter_context(Decomposed())
            elif self._is_served is not False:  # the first call finds out whether there is anything to serve
                modes.enter_context(twice)
            with watch if layers or is_census else contextlib.nullcontext():
                outputs, loss = self.forward.loss(self.inputs, self.targets)
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"loss_fn must return a scalar tensor (no dimensions), got {got}")
        if loss.is_complex():
            raise ValueError(f"loss_fn must return a real number, got {str(loss.dtype).removeprefix('torch.')}")
        if self._is_served is None:
            self._is_served = twice.num_replaced > 0
        if is_census:
            self.differentiates = watch.has_derivative
        self.num_gradient_evaluations += FORWARD
        return Record(
            loss,
            watch.uses,
            watch.num_other_uses,
            watch.num_other_bias_uses,
            watch.is_differentiated,
            self.forward.left,
            tensors_of(outputs),
        )

    def loss(self, inputs: Inputs, targets: Any) -> float:
        """Takes the loss of any batch, without a graph."""
        with self.without_graph():
            return float(self.forward.loss(inputs, targets)[1].detach())

    def is_trainable(self, tensor: Tensor) -> bool:
        """Says whether a tensor of a recorded call depends on a trainable parameter."""
        # Inputs too may require a gradient, for derivatives that the call takes by them.
        if not tensor.requires_grad or not (self._has_trainable_inputs or self.differentiates):
            return tensor.requires_grad
        known = {get_gradient_edge(parameter).node for parameter in self.parameters}
        left = [get_gradient_edge(tensor).node]
        seen = set(left)
        while left:
            node = left.pop()
            if node in known:
                return True
            new = {child for child, _ in node.next_functions if child is not None} - seen
            seen |= new
            left += new
        return False

    def repeated(self) -> tuple[float, list[Tensor]]:
        """Runs the call once more without a graph; gives loss and outputs."""
        with self.without_graph():
            outputs, loss = self.forward.loss(self.inputs, self.targets)
        self.num_gradient_evaluations += FORWARD
        return float(loss.detach()), tensors_of(outputs)

    def refuse_random(self, first: Record | Evaluation) -> None:
        """Refuses a call that gives something else the second time.

        Raises:
            ValueError: if it does.
        """
        loss, outputs = self.repeated()
        refuse_another(first.outputs, outputs)
        before = first.loss if isinstance(first, Evaluation) else float(first.loss.detach())
        if abs(loss - before) > 10.0 * max(ROUNDING[one.dtype] for one in self.parameters) * abs(before):
            raise ValueError(_RANDOM)

    def without_graph(self) -> AbstractContextManager[Any]:
        """Keeps no graph of what runs inside, except where the call needs one for derivatives of its own."""
        return torch.set_grad_enabled(self.differentiates)

    @contextlib.contextmanager
    def backward(self, left: Left) -> Iterator[None]:
        """Surrounds every backward through a call: checkpointed parts run again in it, and leave no trace either.

        Raises:
            ValueError: if torch has no second derivative of an operation, or reentrant checkpoints are in the way.
            RuntimeError: whatever else torch raises in a backward.
        """
        with contextlib.ExitStack() as modes:
            if self.objective.needs_hessian:
                modes.enter_context(Decomposed())
            modes.enter_context(self.forward.isolated(left))
            try:
                yield
            except RuntimeError as error:
                rule = next((rule for said, rule in _RULES.items() if said in str(error)), None)
                if rule is None:
                    raise
                raise ValueError(f"{rule}, got: {error}") from error

    def gradients(self, record: Record, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """Takes the gradient of a recorded forward with respect to some parameters; the graph stays.

        Gives zeros where the loss does not depend on a parameter.
        """
        loss = record.loss
        found: Sequence[Tensor | None] = [None] * len(parameters)
        if loss.requires_grad:
            with self.backward(record.left):
                found = unrolled_grad(loss, parameters, retain_graph=True, allow_unused=True)
            self.num_gradient_evaluations += BACKWARD
        return [
            torch.zeros_like(parameter) if grad is None else grad.detach()
            for parameter, grad in zip(parameters, found, strict=True)
        ]

    def differentiate(self, record: Record, *, with_deltas: bool = False, with_graph: bool = False) -> Evaluation:
        """Takes loss, gradient and objective of a recorded forward.

        The gradient is zero where the loss depends on no trainable parameter.

        Args:
            record: the forward.
            with_deltas: also take the gradient at the output of each recorded use.
            with_graph: keep the graph of the gradient, for a second backward; kept anyway where the objective needs
                the Hessian.
        """
        uses = record.uses
        edges = [use.edge for of_layer in uses for use in of_layer if use.edge is not None] if with_deltas else []
        loss = record.loss
        found: Sequence[Tensor | None] = [None] * (len(self.parameters) + len(edges))
        if loss.requires_grad:
            wanted: list[Any] = [*self.parameters, *edges]
            keep = with_graph or self.objective.needs_hessian
            with self.backward(record.left):
                found = unrolled_grad(loss, wanted, allow_unused=True, create_graph=keep)
            if keep and not self._is_twice_differentiable:
                _refuse_dead_ends(found)
                self._is_twice_differentiable = True
        self.num_gradient_evaluations += BACKWARD
        grads = found[: len(self.parameters)]
        rest = iter(found[len(self.parameters) :])
        deltas = [
            [next(rest) if use.edge is not None else None for use in of_layer] if with_deltas else []
            for of_layer in uses
        ]
        square = square_norm(grads)
        gradient = Gradient(self.parameters, grads, square)
        with self.backward(record.left):
            measured = self.objective.measure(gradient)
        self.num_gradient_evaluations += HESSIAN_PRODUCT * gradient.num_products
        return Evaluation(float(loss.detach()), square, grads, uses, deltas, measured, record.left, record.outputs)


def _refuse_dead_ends(grads: Sequence[Tensor | None]) -> None:
    """Refuses gradients, with their graph, that torch would take no second backward through and say nothing.

    That is what becomes of a `torch.autograd.Function` whose backward is `once_differentiable`.

    Raises:
        ValueError: if there is one.
    """
    nodes = [grad.grad_fn for grad in grads if grad is not None and grad.grad_fn is not None]
    known = set(nodes)
    while nodes:
        node = nodes.pop()
        if node.name() == "torch::autograd::Error":
            raise ValueError(f"{_TWICE}, got a torch.autograd.Function whose backward is once_differentiable")
        new = {following for following, _ in node.next_functions if following is not None} - known
        known |= new
        nodes += new


def square_norm(tensors: Sequence[Tensor | None]) -> float:
    """Adds up the squares of all entries in float64, from the norms per tensor; None counts as zero.

    The sum is not finite where an entry is not.
    """
    return sum(norm * norm for norm in norms_of([tensor.detach() for tensor in tensors if tensor is not None]))


def norms_of(tensors: Sequence[Tensor]) -> list[float]:
    """Gives the Frobenius norm of each tensor; one synchronisation for all."""
    if not tensors:
        return []
    norms: list[float] = torch.stack(torch._foreach_norm(list(tensors))).tolist()
    if all(_LEAST <= norm < math.inf or norm == 0.0 for norm in norms) and any(norms):
        return norms
    # Squares of large or small numbers leave the range of float32, where the numbers themselves do not.
    return [float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) for tensor in tensors]


def tensors_of(outputs: Any) -> list[Tensor]:
    """Gives the tensors of real numbers in what a model gave, without their graph."""
    return [tensor.detach() for tensor in tensors_in(outputs) if tensor.dtype in ROUNDING]


def refuse_another(first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
    """Refuses a model or a loss that gives something else the second time: its loss has no level set.

    Raises:
        ValueError: if a tensor differs by more than rounding.
    """
    for one, other in zip(first, second, strict=False):
        gap = float((one - other).norm()) if one.shape == other.shape else math.inf
        if gap > ROUNDING[one.dtype] * float(one.norm()):
            raise ValueError(_RANDOM)


def added(parts: Iterator[Tensor], count: int) -> Tensor:
    """Adds up the next tensors: the gradients of one weight, by all parameters that have its numbers."""
    total = next(parts)
    for _ in range(count - 1):
        total = total + next(parts)
    return total
