"""What hundreds and thousands of trials cost the driver, against bare Ray Tune with OptunaSearch in the same run.

Trials are simulated: a worker sleeps for as long as it is told and gives a made-up result, so that nothing but the
orchestration is measured. Searches with Ray run in processes of their own, each with a cluster of its own.
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.timing import row
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import HistoryRow, SeedResult, TrialConfig, TrialResult, TrialState
from orchestrator.launch import Launcher, TrialSource
from orchestrator.spec import SweepSpec, spec_from_text

NUM_TRIALS = 5_000
NUM_REPORTS = 20
WINDOW = 20  # trials whose cost is averaged
REPEATS = 2
MANY = 1_000  # trials over which memory is measured

SPEC = """
version: 1
name: bench
workloads:
  digits:
    model: {name: mlp, widths: [128, 128]}
    data: {name: digits, batch_size: 32}
    optimizer: {name: sgd, lr: {loguniform: [0.01, 0.5]}}
    epochs: 10
    target: {metric: train_loss, value: 0.1}
arms: {}
search: {sampler: %s, trials: %d, seeds: [0]}
confirm: {seeds: 1, grid: none}
resources: {cpu: 1}
"""


def rows() -> list[dict[str, Any]]:
    table = []
    for sampler, goal in (("random", 1.5), ("qmc", 1.5), ("tpe", None)):
        early, late, asked = _in_process("driver_cost", sampler)
        table += [
            row(
                f"driver: a trial among {num_trials(sampler):,} over one among 10, {sampler}",
                late / early,
                "ratio",
                goal,
            ),
            row(f"driver: a trial among {num_trials(sampler):,}, {sampler}", late, "ms"),
            row(f"driver: of that the sampler's and the journal's share, {sampler}", asked, "ms"),
        ]
    table.append(row("resume of a sweep of 5,000 trials", _in_process("resume"), "s", 20.0))
    pairs = [(_in_process("search", side="ours"), _in_process("search", side="bare")) for _ in range(REPEATS)]
    ratio = statistics.median(ours / bare for ours, bare in pairs)
    table.append(row("search of 64 trials of 1 s on two workers against bare Ray Tune", ratio, "ratio", 1.05))
    ours, bare = _in_process("busy", side="ours"), _in_process("busy", side="bare")
    table.append(
        row(
            "idle share of bare Ray Tune's busy share on 16 workers, trials of 1 to 5 s", 1 - ours / bare, "ratio", 0.03
        )
    )
    ours, bare = _in_process("memory", side="ours"), _in_process("memory", side="bare")
    table += [
        row("driver memory per trial against bare Ray Tune", ours / bare, "ratio", 1.3),
        row("driver memory per trial", ours, "kB"),
        row("driver memory per trial, bare Ray Tune", bare, "kB"),
    ]
    return table


def _in_process(what: str, *arguments: str, side: str = "") -> Any:
    command = [sys.executable, "-m", "benchmarks.scale", what, *arguments, *([side] if side else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(*command[3:], found, file=sys.stderr, flush=True)
    return found


# ---- simulated trials


def history_row(step: int) -> HistoryRow:
    return HistoryRow(
        seed=0,
        step=step,
        epoch=step / 45,
        seconds=0.01 * step,
        teleport_seconds=0.0,
        gradient_evaluations=float(step),
        num_teleports=0,
        metrics={"train_loss": 2.3 / (1 + step), "validation_loss": 2.3, "validation_accuracy": 0.5, "grad_norm": 1.0},
    )


def result_of(config: TrialConfig, started_at: float) -> TrialResult:
    seed = SeedResult(
        seed=0,
        outcome="completed",
        num_steps=450,
        budget_steps=450,
        steps_to_target=100,
        seconds_to_target=0.5,
        gradient_evaluations_to_target=100.0,
        seconds=1.0,
        teleport_seconds=0.0,
        gradient_evaluations=450.0,
        metrics=history_row(450).metrics,
    )
    value = random.Random(config.trial_id).random()
    return TrialResult(
        trial_id=config.trial_id,
        state=TrialState.COMPLETE,
        value=value,
        seeds=(seed,),
        started_at=started_at,
        ended_at=time.time(),
    )


def simulated(config: dict[str, Any]) -> None:
    """What a Ray worker runs instead of a trial."""
    from ray import tune

    trial = TrialConfig.model_validate_json(config["trial"])
    started_at = time.time()
    time.sleep(seconds_of(trial.number or 0))
    result = result_of(trial, started_at)
    tune.report({"rows": [history_row(450).model_dump_json()]})
    tune.report({"rows": [], "result": result.model_dump_json()})


def bare(config: dict[str, Any]) -> None:
    from ray import tune

    started_at = time.time()
    time.sleep(seconds_of(int(config["number"])))
    tune.report({"value": config["lr"], "started_at": started_at, "ended_at": time.time()})


def seconds_of(number: int) -> float:
    """How long a trial lasts, by its number and by what is measured."""
    shortest, longest = map(float, os.environ["BENCH_SECONDS"].split())
    return random.Random(number).uniform(shortest, longest)


# ---- the driver alone


class Simulating(Launcher):
    """Needs no machine."""

    def prepared(self) -> AbstractContextManager[None]:
        return nullcontext()


class Timed(Simulating):
    """Ends each trial at once, after twenty reports, and takes the time of each."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self.asked: list[float] = []

    def launch(self, source: TrialSource) -> None:
        while not source.is_exhausted:
            started = time.perf_counter()
            config = source.propose()
            assert config is not None
            asked = time.perf_counter()
            source.on_started(config)
            for step in range(NUM_REPORTS):
                source.on_history(config, [history_row(step)])
            source.on_ended(config, result_of(config, time.time()))
            self.milliseconds.append(1e3 * (time.perf_counter() - started))
            self.asked.append(1e3 * (asked - started))


def _spec(sampler: str, num_trials: int) -> SweepSpec:
    return spec_from_text(SPEC % (sampler, num_trials))


def _run(home: Path, spec: SweepSpec, launcher: Launcher) -> None:
    from orchestrator.sweep.run import run
    from orchestrator.track import MlflowTracker

    tracker = MlflowTracker(f"sqlite:///{home / 'mlflow.db'}", close_seconds=0.0)
    run(spec, SweepPaths(home, "bench"), launcher, tracker, command="bench", observe=lambda progress: None)


def num_trials(sampler: str) -> int:
    """As many as are simulated: tpe's own time grows with what it has seen."""
    return NUM_TRIALS if sampler != "tpe" else 1_000


def driver_cost(sampler: str) -> list[float]:
    num = num_trials(sampler)
    timed = Timed()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        _run(Path(home), _spec(sampler, num), timed)
    search, asked = timed.milliseconds[:num], timed.asked[:num]
    early = statistics.median(search[10 - WINDOW // 2 : 10 + WINDOW // 2])
    return [early, statistics.median(search[-WINDOW:]), statistics.median(asked[-WINDOW:])]


class Stopping(Simulating):
    """Ends trials until one is left, and stops there as a killed driver does."""

    def launch(self, source: TrialSource) -> None:
        for _ in range(NUM_TRIALS - 1):
            config = source.propose()
            assert config is not None
            source.on_started(config)
            source.on_history(config, [history_row(450)])
            source.on_ended(config, result_of(config, time.time()))
        raise KeyboardInterrupt


class First(Simulating):
    """Takes the time of the first proposal."""

    proposed_at = 0.0

    def launch(self, source: TrialSource) -> None:
        source.propose()
        self.proposed_at = time.perf_counter()
        raise KeyboardInterrupt


def resume() -> float:
    from orchestrator.errors import Interrupted

    spec = _spec("random", NUM_TRIALS)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        first = First()
        for launcher in (Stopping(), first):
            started = time.perf_counter()
            try:
                _run(Path(home), spec, launcher)
            except Interrupted:
                continue
    return first.proposed_at - started


# ---- with Ray


@contextmanager
def _cluster(num_cpus: int) -> Iterator[str]:
    from ray.cluster_utils import Cluster

    from orchestrator.launch.cluster import QUIET

    os.environ.update(QUIET)
    arguments = {"num_cpus": num_cpus, "object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=arguments)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def _ours(address: str, home: Path, num_trials: int) -> None:
    from orchestrator.launch import RayLauncher, tune
    from orchestrator.spec import Share

    tune.run_in_worker = simulated
    _run(home, _spec("random", num_trials), RayLauncher(address, [Share()]))


def _bare(address: str, home: Path, num_trials: int, num_cpus: int) -> list[tuple[float, float]]:
    import optuna
    import ray
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address=address, log_to_driver=False)
    sampler = optuna.samplers.RandomSampler(seed=0)
    search = OptunaSearch(
        {"lr": tune.loguniform(0.01, 0.5), "number": tune.randint(0, 10**9)},
        metric="value",
        mode="min",
        sampler=sampler,
    )
    tuner = tune.Tuner(
        tune.with_resources(bare, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(search, max_concurrent=num_cpus), num_samples=num_trials, reuse_actors=True
        ),
        run_config=tune.RunConfig(storage_path=str(home), verbose=0),
    )
    times = [(result.metrics["started_at"], result.metrics["ended_at"]) for result in tuner.fit()]
    ray.shutdown()
    return times


def _times(side: str, num_trials: int, num_cpus: int, seconds: str) -> list[tuple[float, float]]:
    """Run a search and give the start and the end of each of its trials."""
    os.environ["BENCH_SECONDS"] = seconds
    with _cluster(num_cpus) as address, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        if side == "bare":
            return _bare(address, home, num_trials, num_cpus)
        _ours(address, home, num_trials)
        trials = SweepPaths(home, "bench").read_trials(with_history=False)
        results = [trial.result for trial in trials if trial.config.phase == "search" and trial.result is not None]
        assert len(results) == num_trials
        return [(result.started_at, result.ended_at) for result in results]


def search(side: str) -> float:
    """Seconds from the first start to the last end."""
    times = _times(side, 64, 2, "1 1")
    return max(ended for _, ended in times) - min(started for started, _ in times)


def busy(side: str) -> float:
    """Share of the time in which workers are busy, from when all are up to when the last trial starts."""
    num_workers = 16
    times = sorted(_times(side, 160, num_workers, "1 5"))
    first, last = times[num_workers - 1][0], times[-1][0]
    spent = sum(max(0.0, min(ended, last) - max(started, first)) for started, ended in times)
    return spent / (num_workers * (last - first))


def memory(side: str) -> float:
    """KB that the driver grows by with each trial."""
    few, many = (_peak(side, num_trials) for num_trials in (100, 100 + MANY))
    return (many - few) / MANY


def _peak(side: str, num_trials: int) -> float:
    return float(_in_process("peak", side, str(num_trials)))


def peak(side: str, num_trials: str) -> float:
    _times(side, int(num_trials), 2, "0 0")
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


MEASURES: Mapping[str, Callable[..., Any]] = {
    "driver_cost": driver_cost,
    "resume": resume,
    "search": search,
    "busy": busy,
    "memory": memory,
    "peak": peak,
}

if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](*sys.argv[2:])))
