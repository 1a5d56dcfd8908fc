"""Adaptive teleports in real training runs: what a step costs, and whether drift keeps within its budget elsewhere.

Each network is trained, and before every tenth step teleported by two knobs at their defaults, with the training batch
and a probe batch for its guards. A third batch that no guard has seen tells how far the loss has really drifted. In the
same place a teleport of fixed length with as many steps is timed, and taken back.
"""

from __future__ import annotations

import copy
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import row
from orchestrator.spec import Workload
from orchestrator.trial.data.dataset import Split, load_cached
from orchestrator.trial.loop import SeedTask, initial_model
from teleport_engine import FixedStep, Teleporter, TeleportReport

DRIFT = 0.01
GROWTH = 1.5
NUM_STEPS = 400
EVERY = 10
BATCH = 64
PROBE = 64
FRESH = 256
GOAL_COST = 1.1
GOAL_BEYOND = 0.05


class Case(NamedTuple):
    """A network, its data and its optimizer."""

    model: dict[str, Any]
    data: str
    optimizer: Callable[[Any], torch.optim.Optimizer]


CASES = {
    "mlp": Case({"name": "mlp", "widths": [128, 128]}, "fashion_mnist", lambda p: torch.optim.SGD(p, 0.1)),
    "cnn": Case({"name": "cnn", "channels": [8, 16, 32]}, "fashion_mnist", lambda p: torch.optim.SGD(p, 0.1)),
    "transformer": Case(
        {"name": "transformer", "d_model": 32}, "seq_fashion_mnist", lambda p: torch.optim.Adam(p, 3e-3)
    ),
    "resnet": Case({"name": "resnet18", "width": 8}, "digits", lambda p: torch.optim.SGD(p, 0.01, 0.9)),
}


@dataclass
class Seen:
    """What came of one network's teleports."""

    outcomes: Counter[str] = field(default_factory=Counter)
    kept: list[bool] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    num_steps: list[int] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)


def rows() -> list[dict[str, Any]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    table = []
    try:
        for name, case in CASES.items():
            seen = run(case)
            share = sum(seen.kept) / len(seen.kept) if seen.kept else float("nan")
            table += [
                row(
                    f"{name}: a step of an adaptive teleport against one of fixed length",
                    statistics.median(seen.steps),
                    "ratio",
                    GOAL_COST,
                ),
                row(f"{name}: the whole teleport per step against the same", statistics.median(seen.whole), "ratio"),
                row(
                    f"{name}: accepted teleports beyond their drift budget on a fresh batch",
                    1.0 - share,
                    "share",
                    GOAL_BEYOND,
                ),
                row(f"{name}: teleports accepted", len(seen.kept), "count"),
                row(f"{name}: steps of a teleport", statistics.mean(seen.num_steps), "mean"),
                row(f"{name}: growth of ||g||^2 by a teleport", statistics.median(seen.gains), "ratio"),
            ]
            print(name, dict(seen.outcomes), flush=True)
    finally:
        torch.set_num_threads(before)
    return table


def run(case: Case, seed: int = 0) -> Seen:
    task = SeedTask(_workload(case), "search", seed, torch.device("cpu"))
    data = load_cached(task.workload.data, task.device)
    model = initial_model(task, data)
    optimizer = case.optimizer(model.parameters())
    teleporter = Teleporter.adaptive(model, F.cross_entropy, drift=DRIFT, growth=GROWTH)
    draws = torch.Generator().manual_seed(seed)
    seen = Seen()
    for step in range(NUM_STEPS):
        order = torch.randperm(len(data.train), generator=draws)
        inputs, targets = _take(data.train, order[:BATCH])
        if step % EVERY == 0:
            probe = _take(data.train, order[BATCH : BATCH + PROBE])
            fresh = _take(data.train, order[BATCH + PROBE : BATCH + PROBE + FRESH])
            _teleport(teleporter, model, (inputs, targets), probe, fresh, seen)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return seen


def _teleport(
    teleporter: Teleporter,
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    probe: tuple[Tensor, Tensor],
    fresh: tuple[Tensor, Tensor],
    seen: Seen,
) -> None:
    origin = copy.deepcopy(model.state_dict())
    before = _loss(model, fresh)
    report = teleporter.teleport(*batch, probe=probe)
    seen.outcomes[report.outcome.value] += 1
    if report.num_steps == 0:
        return
    drift = abs(_loss(model, fresh) - before)
    moved = copy.deepcopy(model.state_dict())
    model.load_state_dict(origin)
    # As many steps, so short that no guard speaks: what a step costs does not depend on its length.
    fixed = Teleporter(model, F.cross_entropy, tau=0.99, step=FixedStep(1e-6), num_steps=report.num_steps)
    other = fixed.teleport(*batch)
    model.load_state_dict(moved)
    seen.kept.append(drift <= DRIFT * before)
    seen.num_steps.append(report.num_steps)
    seen.gains.append(report.grad_norm_ratio**2)
    seen.steps.append(_per_step(report) / _per_step(other))
    seen.whole.append(report.seconds.total / other.seconds.total)


def _per_step(report: TeleportReport) -> float:
    return (report.seconds.direction + report.seconds.apply) / report.num_steps


def _take(split: Split, index: Tensor) -> tuple[Tensor, Tensor]:
    return split.inputs[index], split.targets[index]


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> float:
    """In the mode at hand, without leaving a trace in running statistics."""
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    with torch.no_grad():
        loss = float(F.cross_entropy(model(batch[0]), batch[1]))
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
    return loss


def _workload(case: Case) -> Workload:
    data = {"name": case.data, "batch_size": BATCH}
    target = {"metric": "train_loss", "value": 0.1}
    optimizer = {"name": "sgd", "lr": 0.1}
    plain = {"model": case.model, "data": data, "optimizer": optimizer, "epochs": 1, "target": target}
    return Workload.model_validate(plain)


if __name__ == "__main__":
    for one in rows():
        print(f"{one['value']:.4g} {one['unit']}  {one['name']}")
