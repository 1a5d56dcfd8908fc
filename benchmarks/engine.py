"""What a teleport costs, in gradients of the same batch: on one CPU thread, and on a GPU where there is one."""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import row
from teleport_engine import FixedStep, Teleporter


class Case(NamedTuple):
    """A network and its batch.

    Args:
        make: the network.
        shape: of the batch.
        num_steps: teleport steps per teleport; few where a step takes seconds.
        repeats: of the measurement.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    num_steps: int
    repeats: int


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for d_in, d_out in itertools.pairwise(widths):
        layers += [nn.Linear(d_in, d_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn() -> nn.Sequential:
    layers: list[nn.Module] = []
    for d_in, d_out in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(d_in, d_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 10))


class Transformer(nn.Module):
    """Two blocks over the rows of an image."""

    def __init__(self, d: int = 64) -> None:
        super().__init__()
        self.embed = nn.Linear(28, d)
        self.place = nn.Parameter(0.02 * torch.randn(28, d))
        block = nn.TransformerEncoderLayer(d, 4, 2 * d, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(d, 10)

    def forward(self, rows: Tensor) -> Tensor:
        scores: Tensor = self.head(self.blocks(self.embed(rows) + self.place).mean(1))
        return scores


def resnet18() -> nn.Module:
    """torchvision's, with the stem for small images."""
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    found: nn.Module = model
    return found


CASES = {
    "MLP 784-512-512-10, n = 256": Case(lambda: mlp(784, 512, 512, 10), (256, 784), 8, 15),
    "MLP 64-128-128-10, n = 32": Case(lambda: mlp(64, 128, 128, 10), (32, 64), 8, 25),
    "CNN 3-16-32-64, n = 64": Case(cnn, (64, 3, 32, 32), 8, 9),
    "transformer, 2 blocks, d = 64, n = 64": Case(Transformer, (64, 28, 28), 8, 11),
    "ResNet-18, n = 64": Case(resnet18, (64, 3, 32, 32), 2, 3),
}


# What people take: a teleport of one step, all of it. The goals are of tau = 1 and .99.
WHOLE = {
    "MLP 784-512-512-10, n = 256": (Case(lambda: mlp(784, 512, 512, 10), (256, 784), 1, 9), (3.5, 6.0)),
    "MLP 64-128-128-10, n = 32": (Case(lambda: mlp(64, 128, 128, 10), (32, 64), 1, 25), (None, None)),
    "CNN 3-16-32-64, n = 64": (Case(cnn, (64, 3, 32, 32), 1, 7), (None, 4.0)),
    "transformer, 2 blocks, d = 128, n = 64": (Case(lambda: Transformer(128), (64, 28, 28), 1, 7), (3.5, 4.5)),
    "ResNet-18, n = 16": (Case(resnet18, (16, 3, 32, 32), 1, 3), (5.0, 8.0)),
}


def rows() -> list[dict[str, Any]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        prices = [
            one
            for name, (case, goals) in WHOLE.items()
            for tau, goal in zip((1.0, 0.99), goals, strict=True)
            for one in priced(f"{name}, tau = {tau:g}", case, tau, goal)
        ]
        return prices + [
            one
            for device in devices
            for name, case in CASES.items()
            for tau, goal in ((1.0, 3.0), (0.99, 4.0))
            for one in measured(
                f"{name}, tau = {tau:g}" + (", GPU" if device == "cuda" else ""), case, tau, goal, device
            )
        ]
    finally:
        torch.set_num_threads(before)


def measured(name: str, case: Case, tau: float, goal: float, device: str) -> list[dict[str, Any]]:
    """Gradients and teleports in turn; a step is what it adds to a teleport, its basis and report are not in it."""
    torch.manual_seed(0)
    model = case.make().to(device)
    inputs, targets = torch.randn(case.shape, device=device), torch.arange(case.shape[0], device=device) % 10
    teleporter = Teleporter(model, F.cross_entropy, tau=tau, step=FixedStep(1e-6), num_steps=case.num_steps)
    origin = copy.deepcopy(model.state_dict())

    def gradient() -> None:
        F.cross_entropy(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        model.zero_grad()

    def teleport() -> float:
        report = teleporter.teleport(inputs, targets)
        assert report.num_steps == case.num_steps, report.outcome
        model.load_state_dict(origin)
        return (report.seconds.direction + report.seconds.apply) / case.num_steps

    gradient()
    teleport()
    gradients, steps, whole = [], [], []
    for _ in range(case.repeats):
        gradients.append(_seconds(gradient, device))
        start = time.perf_counter()
        steps.append(teleport())
        whole.append(time.perf_counter() - start)
        gradients.append(_seconds(gradient, device))
    one = statistics.median(gradients)
    each = statistics.median(whole) / one / case.num_steps
    return [
        row(f"one teleport step against one gradient, {name}", statistics.median(steps) / one, "ratio", goal),
        row(f"the same with basis, capture and report over {case.num_steps} steps, {name}", each, "ratio"),
    ]


def priced(name: str, case: Case, tau: float, goal: float | None) -> list[dict[str, Any]]:
    """Process times of gradients and one-step teleports in turn, and what the teleports counted."""
    torch.manual_seed(0)
    model = case.make()
    inputs, targets = torch.randn(case.shape), torch.arange(case.shape[0]) % 10
    teleporter = Teleporter(model, F.cross_entropy, tau=tau, step=FixedStep(1e-6), num_steps=1)
    origin = copy.deepcopy(model.state_dict())
    gradients, teleports = [], []
    for index in range(case.repeats + 1):
        start = time.process_time()
        F.cross_entropy(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        between = time.process_time()
        report = teleporter.teleport(inputs, targets)
        end = time.process_time()
        model.zero_grad()
        model.load_state_dict(origin)
        if index:  # the first is a warm-up
            gradients.append(between - start)
            teleports.append(end - between)
    measured = statistics.median(teleports) / statistics.median(gradients)
    ratio = report.num_gradient_evaluations / measured
    return [
        row(f"a whole teleport of one step against one gradient, {name}", measured, "ratio", goal),
        row(
            f"its counted price against its process time, whichever is larger, {name}",
            max(ratio, 1 / ratio),
            "ratio",
            1.25,
        ),
    ]


def _seconds(action: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
