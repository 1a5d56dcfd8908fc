"""What a teleport costs, in gradients of the same batch, on one thread."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.timing import medians, row
from teleport_engine import FixedStep, Teleporter

CASES = {"784-512-512-10, n = 256": ((784, 512, 512, 10), 256), "64-128-128-10, n = 32": ((64, 128, 128, 10), 32)}
NUM_STEPS = 8


def rows() -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    found = []
    for name, (widths, num_samples) in CASES.items():
        for tau, goal in ((1.0, 3.0), (0.99, 4.0)):
            found += _case(f"{name}, tau = {tau:g}", widths, num_samples, tau, goal)
    return found


def _case(name: str, widths: tuple[int, ...], num_samples: int, tau: float, goal: float) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for d_in, d_out in itertools.pairwise(widths):
        layers += [nn.Linear(d_in, d_out), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    inputs, targets = torch.randn(num_samples, widths[0]), torch.randint(widths[-1], (num_samples,))
    teleporter = Teleporter(model, F.cross_entropy, tau=tau, step=FixedStep(1e-4), num_steps=NUM_STEPS)
    origin = copy.deepcopy(model.state_dict())
    steps: list[float] = []

    def gradient() -> None:
        for _ in range(NUM_STEPS):
            F.cross_entropy(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
            model.zero_grad()

    def teleport() -> None:
        report = teleporter.teleport(inputs, targets)
        assert report.num_steps == NUM_STEPS, report.outcome
        steps.append(report.seconds.direction + report.seconds.apply)
        model.load_state_dict(origin)

    teleport()
    gradient()
    steps.clear()
    taken = medians({"gradient": gradient, "teleport": teleport}, repeats=25)
    per_step = sorted(steps)[len(steps) // 2]
    return [
        row(f"one teleport step against one gradient, {name}", per_step / taken["gradient"], "ratio", goal),
        row(f"the same with basis, capture and report, {name}", taken["teleport"] / taken["gradient"], "ratio"),
    ]
