"""Measures what the curves show: losses on fixed samples, in evaluation mode."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from torch import nn

from orchestrator.trial.data.dataset import DataSet, Split
from orchestrator.trial.tasks import Sums, Task
from teleport_engine.model import called, tensors_in

# Enough that one more sample hardly moves the loss, few enough that 50 evaluations a run cost little.
NUM_TRAIN_SUBSET = 1024
# Samples evaluated at a time; evaluation must not need more memory than training.
CHUNK = 512
CHUNK_TOKENS = 65_536


@final
class Evaluator:
    """Measures a model; leaves it in training mode and touches no random state.

    The training subset is the first ``min(n, 1024)`` samples of one permutation of the training split, the same for
    every seed and arm (numpy's frozen ``RandomState(0)``). A validation subset is chosen in the same way.

    Args:
        model: takes the data set's inputs and returns what the task measures.
        data_set: must lie on the model's device.
        task: what is measured.
        num_validation: how many samples of the validation split are measured; None: all.
    """

    def __init__(self, model: nn.Module, data_set: DataSet, task: Task, num_validation: int | None = None) -> None:
        self._model = model
        self._task = task
        self._train = _subset(data_set.train, NUM_TRAIN_SUBSET)
        self._validation = data_set.validation
        if num_validation is not None:
            self._validation = _subset(data_set.validation, num_validation)
        self._test = data_set.test

    def curves(self) -> dict[str, float]:
        """Measure what tuning may see.

        Returns:
            ``train_loss`` (on the fixed subset), ``validation_loss``, ``validation_METRIC`` for each metric of the
            task, and ``grad_norm`` of the gradients that the last step left (absent before the first step).
        """
        metrics = {"train_loss": self._measure(self._train)["loss"]}
        metrics |= {f"validation_{name}": value for name, value in self._measure(self._validation).items()}
        gradients = [p.grad.detach() for p in self._model.parameters() if p.grad is not None]
        if gradients:
            metrics["grad_norm"] = nn.utils.get_total_norm([g.double() for g in gradients]).item()
        return metrics

    def test(self) -> dict[str, float]:
        """Measure ``test_loss`` and ``test_METRIC`` for each metric of the task, at the end of a confirm trial."""
        return {f"test_{name}": value for name, value in self._measure(self._test).items()}

    def _measure(self, split: Split) -> dict[str, float]:
        self._model.eval()
        total: Sums = {}
        size = _chunk(split.inputs)
        with torch.no_grad():
            for first in range(0, len(split), size):
                part = split.part(first, first + size)
                sums = self._task.sums(called(self._model, part.inputs), part.targets)
                total = {name: value + total[name] if total else value for name, value in sums.items()}
        self._model.train()
        return self._task.metrics(total)


def _subset(split: Split, size: int) -> Split:
    """Take the first samples of one fixed permutation, so that everyone measures the same samples."""
    order = np.random.RandomState(0).permutation(len(split))[:size]
    return split.select(torch.from_numpy(order).to(split.targets.device))


def _chunk(inputs: Any) -> int:
    """Return how many samples to evaluate at a time: fewer of long sequences, since each token takes memory."""
    num_tokens = max(tensor.shape[1] if 1 < tensor.dim() < 4 else 1 for tensor in tensors_in(inputs))
    return max(1, min(CHUNK, CHUNK_TOKENS // max(1, num_tokens)))
