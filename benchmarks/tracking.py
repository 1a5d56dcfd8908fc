"""What one logged metric costs, against Ray's stock MLflowLoggerCallback on the same kind of store.

Both sides write whole trials, and the cost of everything is shared among the metrics. Of 1,000 trials of 200 rows of 6
metrics this project's tracker writes 10 trials, and Ray's callback writes 10 rows of one trial, since the costs of one
metric are compared. The tracker's cost counts the writing of the sweep's files and the work of its thread until nothing
is left to send. For both sides, modules are imported and tables are made beforehand.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.timing import row
from orchestrator.cli.servers import mlflow_server
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import (
    HistoryRow,
    Provenance,
    SeedResult,
    TrialConfig,
    TrialResult,
    TrialState,
)
from orchestrator.spec import spec_from_text
from orchestrator.track import MlflowTracker
from orchestrator.track.address import Address
from orchestrator.track.mlflow_store import open_client

NUM_TRIALS = 10
NUM_ROWS = 200
NUM_ROWS_RAY = 10  # its cost is the same for every metric, and it is slow
REPEATS = 3
GOAL = 1 / 20

SPEC = """
version: 1
name: bench
workloads:
  digits:
    model: {name: mlp, widths: [128, 128]}
    data: {name: digits, batch_size: 32}
    optimizer: {name: sgd, lr: 0.1}
    epochs: 10
    target: {metric: train_loss, value: 0.1}
arms: {}
"""

_starts = itertools.count(1_700_000_000)


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        # What the sweep waits for on a bare home, and what it does not.
        paths = new_sweep(home / "fresh")
        fresh = MlflowTracker(f"sqlite:///{home / 'fresh' / 'mlflow.db'}", close_seconds=300)
        first_call = _seconds(lambda: fresh.follow(paths))
        first_start = _seconds(lambda: fresh.close("FINISHED"))
        empty = home / "empty.db"
        open_client(Address.parse(f"sqlite:///{empty}"))
        costs: dict[str, list[tuple[float, float, float]]] = {"SQLite": [], "HTTP": []}
        shutil.copy(empty, home / "server.db")
        with server(home / "server.db") as url:
            for repeat in range(REPEATS):
                file = home / f"{repeat}.db"
                shutil.copy(empty, file)
                for name, uri in (("SQLite", f"sqlite:///{file}"), ("HTTP", url)):
                    costs[name].append((*_ours(home / f"{name}{repeat}", uri), _ray(uri)))
    table = []
    for name, measured in costs.items():
        written, whole, ray = (statistics.median(each) for each in zip(*measured, strict=True))
        ratio = statistics.median(ours / theirs for _, ours, theirs in measured)
        table += [
            row(f"one logged metric against Ray's MLflowLoggerCallback, {name}", ratio, "ratio", GOAL),
            row(f"one logged metric, {name}", whole * 1e3, "ms"),
            row(f"one logged metric by Ray's MLflowLoggerCallback, {name}", ray * 1e3, "ms"),
            row(f"the sweep's part of one logged metric, {name}", written * 1e6, "µs"),
        ]
    table.append(row("what the first trial waits for tracking on a new home", first_call * 1e3, "ms"))
    table.append(row("importing MLflow and making a new home's tables, behind the sweep", first_start, "s"))
    return table


def _ours(home: Path, uri: str) -> tuple[float, float]:
    """Seconds per metric until the sweep's files are written, and until nothing is left to send."""
    paths, configs = new_sweep(home), [_config(number) for number in range(NUM_TRIALS)]
    curves = [_rows(NUM_ROWS) for _ in configs]
    num_metrics = NUM_TRIALS * NUM_ROWS * len(_values(curves[0][0]))
    tracker = MlflowTracker(uri, close_seconds=600)
    started = time.perf_counter()
    tracker.follow(paths)
    for config, curve in zip(configs, curves, strict=True):
        paths.write_config(config)
        paths.start_history(config.trial_id)
        for one in curve:
            paths.append_history(config.trial_id, [one])
        paths.write_result(_result(config))
    written = time.perf_counter()
    num_left = tracker.close("FINISHED")
    assert num_left == 0, f"{num_left} runs were not sent"
    return (written - started) / num_metrics, (time.perf_counter() - started) / num_metrics


def _ray(uri: str) -> float:
    """Seconds per metric of Ray's callback."""
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    callback = MLflowLoggerCallback(uri, experiment_name="ray")
    callback.setup()
    trial, curve = _RayTrial(), _rows(NUM_ROWS_RAY)
    started = time.perf_counter()
    callback.log_trial_start(trial)
    num_metrics = 0
    for iteration, one in enumerate(curve, 1):
        result = {**_values(one), "training_iteration": iteration}
        num_metrics += len(result)
        callback.log_trial_result(iteration, trial, result)
    callback.log_trial_end(trial)
    return (time.perf_counter() - started) / num_metrics


class _RayTrial:
    """What the callback looks at of a Ray trial."""

    def __init__(self) -> None:
        self.config = {"lr": 0.1}

    def __str__(self) -> str:
        return "trial"


def new_sweep(home: Path) -> SweepPaths:
    """Begin a sweep that has no trials yet."""
    paths = SweepPaths(home, "bench")
    provenance = Provenance(command="bench", versions={}, host="here", started_at=float(next(_starts)))
    paths.begin(spec_from_text(SPEC), provenance)
    return paths


def _config(number: int) -> TrialConfig:
    training = spec_from_text(SPEC).workloads["digits"].concretise({})
    return TrialConfig.model_validate(
        {
            "workload": "digits",
            "arm": "baseline",
            "phase": "search",
            "seeds": (number,),
            "training": training,
            "method": {},
            "number": number,
        }
    )


def _rows(number: int) -> list[HistoryRow]:
    return [
        HistoryRow(
            seed=0,
            step=5 * index,
            epoch=index / 9,
            seconds=0.01 * index,
            teleport_seconds=0.0,
            gradient_evaluations=5.0 * index,
            num_teleports=0,
            metrics={
                "train_loss": 2.3 / (1 + index),
                "validation_loss": 2.4 / (1 + index),
                "validation_accuracy": 1 - 0.9 / (1 + index),
            },
        )
        for index in range(number)
    ]


def _values(one: HistoryRow) -> dict[str, float]:
    """The metrics of a row, as both sides log them."""
    clocks = {"epoch": one.epoch, "seconds": one.seconds, "gradient_evaluations": one.gradient_evaluations}
    return {**one.metrics, **clocks}


def _result(config: TrialConfig) -> TrialResult:
    seed = SeedResult(
        seed=config.seeds[0],
        outcome="completed",
        num_steps=5 * NUM_ROWS,
        budget_steps=5 * NUM_ROWS,
        steps_to_target=None,
        seconds_to_target=None,
        gradient_evaluations_to_target=None,
        seconds=1.0,
        teleport_seconds=0.0,
        gradient_evaluations=5.0 * NUM_ROWS,
        metrics={"train_loss": 0.1},
    )
    return TrialResult(
        trial_id=config.trial_id, state=TrialState.COMPLETE, value=0.1, seeds=(seed,), started_at=0.0, ended_at=1.0
    )


@contextmanager
def server(file: Path) -> Iterator[str]:
    page = mlflow_server(f"sqlite:///{file}", port=0)
    with page.running() as process:
        while True:
            try:
                urllib.request.urlopen(f"{page.url}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.2)
        yield page.url


def _seconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
