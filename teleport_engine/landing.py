"""The gradient where a teleport has landed, kept for the training step that comes next on the same batch."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from teleport_engine.model import Inputs, tensors_in
from teleport_engine.objective import Evaluation, Problem

__all__ = ["KeptGradient"]


class _Mark(NamedTuple):
    """A tensor as it was: the object, where its numbers lie, how often they were written, and whether it is trained."""

    tensor: Tensor
    place: int
    version: int
    is_trained: bool

    def is_same(self, other: "_Mark") -> bool:
        return self.tensor is other.tensor and self[1:] == other[1:]


@final
class KeptGradient:
    """A loss and its gradient, with all that tells whether a training step would compute the same.

    Args:
        model: with the weights that the gradient is of.
        inputs: the batch, as the caller handed it in.
        targets: what the loss function compared with, as well.
        problem: loss and gradient of that batch.
        landed: its evaluation at these weights.
        loss: a recorded loss of the same call, with its graph.
    """

    def __init__(
        self, model: nn.Module, inputs: Inputs, targets: Any, problem: Problem, landed: Evaluation, loss: Tensor
    ) -> None:
        self._batch = (inputs, targets)
        self._parameters = list(problem.parameters)
        self._grads = [None if grad is None else grad.detach() for grad in landed.grads]
        self._loss = landed.loss
        # A step that is not run must have had no other effect than its gradient.
        self._is_whole = not problem.forward.is_special and not landed.left.is_trace
        self._is_whole = self._is_whole and _depends_on_nothing_else(loss, self._parameters)
        self._marks = _marks(model, self._batch) if self._is_whole else None
        self._modes = _modes(model)

    def give(self, model: nn.Module, inputs: Inputs, targets: Any) -> float | None:
        """Adds the gradient to that of the weights and gives the loss; None where a step would compute another one."""
        if not self._is_valid(model, inputs, targets):
            return None
        with torch.no_grad():
            for parameter, grad in zip(self._parameters, self._grads, strict=True):
                if grad is not None and parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter).copy_(grad)
                elif grad is not None and parameter.grad is not None:
                    parameter.grad += grad
        return self._loss

    def _is_valid(self, model: nn.Module, inputs: Inputs, targets: Any) -> bool:
        if self._marks is None or inputs is not self._batch[0] or targets is not self._batch[1]:
            return False
        if self._modes != _modes(model) or _has_hooks(model) or not torch.is_grad_enabled():
            return False
        if any(torch.is_autocast_enabled(kind) for kind in {parameter.device.type for parameter in self._parameters}):
            return False
        now = _marks(model, self._batch)
        return (
            now is not None
            and len(now) == len(self._marks)
            and all(one.is_same(other) for one, other in zip(now, self._marks, strict=True))
        )


def _marks(model: nn.Module, batch: tuple[Inputs, Any]) -> list[_Mark] | None:
    """Marks weights, buffers and batch; None where one does not count its writes, or a batch asks for gradients."""
    of_batch = list(tensors_in(batch))
    if any(tensor.is_inference() or tensor.requires_grad for tensor in of_batch):
        return None
    tensors = [*model.parameters(), *model.buffers(), *of_batch]
    if any(tensor.is_inference() for tensor in tensors):
        return None
    return [_Mark(one, one.data_ptr(), one._version, one.requires_grad) for one in tensors]


def _modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def _has_hooks(model: nn.Module) -> bool:
    """Says whether a forward or a backward would call functions of the user's."""
    return any(_hooks(model))


def _hooks(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        yield from (module._forward_hooks, module._forward_pre_hooks)
        yield from (module._backward_hooks, module._backward_pre_hooks)
    for parameter in model.parameters():
        yield from (parameter._backward_hooks, getattr(parameter, "_post_accumulate_grad_hooks", None))


def _depends_on_nothing_else(loss: Tensor, parameters: Sequence[nn.Parameter]) -> bool:
    """Says whether a backward of a loss reaches these parameters alone, and so none of the loss function's own."""
    known = {id(parameter) for parameter in parameters}
    left = [loss.grad_fn] if loss.grad_fn is not None else []
    seen: set[Any] = set(left)
    while left:
        node: Any = left.pop()
        children = {child for child, _ in node.next_functions if child is not None} - seen
        if not node.next_functions and id(getattr(node, "variable", None)) not in known:
            return False
        seen |= children
        left += children
    return True
