"""Operations whose fused kernels stop at the second derivative, made of ones that have every derivative."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from teleport_engine.unrolled import unrolled_grad

__all__ = ["Decomposed"]


@final
class Decomposed(TorchFunctionMode):
    """Runs `F.batch_norm` as plain arithmetic while it is active: its kernel has no third derivative.

    The running statistics are read, and not updated: a forward of a teleport leaves no trace.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the call.

        Args:
            func: what was called.
            types: not looked at.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Returns:
            What the call returns.
        """
        kwargs = kwargs or {}
        if func is torch.autograd.grad:
            with self:
                return unrolled_grad(*args, **kwargs)
        if func is nn.functional.batch_norm:
            return _batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`(x - mean) / sqrt(var + eps) * weight + bias` per channel; of the batch in training, else the running ones."""
    shape = [1, -1] + [1] * (input.ndim - 2)
    over = [axis for axis in range(input.ndim) if axis != 1]
    if training or running_mean is None or running_var is None:
        mean = input.mean(over, keepdim=True)
        centred = input - mean
        variance = centred.square().mean(over, keepdim=True)
    else:
        centred = input - running_mean.view(shape)
        variance = running_var.view(shape)
    result = centred * torch.rsqrt(variance + eps)
    if weight is not None:
        result = result * weight.view(shape)
    return result if bias is None else result + bias.view(shape)
