"""The program as a process: interrupted, killed, and run twice; real Ray, real MLflow on SQLite.

What nothing happens to runs in this process, which has imported all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import psutil
import pytest

from orchestrator.cli import exit_code
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import TrialState
from orchestrator.search.journal import open_journal
from tests import waiting
from tests.orchestrator.specs import TINY

pytestmark = pytest.mark.slow

# Long enough to be hit in the middle, short enough for a test.
SPEC = TINY.replace("epochs: 1\n", "epochs: 40\n").replace("every: 2}", "every: 9}")
# A sweep that goes on to its end starts Ray and runs trials, so it may take this many seconds on a busy machine.
END = 3 * waiting.PATIENCE


def teleport(*arguments: str) -> subprocess.Popen[str]:
    program = str(Path(sys.executable).parent / "teleport")
    return subprocess.Popen(
        [program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for a condition; a process that ends before that has failed."""

    def is_so() -> bool:
        assert process.poll() is None, process.communicate()
        return condition()

    waiting.wait_until(is_so)


def workers_of(driver: int) -> list[psutil.Process]:
    """The processes in which Ray Tune's trials run."""
    below = psutil.Process(driver).children(recursive=True)
    return [child for child in below if any("ray::ImplicitFunc" in word for word in child.cmdline())]


def num_results(paths: SweepPaths) -> int:
    return len(list(paths.trials.glob("*/result.json")))


def check_whole(paths: SweepPaths) -> None:
    """Every planned trial ended, once on file, once in Optuna, once in MLflow, and none is left RUNNING."""
    record = read_record(paths)
    assert len(record.trials) == 10
    assert all(trial.result is not None and trial.result.state is TrialState.COMPLETE for trial in record.trials)
    for arm in ("baseline", "teleport"):
        study = optuna.load_study(study_name=f"digits/{arm}", storage=open_journal(paths.journal))
        assert Counter(trial.state.name for trial in study.get_trials()) == {"COMPLETE": 3}
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{paths.home / 'mlflow.db'}")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(ids)
    assert Counter(run.info.status for run in runs) == {"FINISHED": 11}
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    tracked = Counter(run.data.tags["teleport.trial_id"] for run in runs if run not in parents)
    assert tracked == {trial.trial_id: 1 for trial in record.trials}


@pytest.fixture
def sweep(tmp_path: Path) -> tuple[Path, SweepPaths]:
    spec = tmp_path / "tiny.yaml"
    spec.write_text(SPEC)
    return spec, SweepPaths(tmp_path / "runs", "tiny")


def test_an_interrupt_keeps_the_state_and_prints_the_line_that_resumes(sweep: tuple[Path, SweepPaths]) -> None:
    spec, paths = sweep
    process = teleport("run", str(spec), "--home", str(paths.home), "--launcher", "inline")
    wait_until(lambda: num_results(paths) >= 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=END)
    assert process.returncode == 130, err
    assert f"go on with: teleport resume tiny --home {paths.home} --launcher inline" in err
    assert "Traceback" not in err
    assert exit_code(["resume", "tiny", "--home", str(paths.home), "--launcher", "inline"]) == 0
    check_whole(paths)


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_under_ray_leaves_no_run_behind(sweep: tuple[Path, SweepPaths], asked: signal.Signals) -> None:
    spec, paths = sweep
    process = teleport("run", str(spec), "--home", str(paths.home))
    wait_until(lambda: num_results(paths) >= 1, process)
    process.send_signal(asked)
    _, err = process.communicate(timeout=END)
    assert process.returncode == 130, err
    assert "go on with: teleport resume tiny" in err
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{paths.home / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert {run.info.status for run in runs} <= {"KILLED", "FINISHED"}


def test_a_driver_killed_outright_is_resumed_to_exactly_the_planned_trials(sweep: tuple[Path, SweepPaths]) -> None:
    spec, paths = sweep
    process = teleport("run", str(spec), "--home", str(paths.home))
    wait_until(lambda: num_results(paths) >= 2, process)
    process.kill()
    process.communicate(timeout=END)
    before = {path: path.stat().st_mtime_ns for path in paths.trials.glob("*/result.json")}
    again = teleport("resume", "tiny", "--home", str(paths.home))
    _, err = again.communicate(timeout=END)
    assert again.returncode == 0, err
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished trial was run again"
    check_whole(paths)


def test_a_worker_that_dies_is_told_in_the_log_and_nowhere_else(sweep: tuple[Path, SweepPaths]) -> None:
    spec, paths = sweep
    process = teleport("run", str(spec), "--home", str(paths.home))
    wait_until(lambda: num_results(paths) >= 1, process)
    wait_until(lambda: bool(workers_of(process.pid)), process)
    workers_of(process.pid)[0].kill()
    out, err = process.communicate(timeout=END)
    assert process.returncode == 0, err
    assert "lost" in paths.log.read_text()
    for told in (out, err):
        assert "Traceback" not in told
        assert "raylet" not in told
        assert "ActorDied" not in told
        assert "did not complete" not in told
    check_whole(paths)


def test_a_driver_killed_within_a_trial_goes_on_there_to_the_same_metrics(sweep: tuple[Path, SweepPaths]) -> None:
    spec, paths = sweep
    longer = (
        SPEC.replace("epochs: 40\n", "epochs: 200\n").replace("trials: 3", "trials: 1").replace("every: 9", "every: 90")
    )
    spec.write_text(longer + "checkpoint: {every: 0.2}\n")
    process = teleport("run", str(spec), "--home", str(paths.home), "--launcher", "inline")
    wait_until(lambda: any(paths.trials.glob("*/checkpoint.pt")), process)
    process.kill()
    process.communicate(timeout=END)
    [file] = paths.trials.glob("*/checkpoint.pt")
    for home in (paths.home, paths.home / "undisturbed"):
        assert exit_code(["run", str(spec), "--home", str(home), "--launcher", "inline"]) == 0
    assert f"going on with digits/baseline search #0 ({file.parent.name}) from step" in paths.log.read_text()
    records = read_record(paths), read_record(SweepPaths(paths.home / "undisturbed", "tiny"))
    mine, theirs = ({trial.trial_id: [r.metrics for r in trial.history] for trial in r.trials} for r in records)
    assert mine == theirs


def test_a_second_instance_is_refused_while_the_first_runs(
    sweep: tuple[Path, SweepPaths], capsys: pytest.CaptureFixture[str]
) -> None:
    spec, paths = sweep
    process = teleport("run", str(spec), "--home", str(paths.home), "--launcher", "inline")
    wait_until(lambda: num_results(paths) >= 1, process)
    assert exit_code(["run", str(spec), "--home", str(paths.home), "--launcher", "inline"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"is being run by process {process.pid}" in err
    assert exit_code(["status", "tiny", "--home", str(paths.home)]) == 0
    assert capsys.readouterr().out.startswith("tiny: running")
    _, err = process.communicate(timeout=END)
    assert process.returncode == 0, err
