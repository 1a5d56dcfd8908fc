"""Orders a seed's data by a generator of its own, so that nothing an arm does can change the order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, final

import torch
from torch import Tensor

from orchestrator.trial.data.dataset import Split
from orchestrator.trial.isolation import stream_seed


@final
class Batches:
    """Gives full batches without end, from a fresh permutation of the split in each epoch.

    Args:
        split: the training split.
        batch_size: samples per batch; more than the split has means the whole split.
        seed: the trial's seed; the order depends on it alone, on CPU and CUDA alike.
    """

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        self._split = split
        self._order = _Order(len(split), batch_size, seed, split.targets.device)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Any, Tensor]:
        """Return inputs ``[batch_size, *input_shape]`` and targets ``[batch_size, ...]``, copies."""
        batch = self._split.select(self._order.next())
        return batch.inputs, batch.targets

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data."""
        return self._order.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a position in the same split, with the same batch size and seed."""
        self._order.load_state_dict(state_dict)


@final
class _Order:
    """Chooses the samples of each batch, step by step; drawn on the CPU, moved to the device once an epoch."""

    def __init__(self, num_samples: int, batch_size: int, seed: int, device: torch.device) -> None:
        self._num_samples = num_samples
        self._size = min(batch_size, num_samples)
        self._device = device
        self._generator = torch.Generator().manual_seed(stream_seed(seed, "order"))
        # The generator's state before this epoch was drawn, from which the epoch can be drawn again.
        self._drawn_from = self._generator.get_state()
        self._epoch: tuple[Tensor, ...] = ()
        self._position = 0

    def next(self) -> Tensor:
        if self._position == len(self._epoch):
            self._draw()
        self._position += 1
        return self._epoch[self._position - 1]

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._drawn_from, "position": self._position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._drawn_from = state_dict["generator"]
        self._generator.set_state(self._drawn_from)
        self._epoch, self._position = (), 0
        if state_dict["position"]:
            self._draw()
            self._position = state_dict["position"]

    def _draw(self) -> None:
        self._drawn_from = self._generator.get_state()
        last = self._num_samples - self._num_samples % self._size
        order = torch.randperm(self._num_samples, generator=self._generator)[:last]
        self._epoch, self._position = torch.split(order.to(self._device), self._size), 0


@final
class ExtraBatches:
    """Draws samples of the training split for an arm, by a generator of its own.

    Args:
        split: the training split.
        batch_size: the size of the training batches.
        seed: the trial's seed; a draw depends on it and on the draws before.
    """

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        self._split = split
        self._generator = torch.Generator().manual_seed(stream_seed(seed, "teleport"))
        self._order = _Order(len(split), batch_size, seed, torch.device("cpu"))
        self._step = -1
        self._batch = torch.empty(0, dtype=torch.int64)
        self.batch_size = min(batch_size, len(split))

    def indices(self, size: int, outside: Sequence[Tensor] = ()) -> Tensor:
        """Draw ``size`` samples without repetition, or all that are left, as indices ``[m]``, int64, on the CPU.

        Args:
            size: how many samples to draw.
            outside: indices of samples that must not be drawn.

        Raises:
            ValueError: no sample is left.
        """
        order = torch.randperm(len(self._split), generator=self._generator)
        if outside:
            order = order[~torch.isin(order, torch.cat(list(outside)))]
        if not len(order):
            raise ValueError(f"the batches hold all {len(self._split)} training samples, so none is left for a probe")
        return order[:size]

    def samples(self, indices: Tensor) -> tuple[Any, Tensor]:
        """Return copies of the inputs and targets of these samples, on the split's device."""
        found = self._split.select(indices.to(self._split.targets.device))
        return found.inputs, found.targets

    def batch(self, step_index: int) -> Tensor:
        """Return the indices, on the CPU, of the batch of an optimizer step; steps must be asked for in order."""
        while self._step < step_index:
            self._batch = self._order.next()
            self._step += 1
        return self._batch

    def state_dict(self) -> dict[str, Any]:
        """Return what the next draws depend on."""
        # A view would be saved with the whole epoch that it is a part of.
        return {
            "generator": self._generator.get_state(),
            "order": self._order.state_dict(),
            "step": self._step,
            "batch": self._batch.clone(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state of the same split, batch size and seed."""
        self._generator.set_state(state_dict["generator"])
        self._order.load_state_dict(state_dict["order"])
        self._step, self._batch = state_dict["step"], state_dict["batch"]
