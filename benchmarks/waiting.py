"""What deterministic proposals cost: how busy 16 workers are, with trials of 1 to 5 seconds.

The searches are real (``Study``, TPE); trials are played by a clock that jumps from one end to the next. A search that
waits for nobody is the peer, as searches were before proposals waited for numbers.
"""

from __future__ import annotations

import heapq
import random
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.played import played, played_seed
from benchmarks.timing import row
from orchestrator.home.records import TrialConfig, TrialResult
from orchestrator.search.journal import open_journal
from orchestrator.search.study import plan_studies
from orchestrator.spec import SweepSpec, spec_from_text

NUM_WORKERS = 16
SPEC = """
version: 1
name: waiting
workloads:
  digits:
    model: {name: mlp, widths: [16]}
    data: {name: digits, batch_size: 128}
    optimizer: {name: sgd, lr: {loguniform: [0.01, 0.5]}}
    epochs: 1
    target: {metric: train_loss, value: 2.2}
arms:
  teleport:
    teleport: {tau: {choice: [1.0, 0.99]}, step: {rule: growth, factor: {uniform: [1.1, 2.0]}}}
search: {sampler: tpe, trials: 48, seeds: [0, 1], objective: {metric: train_loss}}
"""


def busy_share(spec: SweepSpec, seed: int = 0) -> float:
    """Play a search; the share of the workers' time in which they train."""
    draw = random.Random(seed)
    now, work = 0.0, 0.0
    running: list[tuple[float, str, TrialConfig]] = []
    with tempfile.TemporaryDirectory() as folder:
        studies = plan_studies(spec, open_journal(Path(folder) / "study.journal"), {})
        while True:
            for study in sorted(studies, key=lambda study: study.num_handed_out):
                while len(running) < NUM_WORKERS and (config := study.propose()) is not None:
                    seconds = draw.uniform(1.0, 5.0)
                    work += seconds
                    heapq.heappush(running, (now + seconds, config.trial_id, config))
            if not running:
                return work / (now * NUM_WORKERS)
            now, _, config = heapq.heappop(running)
            next(s for s in studies if s.arm == config.arm).tell(_result(config))


def _result(config: TrialConfig) -> TrialResult:
    lr = float(config.values["optimizer.lr"])  # type: ignore[arg-type]
    return played(config, abs(lr - 0.1), (played_seed(config.seeds[0], None, budget=10),))


def rows() -> list[dict[str, Any]]:
    """Measure."""
    free = busy_share(spec_from_text(SPEC, "benchmarks/waiting.py", ["search.concurrency=1000"]))
    found = []
    for concurrency, goal in ((4, 0.3), (8, 0.05)):
        spec = spec_from_text(SPEC, "benchmarks/waiting.py", [f"search.concurrency={concurrency}"])
        idle = 1.0 - busy_share(spec) / free
        name = f"of {NUM_WORKERS} workers' time, lost by waiting for numbers, search.concurrency {concurrency}"
        found.append(row(name, idle, "share", goal))
    return found
