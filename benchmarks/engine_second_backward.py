"""What the engine's own second backward gains over a whole teleport, against torch's alone, on one CPU thread.

Below `tau = 1` a direction is a second backward through the gradient. `objective/second_backward.py` writes that of
convolutions and of batch norm in train mode in fewer passes than torch takes; each row switches off a part of it.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.timing import row
from orchestrator.spec.options import Resnet18Options
from orchestrator.trial.models import resnet18
from teleport_engine import FixedStep, Teleporter
from teleport_engine.objective.second_backward import Twice

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)


def cnn() -> nn.Sequential:
    """The CNN of the engine's rows, with batch norm after each convolution."""
    layers: list[nn.Module] = []
    for d_in, d_out in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(d_in, d_out, 3, padding=1), nn.BatchNorm2d(d_out), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 10))


def resnet() -> nn.Module:
    return resnet18.build(Resnet18Options(name="resnet18", width=16), (3, 32, 32), 10)


def tables() -> dict[str, Mapping[Any, Any]]:
    """What each candidate puts in the place of torch's functions."""
    whole = dict(Twice.table)
    return {
        "torch's own": {},
        "of convolutions alone": {key: value for key, value in whole.items() if key in CONVOLUTIONS},
        "of batch norm alone": {key: value for key, value in whole.items() if key not in CONVOLUTIONS},
        "of both": whole,
    }


def rows() -> list[dict[str, Any]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            one
            for name, make, repeats in (("CNN with batch norm", cnn, 8), ("ResNet-18 of width 16", resnet, 4))
            for tau in (1.0, 0.99)
            for one in measured(f"{name}, n = 64, tau = {tau:g}", make(), tau, repeats)
        ]
    finally:
        torch.set_num_threads(before)


def measured(name: str, model: nn.Module, tau: float, repeats: int, num_steps: int = 4) -> list[dict[str, Any]]:
    """Whole teleports of each candidate in turn, from the same weights, in seconds of the one CPU thread."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(64, 3, 32, 32), torch.arange(64) % 10
    teleporter = Teleporter(model, F.cross_entropy, tau=tau, step=FixedStep(1e-6), num_steps=num_steps)
    origin = {key: value.clone() for key, value in model.state_dict().items()}
    seconds: dict[str, list[float]] = {candidate: [] for candidate in tables()}
    for repeat in range(repeats + 1):
        # Each candidate comes first, second, third and last equally often.
        for candidate, table in itertools.islice(itertools.cycle(tables().items()), repeat, repeat + len(tables())):
            with mock.patch.object(Twice, "table", table):
                start = time.process_time()
                report = teleporter.teleport(inputs, targets)
                taken = time.process_time() - start
            assert report.num_steps == num_steps, report.outcome
            model.load_state_dict(origin)
            if repeat:  # the first round warms up
                seconds[candidate].append(taken)
    medians = {candidate: statistics.median(taken) for candidate, taken in seconds.items()}
    alone = medians.pop("torch's own")
    return [
        row(f"teleport with the second backward {candidate}, of one with torch's, {name}", taken / alone, "ratio")
        for candidate, taken in medians.items()
    ]
