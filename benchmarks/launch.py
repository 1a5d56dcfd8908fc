"""What the orchestrator adds to a search: `teleport run` against a bare Ray Tune script with the same trainable.

Both sides run 24 short trials with Optuna's TPE on one private Ray cluster of this machine's cores, and reuse workers.
Two trials that do not count come first on both sides, so that modules are imported. The time is taken by the trials'
own clocks, from the first counted trial's start to the last one's end. The goal holds for the search without tracking;
the cost of MLflow's writes on the same cores is a row of its own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.timing import row

NUM_TRIALS = 24
NUM_WARM = 2
REPEATS = 5

SPEC = """
version: 1
name: bench
workloads:
  digits:
    model: {name: mlp, widths: [128, 128]}
    data: {name: digits, batch_size: 32}
    optimizer: {name: sgd, lr: {loguniform: [0.01, 0.5]}}
    epochs: 20
    evaluate: {every: 39}
    target: {metric: train_loss, value: 0.1}
arms: {}
search: {trials: %d, seeds: [0]}
confirm: {seeds: 1, grid: none}
"""


def rows() -> list[dict[str, Any]]:
    spans: dict[str, list[float]] = {"untracked": [], "tracked": [], "bare": []}
    for _ in range(REPEATS):
        for name in spans:
            spans[name].append(_in_process(name))
    middle = {name: statistics.median(taken) for name, taken in spans.items()}
    return [
        row("search of 24 trials against bare Ray Tune + OptunaSearch", _ratio(spans, "untracked"), "ratio", 1.15),
        row("the same with MLflow tracking (SQLite)", _ratio(spans, "tracked"), "ratio"),
        row("search of 24 trials, teleport run without tracking", middle["untracked"], "s"),
        row("search of 24 trials, teleport run with tracking", middle["tracked"], "s"),
        row("search of 24 trials, bare", middle["bare"], "s"),
    ]


def _ratio(spans: dict[str, list[float]], name: str) -> float:
    """The median of the paired ratios: each repeat has its own bare run beside it."""
    return statistics.median(ours / bare for ours, bare in zip(spans[name], spans["bare"], strict=True))


def _in_process(name: str) -> float:
    """Run one side in a process of its own: Ray does not start twice in one process without leaving traces."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.launch", name], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def span(times: list[tuple[float, float]]) -> float:
    """Seconds from the first timed trial's start to the last one's end; the warm-up trials come first."""
    timed = sorted(times)[NUM_WARM:]
    assert len(timed) == NUM_TRIALS, len(timed)
    return max(ended for _, ended in timed) - min(started for started, _ in timed)


def untracked() -> float:
    """The same program with a tracker that does nothing."""
    import orchestrator.cli.run
    from orchestrator.track import NoTracker

    orchestrator.cli.run.make_tracker = lambda home, uri: NoTracker()  # type: ignore[assignment, attr-defined]
    return tracked()


def tracked() -> float:
    from orchestrator.cli import exit_code
    from orchestrator.home.paths import SweepPaths

    with tempfile.TemporaryDirectory() as home:
        spec = Path(home) / "bench.yaml"
        spec.write_text(SPEC % (NUM_TRIALS + NUM_WARM))
        assert exit_code(["run", str(spec), "--home", home]) == 0
        trials = SweepPaths(Path(home), "bench").read_trials(with_history=False)
        results = [trial.result for trial in trials if trial.config.phase == "search"]
        return span([(result.started_at, result.ended_at) for result in results if result is not None])


def bare() -> float:
    import os

    from orchestrator.launch.cluster import QUIET

    os.environ.update(QUIET)
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as scratch:
        search = OptunaSearch({"lr": tune.loguniform(0.01, 0.5)}, metric="value", mode="min", seed=0)
        tuner = tune.Tuner(
            tune.with_resources(bare_trainable, {"cpu": 1}),
            param_space={"spec": SPEC % NUM_TRIALS},
            tune_config=tune.TuneConfig(
                search_alg=tune.search.ConcurrencyLimiter(search, max_concurrent=os.cpu_count() or 1),
                num_samples=NUM_TRIALS + NUM_WARM,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=scratch, verbose=0),
        )
        times = [(r.metrics["started_at"], r.metrics["ended_at"]) for r in tuner.fit()]
    ray.shutdown()
    return span(times)


def bare_trainable(config: dict[str, Any]) -> None:
    from ray import tune

    from orchestrator.home.records import TrialConfig
    from orchestrator.spec import Arm, Workload, spec_from_text
    from orchestrator.trial.run import run_trial

    spec = spec_from_text(config["spec"])
    training = Workload.model_validate(spec.workloads["digits"].concretise({"optimizer.lr": config["lr"]}))
    trial = TrialConfig(workload="digits", arm="baseline", phase="search", seeds=(0,), training=training, method=Arm())
    result = run_trial(trial, lambda rows: None)
    tune.report({"value": result.value, "started_at": result.started_at, "ended_at": result.ended_at})


if __name__ == "__main__":
    print(json.dumps({"untracked": untracked, "tracked": tracked, "bare": bare}[sys.argv[1]]()))
