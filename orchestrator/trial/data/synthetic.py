"""A classification set drawn from its seed: clusters on a curved surface, at any size and dimension.

A class is a union of clusters that lie at random among those of the other classes, in a latent space of few
dimensions. The latent point u is bent by u -> (u, |u - a|), mixed linearly into all values of the input, and each
value gets its own noise. What separates the classes is which cluster a point is near, and with clusters of every
class on all sides no hyperplane tells that.

The draw is the same to the last bit on every machine and at any number of threads. Random numbers are bytes of
numpy's ``RandomState``, whose stream is frozen (NEP 19); sums of four of them stand for Gaussians (Irwin-Hall,
excess kurtosis -0.3). All sums are of integers, exact in any order; what is real is single operations that IEEE 754
fixes; and the result is rounded to the bytes 0 .. 255 of an image. Matrix products run in float64 on integers far
below 2^53, where every order of summation is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self, final

import numpy as np
import numpy.typing as npt
import torch

from orchestrator.spec.options import SyntheticOptions
from orchestrator.trial.data.dataset import DataSet, Split, normalised
from orchestrator.trial.data.idx import Bytes
from orchestrator.trial.data.locations import locate
from orchestrator.trial.data.shared import shared

Reals = npt.NDArray[np.float64]

NUM_LATENT = 6
CLUSTERS_PER_CLASS = 12
# The spread of a cluster, in the standard deviation of the cluster centres.
SPREAD = 0.25
# The byte that stands for 0, and how many bytes make a standard deviation of the signal.
MIDDLE, SCALE = 127.5, 30.0
# Mean and deviation of the sum of four bytes: mean 4 * 127.5, variance 4 * (256^2 - 1) / 12.
SUM_MEAN, SUM_DEVIATION = 510, math.sqrt(21845.0)
# How much is drawn at a time, so that the noise of one block is in memory and not that of a split.
BLOCK_VALUES, BLOCK_ROWS = 1 << 17, 1 << 12
NUM_CALIBRATION = 4096
TASK, CALIBRATION, TRAIN, VALIDATION, TEST = range(5)


def load(options: SyntheticOptions) -> DataSet:
    """Draw all three splits; a larger training split begins with the samples of a smaller one.

    Inputs are ``[n, *shape]``, normalised by the training split.
    """
    return shared(options, [], lambda: _draw_all(options))


def _draw_all(options: SyntheticOptions) -> DataSet:
    task = _Task.of(options)
    num_rest = max(500, options.num_train // 5)
    parts = [
        _draw(task, options, stream, size)
        for stream, size in ((TRAIN, options.num_train), (VALIDATION, num_rest), (TEST, num_rest))
    ]
    shape = options.shape if len(options.shape) > 1 else (1, 1, *options.shape)
    inputs = normalised(*(images.reshape(-1, *shape) for images, _ in parts))
    splits = (Split(x, torch.from_numpy(labels)) for x, (_, labels) in zip(inputs, parts, strict=True))
    train, validation, test = splits
    found = str(locate("synthetic", options.root))
    return DataSet(train, validation, test, input_shape=shape, num_classes=options.num_classes, found=found)


@final
@dataclass(frozen=True)
class _Task:
    """What all samples share.

    Args:
        centres: of the clusters, ``[num_classes * CLUSTERS_PER_CLASS, NUM_LATENT]``, integers; cluster c belongs to
            class ``c % num_classes``.
        bend: where each latent axis is bent, ``[NUM_LATENT]``, integers.
        mixing: ``[2 * NUM_LATENT, d]``, of -1, 0 and 1.
        mean: of each value before noise, ``[d]``.
        deviation: of each value before noise, ``[d]``.
    """

    centres: Reals
    bend: Reals
    mixing: Reals
    mean: Reals
    deviation: Reals

    @classmethod
    def of(cls, options: SyntheticOptions) -> Self:
        """Draw the task of these options."""
        random = _stream(options, TASK)
        size = math.prod(options.shape)
        centres = _sums(random, options.num_classes * CLUSTERS_PER_CLASS, NUM_LATENT)
        bend = _sums(random, 1, NUM_LATENT)[0]
        thirds = np.frombuffer(random.bytes(2 * NUM_LATENT * size), np.uint8) % 3
        mixing = thirds.reshape(2 * NUM_LATENT, size).astype(np.float64) - 1
        flat = np.zeros(size)
        task = cls(centres, bend, mixing, flat, flat)
        latent, _ = task.latent(_stream(options, CALIBRATION), NUM_CALIBRATION)
        # These are sums of integers, which are exact, so that their quotients are the same everywhere.
        mean = latent.sum(axis=0) @ mixing / NUM_CALIBRATION
        variance = ((latent.T @ latent @ mixing) * mixing).sum(axis=0) / NUM_CALIBRATION - mean * mean
        return cls(centres, bend, mixing, mean, np.sqrt(np.maximum(variance, 1.0)))

    def latent(self, random: np.random.RandomState, num_samples: int) -> tuple[Reals, npt.NDArray[np.int64]]:
        """Draw samples before they are mixed: integers ``[n, 2 * NUM_LATENT]`` and labels ``[n]``."""
        cluster = random.randint(0, len(self.centres), size=num_samples)
        point = self.centres[cluster] + np.rint(SPREAD * _sums(random, num_samples, NUM_LATENT))
        bent = np.concatenate([point, np.abs(point - self.bend)], axis=1)
        return bent, cluster.astype(np.int64) % (len(self.centres) // CLUSTERS_PER_CLASS)


def _draw(task: _Task, options: SyntheticOptions, stream: int, num_samples: int) -> tuple[Bytes, npt.NDArray[np.int64]]:
    random = _stream(options, stream)
    size = math.prod(options.shape)
    images = np.empty((num_samples, size), np.uint8)
    labels = np.empty(num_samples, np.int64)
    block = max(1, min(BLOCK_ROWS, BLOCK_VALUES // size))
    for first in range(0, num_samples, block):
        # Whole blocks are drawn, so that no sample depends on how many are asked for.
        latent, classes = task.latent(random, block)
        values = (latent @ task.mixing - task.mean) / task.deviation
        values += options.noise * (_sums(random, block, size) / SUM_DEVIATION)
        part = slice(first, min(first + block, num_samples))
        images[part] = np.clip(np.rint(MIDDLE + SCALE * values), 0, 255)[: part.stop - first].astype(np.uint8)
        labels[part] = classes[: part.stop - first]
    return images, labels


def _stream(options: SyntheticOptions, stream: int) -> np.random.RandomState:
    return np.random.RandomState([options.seed, stream])


def _sums(random: np.random.RandomState, *shape: int) -> Reals:
    """Draw integers of mean 0 and deviation 147.8: sums of four bytes."""
    values = np.frombuffer(random.bytes(4 * math.prod(shape)), np.uint8).reshape(4, *shape)
    sums: Reals = values.sum(axis=0, dtype=np.uint16).astype(np.float64) - SUM_MEAN
    return sums
