"""Builders of optimizers that are torch's under a name of their own."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def momentum(
    params: Iterable[Tensor],
    lr: float,
    momentum: float = 0.9,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
) -> torch.optim.SGD:
    """Make ``torch.optim.SGD`` with momentum.

    Args:
        params: what is trained.
        lr: learning rate.
        momentum: share of the last step kept; torch's own default is 0, which is ``sgd``.
        dampening: share of the gradient left out.
        weight_decay: the L2 penalty's factor.

    Returns:
        The optimizer.
    """
    return torch.optim.SGD(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)


def nesterov(params: Iterable[Tensor], lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> torch.optim.SGD:
    """Make ``torch.optim.SGD`` with Nesterov's momentum; arguments as in :func:`momentum`.

    Args:
        params: what is trained.
        lr: learning rate.
        momentum: share of the last step kept.
        weight_decay: the L2 penalty's factor.

    Returns:
        The optimizer.
    """
    return torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=True)
