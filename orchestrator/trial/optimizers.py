"""Builders of learning-rate schedules, and of torch's SGD under the names momentum and nesterov."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from orchestrator.spec.options import LR_SCHEDULES, ConstantOptions, CosineOptions, LrScheduleOptions, StepOptions

# Maps the index of a step, from 0, to the factor of its learning rate.
Multiplier = Callable[[int], float]


def scheduler_of(options: LrScheduleOptions, optimizer: Optimizer, num_steps: int) -> LambdaLR | None:
    """Make the scheduler to step after each optimizer step, and set the optimizer's rate to that of step 0.

    None: the learning rate never changes.
    """
    multiplier: Multiplier | None = LR_SCHEDULES[options.name].load()(options, num_steps)
    return None if multiplier is None else LambdaLR(optimizer, multiplier)


def constant(options: ConstantOptions, num_steps: int) -> Multiplier | None:
    """Keep the full rate; None: there is no warm-up, so nothing ever changes."""
    return _warmed_up(options.warmup, lambda index: 1.0) if options.warmup else None


def cosine(options: CosineOptions, num_steps: int) -> Multiplier:
    """Lower the rate along half a cosine; the step after the last one would reach ``final``."""
    length = max(1, num_steps - options.warmup)

    def after(index: int) -> float:
        share = (1.0 + math.cos(math.pi * min(index, length) / length)) / 2.0
        return options.final + (1.0 - options.final) * share

    return _warmed_up(options.warmup, after)


def step(options: StepOptions, num_steps: int) -> Multiplier:
    """Multiply the rate by ``factor`` every so many steps."""
    factor, every = options.factor, options.every
    return _warmed_up(options.warmup, lambda index: factor ** (index // every))


def _warmed_up(warmup: int, after: Multiplier) -> Multiplier:
    """Begin with ``1 / (warmup + 1)``, be at the full rate at step ``warmup``, and go on from there with ``after``."""
    return lambda index: (index + 1) / (warmup + 1) if index < warmup else after(index - warmup)


def momentum(
    params: Iterable[Tensor],
    lr: float,
    momentum: float = 0.9,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
) -> torch.optim.SGD:
    """Make ``torch.optim.SGD`` with momentum; torch's own default is 0, which is ``sgd``."""
    return torch.optim.SGD(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)


def nesterov(params: Iterable[Tensor], lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> torch.optim.SGD:
    """Make ``torch.optim.SGD`` with Nesterov's momentum."""
    return torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=True)
