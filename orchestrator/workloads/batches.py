"""The order in which a seed sees its data: its own generator, so that nothing an arm does can move it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import torch
from torch import Tensor

from orchestrator.workloads.data.dataset import Split
from orchestrator.workloads.isolation import stream_seed


def batches(split: Split, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw full batches for ever, from a fresh permutation of the split each epoch.

    Args:
        split: the training split.
        batch_size: samples per batch; more than the split has means the whole split.
        seed: of the trial; the order depends on it alone, on CPU and CUDA alike.

    Yields:
        Inputs ``[batch_size, *input_shape]`` and targets ``[batch_size]``, copies.
    """
    inputs, targets = split.inputs, split.targets
    for indices in _order(len(split), batch_size, seed, targets.device):
        yield inputs.index_select(0, indices), targets.index_select(0, indices)


def _order(num_samples: int, batch_size: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """Which samples each batch has, step by step; drawn on the CPU, moved to the device once an epoch."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "order"))
    size = min(batch_size, num_samples)
    last = num_samples - num_samples % size
    while True:
        order = torch.randperm(num_samples, generator=generator)[:last]
        yield from torch.split(order.to(device), size)


@final
class Draws:
    """Samples of the training split that a treatment takes for itself, by a generator of its own.

    Args:
        split: the training split.
        batch_size: of the training batches.
        seed: of the trial; what is drawn depends on it and on what was drawn before.
    """

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        self._split = split
        self._generator = torch.Generator().manual_seed(stream_seed(seed, "teleport"))
        self._order = _order(len(split), batch_size, seed, torch.device("cpu"))
        self._step = -1
        self._batch = torch.empty(0, dtype=torch.int64)
        self.batch_size = min(batch_size, len(split))

    def indices(self, size: int, outside: Sequence[Tensor] = ()) -> Tensor:
        """Draw samples without repetition.

        Args:
            size: how many; where there are fewer, all.
            outside: indices of samples that are not to be among them.

        Returns:
            Indices ``[m]``, int64, on the CPU.

        Raises:
            ValueError: if no sample is left.
        """
        order = torch.randperm(len(self._split), generator=self._generator)
        if outside:
            order = order[~torch.isin(order, torch.cat(list(outside)))]
        if not len(order):
            raise ValueError(f"the batches hold all {len(self._split)} training samples, so none is left for a probe")
        return order[:size]

    def samples(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Look samples up.

        Args:
            indices: of them.

        Returns:
            Inputs and targets, copies on the split's device.
        """
        found = self._split.select(indices.to(self._split.targets.device))
        return found.inputs, found.targets

    def batch(self, step_index: int) -> Tensor:
        """Tell which samples the batch of an optimizer step holds.

        Args:
            step_index: of the step; asked for in ascending order.

        Returns:
            Their indices, on the CPU.
        """
        while self._step < step_index:
            self._batch = next(self._order)
            self._step += 1
        return self._batch
