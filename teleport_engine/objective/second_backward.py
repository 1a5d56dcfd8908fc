"""Convolutions and BatchNorm in train mode with a second backward in few passes, on the CPU.

Values and gradients come from torch's own kernels, bit for bit. The second backward is where torch is slow: it makes
that of BatchNorm of some thirty passes over the activations, and takes one product of a convolution's as a
convolution with a kernel as large as the image.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from teleport_engine.model import CallPatch, Calls, Window

__all__ = ["Decomposed", "Twice"]

_convolution = torch.ops.aten.convolution.default
_convolution_backward = torch.ops.aten.convolution_backward.default
_batch_norm = torch.ops.aten.native_batch_norm.default
_batch_norm_backward = torch.ops.aten.native_batch_norm_backward.default

# How a kernel slides, as torch takes it: stride, padding, dilation, is transposed, output padding, groups.
_Sliding = tuple[list[int], list[int], list[int], bool, list[int], int]


@final
class _Convolution(torch.autograd.Function):
    """`Z = X * W + b`."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, sliding: _Sliding) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.sliding = sliding
        result: Tensor = _convolution(inputs, weight, bias, *sliding)
        return result

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        return *_ConvolutionBackward.apply(delta, inputs, weight, ctx.sliding, ctx.needs_input_grad[:3]), None


@final
class _ConvolutionBackward(torch.autograd.Function):
    """Its gradients. Made of operations that torch differentiates, so that more backwards may follow."""

    @staticmethod
    def forward(
        ctx: Any, delta: Tensor, inputs: Tensor, weight: Tensor, sliding: _Sliding, wanted: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(delta, inputs, weight)
        ctx.sliding = sliding
        grads = _convolution_backward(delta, inputs, weight, [weight.shape[0]], *sliding, list(wanted))
        return tuple(grad if is_wanted else None for grad, is_wanted in zip(grads, wanted, strict=True))

    @staticmethod
    def backward(ctx: Any, on_inputs: Tensor | None, on_weight: Tensor | None, on_bias: Tensor | None) -> Any:
        delta, inputs, weight = ctx.saved_tensors
        sliding = ctx.sliding
        for_delta, for_inputs, for_weight = ctx.needs_input_grad[:3]
        to_delta = None
        if for_delta and on_inputs is not None:
            to_delta = _convolution(on_inputs, weight, on_bias, *sliding)
        elif for_delta and on_bias is not None:
            to_delta = on_bias.view(-1, *[1] * (delta.ndim - 2)).expand_as(delta)
        if for_delta and on_weight is not None:
            other = _convolution(inputs, on_weight, None, *sliding)
            to_delta = other if to_delta is None else other.add_(to_delta)
        # One call: the gradient of the inputs is a product with a weight, that of the weight one with inputs.
        mask = [for_inputs and on_weight is not None, for_weight and on_inputs is not None, False]
        to_inputs, to_weight, _ = _convolution_backward(
            delta,
            inputs if on_inputs is None else on_inputs,
            weight if on_weight is None else on_weight,
            None,
            *sliding,
            mask,
        )
        return to_delta, to_inputs if mask[0] else None, to_weight if mask[1] else None, None, None


class _Running(NamedTuple):
    """What BatchNorm takes besides tensors that have a gradient."""

    mean: Tensor | None
    variance: Tensor | None
    momentum: float
    epsilon: float


@final
class _BatchNorm(torch.autograd.Function):
    """`Y = w (X - mean) r + b` per channel, `r = 1 / sqrt(variance + epsilon)`, of the batch."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor | None, bias: Tensor | None, running: _Running) -> Tensor:
        mean, variance, momentum, epsilon = running
        result: Tensor
        result, mean, rate = _batch_norm(inputs, weight, bias, mean, variance, True, momentum, epsilon)
        ctx.save_for_backward(inputs, weight, mean, rate)
        ctx.epsilon = epsilon
        return result

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor | None, ...]:
        grads = _BatchNormBackward.apply(delta, *ctx.saved_tensors, ctx.epsilon)
        return *(
            grad if is_wanted else None for grad, is_wanted in zip(grads, ctx.needs_input_grad, strict=False)
        ), None


@final
class _BatchNormBackward(torch.autograd.Function):
    """Its gradients `u = w r (delta - m(delta) - x b)`, `sum delta x`, `sum delta`.

    With `x = (X - mean) r`, `m` the mean over all but the channels, `b = m(delta x)`; and for the cotangents `v` on
    `u`, `c` and `e` on the others, `a = m(v x)`, `A = m(v delta) - m(v) m(delta) - a b`, the second backward is

    - to delta: `w r (v - m(v) - x a) + c x + e`,
    - to w: `r M A`, with `M` values per channel,
    - to X: `-w r^2 (A x + a (delta - m(delta) - x b) + b (v - m(v) - x a)) + c r (delta - m(delta) - x b)`:

    all of them per channel a combination of `X`, `delta`, `v` and 1, once four sums are known.
    """

    @staticmethod
    def forward(
        ctx: Any, delta: Tensor, inputs: Tensor, weight: Tensor | None, mean: Tensor, rate: Tensor, epsilon: float
    ) -> tuple[Tensor, ...]:
        grads: tuple[Tensor, ...] = _batch_norm_backward(
            delta, inputs, weight, None, None, mean, rate, True, epsilon, [True, True, True]
        )
        ctx.save_for_backward(delta, inputs, weight, mean, rate, *grads[1:])
        ctx.epsilon = epsilon
        return grads

    @staticmethod
    def backward(ctx: Any, on_inputs: Tensor, on_weight: Tensor, on_bias: Tensor) -> tuple[Tensor | None, ...]:
        delta, inputs, weight, mean, rate, sum_delta_x, sum_delta = ctx.saved_tensors
        for_delta, for_inputs, for_weight = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # a third backward: what follows is not made for it
            to_all = _pulled_back(delta, inputs, weight, ctx.epsilon, (on_inputs, on_weight, on_bias))
            return *to_all, None, None, None
        count = inputs.numel() // inputs.shape[1]
        b, mean_delta = sum_delta_x / count, sum_delta / count
        sum_v, sum_v_x = _sums(on_inputs, inputs, mean, rate)
        a, mean_v = sum_v_x / count, sum_v / count
        scale = rate if weight is None else weight * rate
        to_delta = to_inputs = to_weight = None
        if for_delta:
            to_delta = _affine(inputs, rate * (on_weight - scale * a), mean, on_bias - scale * mean_v)
            to_delta.addcmul_(on_inputs, _per_channel(scale, inputs))
        if for_inputs or for_weight:
            _, sum_v_delta = _sums(on_inputs, delta, torch.zeros_like(mean), torch.ones_like(rate))
            rest = sum_v_delta / count - mean_v * mean_delta - a * b
            to_weight = rate * count * rest if for_weight else None
        if for_inputs:
            of_delta, of_v = rate * (on_weight - scale * a), -rate * scale * b
            of_x = -scale * rate * rest - of_delta * b - of_v * a
            to_inputs = _affine(inputs, of_x * rate, mean, -of_delta * mean_delta - of_v * mean_v)
            to_inputs.addcmul_(delta, _per_channel(of_delta, inputs)).addcmul_(on_inputs, _per_channel(of_v, inputs))
        return to_delta, to_inputs, to_weight, None, None, None


def _pulled_back(
    delta: Tensor, inputs: Tensor, weight: Tensor | None, epsilon: float, cotangents: Sequence[Tensor]
) -> list[Tensor | None]:
    """The second backward from the gradients as plain arithmetic, with its graph."""
    given = (delta, inputs, inputs.new_ones(inputs.shape[1]) if weight is None else weight)
    # Other tensors of the same values: what each depends on in turn is not to be gone through here.
    delta, inputs, weight = (one.view_as(one) if one.requires_grad else one for one in given)
    over = [axis for axis in range(inputs.ndim) if axis != 1]
    centred = inputs - inputs.mean(over, keepdim=True)
    rate = torch.rsqrt(centred.square().mean(over, keepdim=True) + epsilon)
    x = centred * rate
    products = delta * x
    rest = delta - delta.mean(over, keepdim=True) - x * products.mean(over, keepdim=True)
    grads = (_per_channel(weight, inputs) * rate * rest, products.sum(over), delta.sum(over))
    through = [pair for pair in zip(grads, cotangents, strict=True) if pair[0].requires_grad]
    wanted = [one for one in (delta, inputs, weight) if one.requires_grad]
    found = iter(
        torch.autograd.grad(
            [grad for grad, _ in through], wanted, [one for _, one in through], create_graph=True, allow_unused=True
        )
    )
    return [next(found) if one.requires_grad else None for one in (delta, inputs, weight)]


def _sums(left: Tensor, right: Tensor, mean: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """`sum left` and `sum left (right - mean) rate` per channel, in one pass: what BatchNorm's backward begins with."""
    mask = [False, True, True]
    _, products, plain = _batch_norm_backward(left, right, None, None, None, mean, rate, True, 0.0, mask)
    return plain, products


def _affine(inputs: Tensor, factor: Tensor, mean: Tensor, shift: Tensor) -> Tensor:
    """`factor (inputs - mean) + shift` per channel, in one pass: what BatchNorm does in eval mode."""
    result: Tensor = _batch_norm(inputs, factor, shift, mean, torch.ones_like(mean), False, 0.0, 0.0)[0]
    return result


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 2))


def _convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """As `F.conv1d`, `F.conv2d`, `F.conv3d`; None where it is left to torch."""
    if input.ndim != weight.ndim or not _is_served(input, weight, bias):
        return None
    window = Window.of_call(weight.shape[2:], stride, padding, dilation)
    if any(before != after for before, after in window.padding):
        return None
    ends = [before for before, _ in window.padding]
    sliding = (list(window.stride), ends, list(window.dilation), False, [0] * len(ends), groups)
    result: Tensor = _Convolution.apply(input, weight, bias, sliding)
    return result


def _normalise(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """As `F.batch_norm`; None where it is left to torch, with what torch refuses."""
    if not training or eps <= 0.0 or input.ndim < 2 or input.numel() <= input.shape[1]:
        return None
    if not _is_served(input, weight, bias, running_mean, running_var):
        return None
    result: Tensor = _BatchNorm.apply(input, weight, bias, _Running(running_mean, running_var, momentum, eps))
    return result


def _is_served(input: Tensor, *others: Tensor | None) -> bool:
    """Plain tensors of one of two types on the CPU, in a forward that nothing but a backward will look at."""
    tensors = [input, *(other for other in others if other is not None)]
    return (
        torch.is_grad_enabled()
        and input.dtype in (torch.float32, torch.float64)
        and any(one.requires_grad for one in tensors)
        and all(
            type(one) in (Tensor, nn.Parameter, nn.Buffer)
            and one.device.type == "cpu"
            and one.layout is torch.strided
            and one.dtype is input.dtype
            for one in tensors
        )
        # Forward mode and transforms ask these for rules that they have not; a checkpoint counts what is saved, and
        # runs again without us.
        and forward_ad._current_level < 0
        and not torch._C._are_functorch_transforms_active()
        and torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    )


def _plain_batch_norm(
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


@final
class Twice(CallPatch):
    """Prepares a forward for a second backward while it is active."""

    table: ClassVar[Calls] = {
        nn.functional.conv1d: _convolve,
        nn.functional.conv2d: _convolve,
        nn.functional.conv3d: _convolve,
        nn.functional.batch_norm: _normalise,
    }

    def _run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return self._replaced(func, args, kwargs)


@final
class Decomposed(CallPatch):
    """Runs `F.batch_norm` as plain arithmetic while it is active, because its kernel has no third derivative.

    The running statistics are read, and not updated: a forward of a teleport leaves no trace.
    """

    table: ClassVar[Calls] = {nn.functional.batch_norm: _plain_batch_norm}

    def _run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return self._replaced(func, args, kwargs)
