"""Measures what the curves show: losses on fixed samples, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from orchestrator.trial.data.dataset import DataSet, Split


def cross_entropy(outputs: Tensor, targets: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Compute the cross-entropy, a tensor without dimensions, in which every token of every sample counts the same.

    Args:
        outputs: scores ``[..., num_classes]``: ``[n, C]``, or ``[n, T, V]``.
        targets: ``[...]``, int64.
        reduction: the mean over all predictions, or their sum.
    """
    return F.cross_entropy(outputs.flatten(end_dim=-2), targets.flatten(), reduction=reduction)


def num_correct(outputs: Tensor, targets: Tensor) -> Tensor:
    """Count the predictions whose largest score is the target's; shapes as in :func:`cross_entropy`."""
    return (outputs.argmax(dim=-1) == targets).sum()


# Enough that one more sample hardly moves the loss, few enough that 50 evaluations a run cost little.
NUM_TRAIN_SUBSET = 1024
# Samples evaluated at a time; evaluation must not need more memory than training.
CHUNK = 512
CHUNK_TOKENS = 65_536

LossFn = Callable[[Tensor, Tensor], Tensor]


@final
class Evaluator:
    """Measures a model; leaves it in training mode and touches no random state.

    The training subset is the first ``min(n, 1024)`` samples of one permutation of the training split, the same for
    every seed and arm (numpy's frozen ``RandomState(0)``). A validation subset is chosen in the same way.

    Args:
        model: returns class scores ``[n, num_classes]``; or, where targets are ``[n, T]``, the scores of every token,
            ``[n, T, num_classes]``: losses and accuracies are then means over tokens.
        data_set: must lie on the model's device.
        num_validation: how many samples of the validation split are measured; None: all.
    """

    def __init__(self, model: nn.Module, data_set: DataSet, num_validation: int | None = None) -> None:
        self._model = model
        self._train = _subset(data_set.train, NUM_TRAIN_SUBSET)
        self._validation = data_set.validation
        if num_validation is not None:
            self._validation = _subset(data_set.validation, num_validation)
        self._test = data_set.test

    def curves(self) -> dict[str, float]:
        """Measure what tuning may see.

        Returns:
            ``train_loss`` (on the fixed subset), ``validation_loss``, ``validation_accuracy``, and ``grad_norm`` of the
            gradients that the last step left (absent before the first step).
        """
        train_loss, _ = self._measure(self._train)
        loss, accuracy = self._measure(self._validation)
        metrics = {"train_loss": train_loss, "validation_loss": loss, "validation_accuracy": accuracy}
        gradients = [p.grad.detach() for p in self._model.parameters() if p.grad is not None]
        if gradients:
            metrics["grad_norm"] = nn.utils.get_total_norm([g.double() for g in gradients]).item()
        return metrics

    def test(self) -> dict[str, float]:
        """Measure ``test_loss`` and ``test_accuracy``, at the end of a confirm trial."""
        loss, accuracy = self._measure(self._test)
        return {"test_loss": loss, "test_accuracy": accuracy}

    def _measure(self, split: Split) -> tuple[float, float]:
        self._model.eval()
        totals = torch.zeros(2, dtype=torch.float64, device=split.targets.device)
        with torch.no_grad():
            size = _chunk(split.inputs)
            for inputs, targets in zip(torch.split(split.inputs, size), torch.split(split.targets, size), strict=True):
                outputs = self._model(inputs)
                totals[0] += cross_entropy(outputs, targets, reduction="sum").double()
                totals[1] += num_correct(outputs, targets)
        self._model.train()
        loss, correct = totals.tolist()
        return loss / split.targets.numel(), correct / split.targets.numel()


def _subset(split: Split, size: int) -> Split:
    """Take the first samples of one fixed permutation, so that everyone measures the same samples."""
    order = np.random.RandomState(0).permutation(len(split))[:size]
    return split.select(torch.from_numpy(order).to(split.targets.device))


def _chunk(inputs: Tensor) -> int:
    """Return how many samples to evaluate at a time: fewer of long sequences, since each token takes memory."""
    num_tokens = inputs.shape[1] if inputs.dim() < 4 else 1
    return max(1, min(CHUNK, CHUNK_TOKENS // num_tokens))
