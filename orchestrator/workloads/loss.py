"""The primary loss and the accuracy: of one prediction a sample, or of one a token."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(outputs: Tensor, targets: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Cross-entropy over all predictions: every token of every sample counts the same.

    Args:
        outputs: scores ``[..., num_classes]``: ``[n, C]``, or ``[n, T, V]``.
        targets: ``[...]``, int64.
        reduction: the mean over predictions, or their sum.

    Returns:
        A tensor without dimensions.
    """
    return F.cross_entropy(outputs.flatten(end_dim=-2), targets.flatten(), reduction=reduction)


def num_correct(outputs: Tensor, targets: Tensor) -> Tensor:
    """Count the predictions whose largest score is the target's.

    Args:
        outputs: scores ``[..., num_classes]``.
        targets: ``[...]``, int64.

    Returns:
        A tensor without dimensions.
    """
    return (outputs.argmax(dim=-1) == targets).sum()
