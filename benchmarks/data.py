"""What loading costs: FashionMNIST from its gz files, and from what another process has decoded; two cores."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.timing import row

REPEATS = 5
# One worker: imports first, then the seconds of a load and the private memory it adds, read by one pass over it.
WORKER = """
import json, sys, time
from pathlib import Path
import torch
from orchestrator.spec.options.datasets import FashionMnistOptions
from orchestrator.trial.data.mnist import load

def private():
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

torch.set_num_threads(2)
torch.ones(1 << 20).sum()
before, started = private(), time.perf_counter()
data = load(FashionMnistOptions(name="fashion_mnist", batch_size=32))
seconds = time.perf_counter() - started
data.train.inputs.sum()
tensors = [t for s in (data.train, data.validation, data.test) for t in (s.inputs, s.targets)]
print(json.dumps([seconds, private() - before, sum(t.nbytes for t in tensors) / 2**20]))
"""


def rows() -> list[dict[str, Any]]:
    first, second = [], []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as cache:
            first.append(_work(cache))
            second.append(_work(cache))
    with tempfile.NamedTemporaryFile() as blocked:
        alone = _work(blocked.name)
    size = alone[2]
    return [
        row("load FashionMNIST from gz: decode, normalise, store", _median(first, 0), "s", 1.5),
        row("load FashionMNIST in a second process", _median(second, 0), "s", 0.5),
        row(f"private memory of a worker for {size:.0f} MB of tensors", _median(second, 1), "MB", 20.0),
        row("the same where the cache cannot be written", alone[1], "MB"),
    ]


def _work(cache: str) -> list[float]:
    """Seconds, private MB, and MB of tensors of one fresh process."""
    environment = os.environ | {"TELEPORT_CACHE": cache, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", WORKER]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    measured: list[float] = json.loads(done.stdout)
    return measured


def _median(measured: list[list[float]], column: int) -> float:
    return statistics.median(each[column] for each in measured)
