"""What a report costs over 1,000 trials of 200 points each, from the home alone: seconds, and the page's size.

Trials are made up and stored as a sweep stores them; each measurement is a process of its own, imports included.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.timing import row
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import (
    HistoryRow,
    Provenance,
    SeedResult,
    SweepRecord,
    TrialConfig,
    TrialResult,
    TrialState,
)
from orchestrator.home.target import times_to_target
from orchestrator.search.candidates import Candidates
from orchestrator.search.counts import num_planned
from orchestrator.search.selection import champions
from orchestrator.spec import Arm, Choice, Range, SweepSpec, Workload, spec_from_text

NUM_POINTS = 200
EVERY = 5

SPEC = """
version: 1
name: bench
description: Is a report of a thousand trials quick and small?
workloads:
  first: &workload
    model: {name: mlp, widths: [128, 128]}
    data: {name: digits, batch_size: 32}
    optimizer: {name: sgd, lr: {loguniform: [0.01, 1.0]}}
    epochs: 25
    evaluate: {every: 5}
    target: {metric: train_loss, value: 0.1}
  second: *workload
arms:
  teleport:
    teleport:
      tau: {choice: [1.0, 0.999, 0.99]}
      step: {choice: [{rule: fixed, lr: {loguniform: [0.001, 1.0]}}, {rule: growth, factor: {uniform: [1.1, 4.0]}}]}
      schedule: {epochs: 5, batches: 8, steps: {int: [1, 8]}}
search: {sampler: random, trials: %d, seeds: [0]}
confirm: {seeds: %d, grid: none}
resources: {cpu: 1}
"""
# Search trials and confirm seeds of each of four studies: 1,000 trials in all, mostly searched or mostly confirmed.
SIZES = {"mostly search": (242, 8), "mostly confirm": (50, 200)}


def rows() -> list[dict[str, Any]]:
    table = []
    for name, (num_search, num_confirm) in SIZES.items():
        with tempfile.TemporaryDirectory() as home:
            fill(Path(home), num_search, num_confirm)
            measured = report_in_process(home, "html,md,json")
            alone = report_in_process(home, "html")
        table += [
            row(f"report of 1,000 trials x 200 points, {name}", measured["seconds"], "s", 15.0),
            row(f"report of 1,000 trials x 200 points, {name}, the page alone", alone["seconds"], "s", 15.0),
            row(f"size of that page, {name}", measured["html"] / 1e6, "MB", 25.0),
            row(f"peak memory of that report, {name}", measured["memory"], "MiB"),
        ]
    return table


def report_in_process(home: str, formats: str) -> dict[str, float]:
    program = "from orchestrator.cli import main; main()"
    command = [sys.executable, "-c", program, "report", "bench", "--home", home, "--format", formats]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"the report ended with {status}"
    page = SweepPaths(Path(home), "bench").report_page
    return {
        "seconds": time.perf_counter() - started,
        "memory": usage.ru_maxrss / 1024,
        "html": page.stat().st_size,
    }


def fill(home: Path, num_search: int, num_confirm: int) -> None:
    """Store a finished sweep, as a driver would have left it."""
    spec, paths = spec_from_text(SPEC % (num_search, num_confirm)), SweepPaths(home, "bench")
    provenance = Provenance(command="bench", versions={}, host="here", started_at=1_760_000_000.0)
    paths.begin(spec, provenance)
    for config in _search(spec):
        _store(paths, config)
    record = SweepRecord(spec, provenance, tuple(paths.read_trials(with_history=False)))
    for chosen in champions(Candidates.of(record)).values():
        for seed in spec.confirm_seeds:
            update = {"phase": "confirm", "seeds": (seed,), "number": None, "origin": chosen[0].trial_id}
            _store(paths, TrialConfig.model_validate(chosen[0].config.model_dump() | update))


def _search(spec: SweepSpec) -> Iterator[TrialConfig]:
    for workload, arm in spec.studies:
        for number in range(num_planned(spec, workload, arm, "search")):
            draw = random.Random(f"{workload}/{arm}/{number}")
            values: dict[str, Any] = {}
            templates = (spec.workloads[workload], spec.arms[arm])
            for template in templates:
                template.choose(lambda each, draw=draw: _pick(each, draw), values)  # type: ignore[misc]
            training, method = (template.concretise(values) for template in templates)
            yield TrialConfig(
                workload=workload,
                arm=arm,
                phase="search",
                seeds=spec.search.seeds,
                training=Workload.model_validate(training),
                method=Arm.model_validate(method),
                values=values,
                number=number,
            )


def _pick(distribution: Range | Choice, draw: random.Random) -> Any:
    if isinstance(distribution, Choice):
        return draw.choice(distribution.labels)
    low, high = distribution.low, distribution.high
    if distribution.is_integer:
        return draw.randint(int(low), int(high))
    return math.exp(draw.uniform(math.log(low), math.log(high))) if distribution.is_log else draw.uniform(low, high)


def _store(paths: SweepPaths, config: TrialConfig) -> None:
    draw = random.Random(config.trial_id)
    pace = (0.02 if config.arm == "baseline" else 0.024) * math.exp(draw.gauss(0.0, 0.1))
    curve = [_row(config.seeds[0], EVERY * index, pace, draw) for index in range(NUM_POINTS)]
    last = curve[-1]
    seed = SeedResult(
        seed=config.seeds[0],
        outcome="completed",
        num_steps=last.step,
        budget_steps=last.step,
        **times_to_target(config.training.target, curve),
        seconds=last.seconds,
        teleport_seconds=0.0,
        gradient_evaluations=last.gradient_evaluations,
        metrics=last.metrics,
    )
    result = TrialResult(
        trial_id=config.trial_id,
        state=TrialState.COMPLETE,
        value=last.metrics["train_loss"],
        seeds=(seed,),
        started_at=0.0,
        ended_at=1.0,
    )
    paths.write_config(config)
    paths.append_history(config.trial_id, curve)
    paths.write_result(result)


def _row(seed: int, step: int, pace: float, draw: random.Random) -> HistoryRow:
    loss = 2.3 * math.exp(-pace * step) * math.exp(draw.gauss(0.0, 0.05))
    return HistoryRow(
        seed=seed,
        step=step,
        epoch=step / 45,
        seconds=0.001 * step * (1.0 + 0.1 * draw.random()),
        teleport_seconds=0.0,
        gradient_evaluations=float(step),
        num_teleports=0,
        metrics={
            "train_loss": loss,
            "validation_loss": loss + 0.01 * draw.random(),
            "validation_accuracy": min(0.99, 1.0 - loss / 2.6),
            "grad_norm": math.sqrt(loss),
        },
    )


if __name__ == "__main__":
    print(json.dumps(rows(), indent=1))
