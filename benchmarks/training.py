"""What the trial loop costs beside a loop written by hand: the same model, data, batches and optimizer.

Time: seconds of training steps on the trial's own clock, which stands during evaluation alone, against the
wall-clock of the bare loop, in turn in one process; the least of many short runs on each side, which is what other
programs on the machine disturb least. The bare loop reads no loss and keeps no curve. Memory: the peak of a process
each, the training data's own bytes taken off on both sides.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.timing import row

# Shapes of FashionMNIST, so many samples that an epoch is NUM_SAMPLES / BATCH steps.
NUM_SAMPLES, BATCH = 3_840, 128
MLP: dict[str, Any] = {"name": "mlp", "widths": [128, 128]}
CNN: dict[str, Any] = {"name": "cnn"}
LARGE: dict[str, Any] = {"name": "mlp", "widths": [1024, 1024, 1024]}
REPEATS = 15
MEMORY_EPOCHS = 4
EVALUATE_EVERY = 50


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, model, epochs in (("mlp", MLP, 8), ("cnn", CNN, 1)):
        steps, whole, seconds = _times(model, epochs)
        found += [
            row(f"{name}: training steps of a trial against a loop by hand", steps, "ratio", 1.05),
            row(f"{name}: a whole trial with its evaluations against the same", whole, "ratio"),
            row(f"{name}: a step by hand", seconds * 1e3, "ms"),
        ]
    for name, model in (("cnn", CNN), ("mlp of 3 million weights, adam", LARGE)):
        peaks = {side: _peak(side, model) for side in ("by_hand", "trial", "kept")}
        found += [
            row(
                f"{name}: peak memory of a trial against a loop by hand",
                peaks["trial"] / peaks["by_hand"],
                "ratio",
                1.2,
            ),
            row(f"{name}: the same with a checkpoint at each row", peaks["kept"] / peaks["by_hand"], "ratio"),
            row(f"{name}: peak memory by hand, without the data", peaks["by_hand"] / 2**20, "MiB"),
        ]
    return found


def _times(model: dict[str, Any], epochs: int) -> tuple[float, float, float]:
    torch.set_num_threads(1)
    trial = _trial(model, epochs)
    bare = by_hand(model, epochs)
    steps, wholes, bares = [], [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        bare()
        bares.append(time.perf_counter() - started)
        started = time.perf_counter()
        steps.append(trial())
        wholes.append(time.perf_counter() - started)
    least = min(bares)
    return min(steps) / least, min(wholes) / least, least / (epochs * (NUM_SAMPLES // BATCH))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(10, (NUM_SAMPLES,), generator=generator)
    return torch.randn(NUM_SAMPLES, 1, 28, 28, generator=generator), targets


def by_hand(model: dict[str, Any], epochs: int) -> Callable[[], float]:
    """The plain loop; it knows nothing of this package."""
    inputs, targets = data()

    def train() -> float:
        torch.manual_seed(0)
        network = _network(model)
        optimizer = _optimizer(network, model)
        for _ in range(epochs):
            for indices in torch.split(torch.randperm(NUM_SAMPLES), BATCH):
                optimizer.zero_grad()
                F.cross_entropy(network(inputs[indices]), targets[indices]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return 0.0

    return train


def _network(model: dict[str, Any]) -> nn.Module:
    if model["name"] == "mlp":
        sizes = [784, *model["widths"]]
        layers: list[nn.Module] = [nn.Flatten()]
        for d_in, d_out in itertools.pairwise(sizes):
            layers += [nn.Linear(d_in, d_out), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
    layers = []
    for d_in, d_out in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(d_in, d_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 9, 10))


def _optimizer(network: nn.Module, model: dict[str, Any]) -> torch.optim.Optimizer:
    if model is LARGE:
        return torch.optim.Adam(network.parameters(), lr=1e-3)
    return torch.optim.SGD(network.parameters(), lr=0.05)


def _trial(model: dict[str, Any], epochs: int, *, is_kept: bool = False) -> Callable[[], float]:
    """A trial of the baseline arm on the same data; gives the seconds of its steps."""
    from orchestrator.home.checkpoint import Checkpoints
    from orchestrator.home.records import TrialConfig, TrialState
    from orchestrator.spec import Arm, Workload
    from orchestrator.trial import loop as training
    from orchestrator.trial.data.dataset import DataSet, Split
    from orchestrator.trial.run import run_trial

    split = Split(*data())
    small = Split(split.inputs[:1280], split.targets[:1280])
    data_set = DataSet(split, small, small, (1, 28, 28), 10, "made up")
    training.load_cached = lambda options, device: data_set  # type: ignore[attr-defined]
    optimizer = {"name": "adam", "lr": 1e-3} if model is LARGE else {"name": "sgd", "lr": 0.05}
    workload = Workload.model_validate(
        {
            "model": model,
            "data": {"name": "fashion_mnist", "batch_size": BATCH},
            "optimizer": optimizer,
            "epochs": epochs,
            "evaluate": {"every": EVALUATE_EVERY},
            "target": {"metric": "train_loss", "value": 0.1},
        }
    )
    config = TrialConfig(
        workload="w", arm="a", phase="search", seeds=(0,), training=workload, method=Arm(), checkpoint_every=1e-9
    )

    def train() -> float:
        result = run_trial(config, lambda rows: None, Checkpoints(None, lambda data: None) if is_kept else None)
        assert result.state is TrialState.COMPLETE, result.failure
        return result.seeds[0].seconds

    return train


def _peak(side: str, model: dict[str, Any]) -> float:
    """Bytes of a process of its own at its highest, without the data."""
    command = [sys.executable, "-m", "benchmarks.training", side, json.dumps(model)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def main(side: str, asked: str) -> None:
    torch.set_num_threads(1)
    model = next(known for known in (CNN, LARGE) if known == json.loads(asked))
    train = by_hand(model, MEMORY_EPOCHS) if side == "by_hand" else _trial(model, MEMORY_EPOCHS, is_kept=side == "kept")
    train()
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    status = Path("/proc/self/status").read_text()
    [peak] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    print(peak * 1024 - NUM_SAMPLES * (784 * 4 + 8))


if __name__ == "__main__":
    main(*sys.argv[1:])
