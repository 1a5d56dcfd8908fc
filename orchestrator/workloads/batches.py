"""The order in which a seed sees its data: its own generator, so that nothing an arm does can move it."""

from __future__ import annotations

from collections.abc import Iterator

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
    generator = torch.Generator().manual_seed(stream_seed(seed, "order"))
    size = min(batch_size, len(split))
    last = len(split) - len(split) % size
    inputs, targets = split.inputs, split.targets
    while True:
        order = torch.randperm(len(split), generator=generator)[:last].to(targets.device)
        for indices in torch.split(order, size):
            yield inputs.index_select(0, indices), targets.index_select(0, indices)
