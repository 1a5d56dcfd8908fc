"""A data set in memory, and the rule by which each is split and normalised."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from orchestrator.spec.options import DATA_ROOT_VARIABLE, DATASETS, DataOptions
from teleport_engine.model import with_tensors

# A worker meets a handful of data sets; a full FashionMNIST takes 220 MB.
NUM_CACHED = 4
# Values per block, chosen to fit the processor's cache: numpy widens indices and counts to eight bytes each.
BLOCK = 1 << 16


@final
@dataclass(frozen=True)
class Split:
    """Samples and their targets.

    Args:
        inputs: ``[n, *input_shape]``: float32, normalised; or tokens, int64, in ``0 .. num_classes - 1``.
            A plug-in's may be a tuple or a dict of tensors, the model's arguments, each with one row for each sample.
        targets: what the task takes: int64 in ``0 .. num_classes - 1``, ``[n]``, one for each sample, or ``[n, T]``,
            one for each token; or float32 ``[n, num_classes]``.
    """

    inputs: Any
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> Self:
        """Copy to a device unless the split is there already."""
        return self._map(lambda tensor: tensor.to(device))

    def select(self, indices: Tensor) -> Self:
        """Pick samples; ``indices`` is ``[m]``, int64, on the same device."""
        return self._map(lambda tensor: tensor.index_select(0, indices))

    def part(self, first: int, last: int) -> Self:
        """Give the samples ``first .. last - 1``, not copied."""
        return self._map(lambda tensor: tensor[first:last])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(with_tensors(self.inputs, function), function(self.targets))


@final
@dataclass(frozen=True)
class DataSet:
    """Train, validation and test splits, the same for every seed.

    Args:
        train: what the optimizer sees.
        validation: what the search may see besides.
        test: what only confirm trials measure.
        input_shape: shape of one sample: ``(C, H, W)``, ``(T, d)``, or ``(T,)`` for tokens.
        num_classes: number of different targets; also of different tokens, where the inputs are tokens. Where a target
            is numbers or labels, how many of them: it is the size of a model's output.
        found: where the files lay, in words.
    """

    train: Split
    validation: Split
    test: Split
    input_shape: tuple[int, ...]
    num_classes: int
    found: str

    @classmethod
    def of(cls, inputs: Tensor, targets: Tensor, found: str) -> Self:
        """Split samples by one fixed permutation: a fifth for the test, a tenth for validation, the rest for training.

        Args:
            inputs: ``[n, *input_shape]``. Floats are scaled so that each value has mean 0 and standard deviation 1 over
                the training split; tokens are left as they are.
            targets: ``[n]`` or ``[n, T]``, int64, in ``0 .. num_classes - 1``; or ``[n, d]``, floats, left as they are.
            found: where the samples come from, in words.
        """
        order = torch.from_numpy(np.random.RandomState(0).permutation(len(targets)))
        first_validation, first_train = len(targets) // 5, len(targets) // 5 + len(targets) // 10
        test, validation, train = order.tensor_split([first_validation, first_train])
        if inputs.is_floating_point():
            deviation, mean = torch.std_mean(inputs[train], dim=0, correction=0)
            inputs = (inputs - mean) / torch.where(deviation > 0, deviation, 1.0)
        parts = {
            name: Split(inputs[rows], targets[rows])
            for name, rows in (("train", train), ("validation", validation), ("test", test))
        }
        num_classes = targets.shape[1] if targets.is_floating_point() else int(targets.max()) + 1
        return cls(**parts, input_shape=tuple(inputs.shape[1:]), num_classes=num_classes, found=found)

    def to(self, device: torch.device) -> Self:
        """Copy to a device unless the data set is there already."""
        return type(self)(
            self.train.to(device),
            self.validation.to(device),
            self.test.to(device),
            self.input_shape,
            self.num_classes,
            self.found,
        )


def normalised(train: npt.NDArray[np.uint8], *others: npt.NDArray[np.uint8]) -> list[Tensor]:
    """Scale all splits, to float32, so that the values of the training split have mean 0 and standard deviation 1.

    One mean and one deviation serve for all pixels: a deviation per pixel would divide by zero at the dark rim. Both
    come from a histogram in whole numbers, so they are the same to the last bit on every machine.
    """
    counts = _histogram(train.reshape(-1)).tolist()
    num, total = sum(counts), sum(count * value for value, count in enumerate(counts))
    squares = sum(count * value * value for value, count in enumerate(counts))
    mean = total / num
    deviation = math.sqrt((num * squares - total * total) / (num * num)) or 1.0
    table = ((np.arange(256, dtype=np.float64) - mean) / deviation).astype(np.float32)
    return [torch.from_numpy(_looked_up(table, split)) for split in (train, *others)]


def normalised_by_channel(train: npt.NDArray[np.uint8], *others: npt.NDArray[np.uint8]) -> list[Tensor]:
    """Scale each channel of ``[n, C, ...]`` by itself as :func:`normalised` does, as is usual for colours."""
    splits = [torch.empty(split.shape) for split in (train, *others)]
    for channel in range(train.shape[1]):
        parts = normalised(*(split[:, channel] for split in (train, *others)))
        for split, part in zip(splits, parts, strict=True):
            split[:, channel] = part
    return splits


def _histogram(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    counts = np.zeros(256, dtype=np.int64)
    for first in range(0, len(values), BLOCK):
        counts += np.bincount(values[first : first + BLOCK], minlength=256)
    return counts


def _looked_up(table: npt.NDArray[np.float32], codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    found = np.empty(codes.shape, np.float32)
    flat, values = codes.reshape(-1), found.reshape(-1)
    for first in range(0, len(flat), BLOCK):
        # Every byte is within the table, so clipping changes nothing; but only this mode writes in place.
        np.take(table, flat[first : first + BLOCK], out=values[first : first + BLOCK], mode="clip")
    return found


_CACHE: OrderedDict[tuple[str, str | None, str], DataSet] = OrderedDict()


def load_cached(options: DataOptions, device: torch.device) -> DataSet:
    """Load a data set once per process and device, since a reused worker runs many trials on it.

    The data set is shared: its tensors must not be written to.
    """
    identity = options.model_dump_json(exclude={"batch_size"})
    key = (identity, os.environ.get(DATA_ROOT_VARIABLE), str(device))
    if key not in _CACHE:
        loaded = _checked(DATASETS[options.name].load()(options), options)
        _CACHE[key] = loaded.to(device)
        while len(_CACHE) > NUM_CACHED:
            _CACHE.popitem(last=False)
    _CACHE.move_to_end(key)
    return _CACHE[key]


def _checked(loaded: object, options: DataOptions) -> DataSet:
    """Check that a data set is what its options said before it was loaded, since the sweep was planned by them."""
    if not isinstance(loaded, DataSet):
        raise TypeError(f"data set {options.name}: its builder must return a DataSet, gave {type(loaded).__name__}")
    if loaded.input_shape != options.sample_shape:
        raise ValueError(
            f"data set {options.name}: its options say sample_shape {options.sample_shape}, it has {loaded.input_shape}"
        )
    if DATASETS[options.name].plugin and len(loaded.train) != options.train_size:
        raise ValueError(
            f"data set {options.name}: its options say train_size {options.train_size}, it has {len(loaded.train)}"
        )
    return loaded
