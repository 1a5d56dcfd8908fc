"""Convolutions as linear maps of patches.

With groups, block `b` of the weight `[C_out, C_in / g, *kernel]` multiplies the patches of its own channels:
`o = C_out / g`, `d = C_in / g * prod(kernel)`, one row per sample and place of the window.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from teleport_engine.model.linear_maps import Use
from teleport_engine.model.types import Product

__all__ = ["ConvUse", "Window"]

_WEIGHT_GRADIENTS: dict[int, Callable[..., Tensor]] = {
    1: conv1d_weight,
    2: conv2d_weight,
    3: conv3d_weight,
}


@final
@dataclass(frozen=True)
class Window:
    """How a kernel slides; one entry per spatial dimension.

    Args:
        kernel: its sizes.
        stride: how far one place is from the next.
        padding: zeros before and after the input.
        dilation: how far one tap is from the next.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    @classmethod
    def of_call(cls, kernel: Sequence[int], stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> "Window":
        """Reads the arguments of `F.conv1d`, `F.conv2d`, `F.conv3d`; `kernel` holds the spatial sizes of the weight.

        Each argument is an int, or one per dimension; padding may be "valid", or "same" (the odd zero comes after).
        """
        taps = _per_dimension(dilation, len(kernel))
        if padding == "same":
            totals = [tap * (size - 1) for tap, size in zip(taps, kernel, strict=True)]
            pairs = tuple((total // 2, total - total // 2) for total in totals)
        else:
            pairs = tuple((one, one) for one in _per_dimension(0 if padding == "valid" else padding, len(kernel)))
        return cls(tuple(kernel), _per_dimension(stride, len(kernel)), pairs, taps)

    def padded(self, inputs: Tensor) -> Tensor:
        """Puts zeros around inputs `[n, C, *sizes]`; gives the inputs themselves where there is no padding."""
        ends = [end for pair in reversed(self.padding) for end in pair]
        return nn.functional.pad(inputs, ends) if any(ends) else inputs

    def patches(self, padded: Tensor) -> Tensor:
        """Gives what the kernel sees at each place of padded inputs: a view `[n, C, *places, *kernel]`."""
        view = padded
        for axis, (size, step, tap) in enumerate(zip(self.kernel, self.stride, self.dilation, strict=True)):
            view = view.unfold(2 + axis, tap * (size - 1) + 1, step)
        taps: list[Any] = [slice(None, None, tap) for tap in self.dilation]
        return view[(..., *taps)]


def _per_dimension(value: Any, count: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * count
    return tuple(value) * count if len(value) == 1 else tuple(value)


@final
@dataclass(frozen=True, eq=False)
class ConvUse(Use):
    """A call of a convolution: inputs `[n, C_in, *sizes]` or `[C_in, *sizes]`, all blocks of the weight.

    Args:
        window: how the kernel slides.
    """

    window: Window = field(kw_only=True)

    @property
    def is_shared(self) -> bool:
        """Blocks share their rows only without groups."""
        return self.num_blocks == 1

    def chunks(self, max_elements: int) -> Iterator[Tensor]:
        """Gives the patches: of as many samples as fit into `max_elements`, or of as many lines of one sample."""
        samples = self._samples(self.inputs.detach())
        num_dims = len(self.window.kernel)
        channels = samples.shape[1]
        for index, places in self._parts(samples, max_elements):
            view = self.window.patches(self.window.padded(samples[index]))[:, :, places]
            view = view.reshape(view.shape[0], self.num_blocks, channels // self.num_blocks, *view.shape[2:])
            # Runs along the last place are contiguous on both sides of the copy: [g, C/g, *kernel, n, *places].
            order = [1, 2, *range(3 + num_dims, 3 + 2 * num_dims), 0, *range(3, 3 + num_dims)]
            d_in = channels // self.num_blocks * math.prod(self.window.kernel)
            columns = view.permute(order).reshape(self.num_blocks, d_in, -1)
            if self.is_augmented:
                columns = torch.cat([columns, columns.new_ones(self.num_blocks, 1, columns.shape[2])], 1)
            yield columns.mT

    def _parts(self, samples: Tensor, max_elements: int) -> Iterator[tuple[slice, slice]]:
        """Says which samples, and which places along the first spatial dimension, make one part each."""
        shape = self.window.patches(self.window.padded(samples[:1])).shape
        num_places, per_sample = shape[2], math.prod(shape[1:])
        whole = max_elements // max(1, per_sample)
        if whole >= 1:
            step, line_step = whole, num_places
        else:
            step, line_step = 1, max(1, max_elements // (per_sample // num_places))
        for start, line in itertools.product(range(0, samples.shape[0], step), range(0, num_places, line_step)):
            yield slice(start, start + step), slice(line, line + line_step)

    def num_products(self, weight: Tensor) -> int:
        """Counts one row of patches for each sample and place."""
        window, samples = self.window, self._samples(self.inputs)
        num_places = math.prod(
            (size + sum(ends) - tap * (taps - 1) - 1) // step + 1
            for size, ends, tap, taps, step in zip(
                samples.shape[2:], window.padding, window.dilation, window.kernel, window.stride, strict=True
            )
        )
        return samples.shape[0] * num_places * weight.numel()

    def product(self, tangent: Tensor, delta: Tensor) -> Product:
        """Takes `delta^T dX` as the weight's gradient of a convolution, without patches."""
        window = self.window
        samples, deltas = self._samples(tangent), self._samples(delta)
        padding = [before for before, _ in window.padding]
        if any(before != after for before, after in window.padding):
            samples, padding = window.padded(samples), [0] * len(padding)
        shape = (deltas.shape[1], samples.shape[1] // self.num_blocks, *window.kernel)
        gradient = _WEIGHT_GRADIENTS[len(window.kernel)](
            samples, shape, deltas, window.stride, padding, window.dilation, self.num_blocks
        )
        matrix = gradient.reshape(self.num_blocks, deltas.shape[1] // self.num_blocks, -1)
        if self.is_augmented:  # a one does not change
            matrix = torch.cat([matrix, matrix.new_zeros(*matrix.shape[:2], 1)], 2)
        return Product(None, matrix)

    def _samples(self, tensor: Tensor) -> Tensor:
        return tensor if tensor.ndim == 2 + len(self.window.kernel) else tensor.unsqueeze(0)
