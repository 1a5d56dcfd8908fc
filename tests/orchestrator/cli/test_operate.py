"""Stopping, deleting and reading a sweep from another terminal: real processes on the inline launcher, and on Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from orchestrator.cli import exit_code
from orchestrator.home.paths import MAX_OUTPUT, SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import TrialState
from tests.orchestrator.cli.test_processes import END, teleport, wait_until
from tests.orchestrator.specs import TINY

LONG = TINY.replace("epochs: 1\n", "epochs: 400\n").replace("every: 2}", "every: 9}")
FEW = ["--set", "search.trials=1", "--set", "confirm={seeds: 1, grid: none}"]
PLUGIN = """
import sys
from typing import Literal
from torch import nn
from orchestrator.spec.options import Entry, ModelOptions

class TalkingOptions(ModelOptions):
    input_kinds = frozenset({"image"})
    name: Literal["talking"]

    def misfit(self, sample_shape):
        return None

MODELS = {"talking": Entry(TalkingOptions, "talking:build")}

def build(options, *more):
    print("a word on stdout")
    print("a word on stderr, https://me:secret-canary@example.org", file=sys.stderr)
    print("\\x1b[31m red")
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(LONG)
    return path


def begun(spec: Path, home: Path, *options: str) -> tuple[subprocess.Popen[str], SweepPaths]:
    """Start a sweep, and wait until one of its trials has rows."""
    process = teleport("run", str(spec), "--home", str(home), *options)
    paths = SweepPaths(home, "tiny")
    wait_until(lambda: any(path.stat().st_size for path in paths.trials.glob("*/history.jsonl")), process)
    return process, paths


def status_in_mlflow(paths: SweepPaths) -> list[str]:
    client = mlflow.MlflowClient(f"sqlite:///{paths.home}/mlflow.db")
    ids = [each.experiment_id for each in client.search_experiments()]
    return [run.info.status for run in client.search_runs(ids) if run.data.tags.get("phase") == "sweep"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["inline", "ray"])
def test_a_sweep_is_stopped_from_another_terminal_and_goes_on(
    spec: Path, tmp_path: Path, launcher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    process, paths = begun(spec, tmp_path / "runs", "--launcher", launcher)
    assert exit_code(["stop", "tiny", "--home", str(paths.home)]) == 0
    told = f"sweep 'tiny' has stopped; go on with: teleport resume tiny --home {paths.home}\n"
    assert capsys.readouterr().out == told
    _, err = process.communicate(timeout=END)
    assert process.returncode == 130
    assert "interrupted; go on with: teleport resume tiny" in err
    assert status_in_mlflow(paths) == ["KILLED"]
    assert paths.asked_to_stop() == frozenset()
    assert exit_code(["stop", "tiny", "--home", str(paths.home)]) == 2
    assert "does not run now, so there is nothing to stop" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_every_polite_signal_ends_a_sweep_as_ctrl_c_does(spec: Path, tmp_path: Path, number: signal.Signals) -> None:
    told = tmp_path / "told"
    command = [sys.executable, "-c", "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())", str(told)]
    hooks = f"hooks={{sweep_finished: {{command: {json.dumps(command)}}}}}"
    process, paths = begun(spec, tmp_path / "runs", "--launcher", "inline", "--set", hooks)
    process.send_signal(number)
    process.communicate(timeout=END)
    assert process.returncode == 130
    assert status_in_mlflow(paths) == ["KILLED"]
    assert json.loads(told.read_text())["status"] == "interrupted"
    assert not [path for path in paths.root.rglob(".*") if path.is_file()], "nothing is half written"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["inline", "ray"])
def test_one_trial_is_ended_by_the_user_and_is_said_to_be(
    spec: Path, tmp_path: Path, launcher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    process, paths = begun(spec, tmp_path / "runs", "--launcher", launcher)
    running = next(
        path.parent.name for path in paths.trials.glob("*/history.jsonl") if not paths.result(path.parent.name).exists()
    )
    where = ["--home", str(paths.home)]
    assert exit_code(["stop", "tiny", "--trial", "zz", *where]) == 2
    assert "no trial 'zz' runs" in capsys.readouterr().err
    assert exit_code(["stop", "tiny", "--trial", running[:8], *where]) == 0
    assert f"trial {running} is ended; it counts as PRUNED, by the user" in capsys.readouterr().out
    assert exit_code(["status", "tiny", *where]) == 0
    assert f"ended by the user: {running}; they count as PRUNED" in capsys.readouterr().out
    result = paths.read_trial(running, with_history=False).result
    assert result is not None
    assert (result.state, result.by_user) == (TrialState.PRUNED, True)
    assert process.poll() is None, "the sweep goes on"
    assert exit_code(["stop", "tiny", *where]) == 0
    process.communicate(timeout=END)
    assert exit_code(["report", "tiny", *where, "--format", "md"]) == 0
    assert "1 search trials were ended by the user" in (paths.report / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["inline", "ray"])
def test_what_a_trial_prints_lies_with_it_without_credentials(tmp_path: Path, launcher: str) -> None:
    (tmp_path / "talking.py").write_text(PLUGIN)
    (tmp_path / "tiny.yaml").write_text(TINY.replace("{name: mlp, widths: [16]}", "{name: talking}"))
    code = "from orchestrator.cli import main; main()"
    run = ["run", "tiny.yaml", "--plugin", "talking", "--launcher", launcher, *FEW, "--set", "arms={}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONWARNINGS": ""}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    done = call(*run)
    assert done.returncode == 0, done.stderr
    assert "a word" not in done.stdout + done.stderr
    paths = SweepPaths(tmp_path / "runs", "tiny")
    trial_ids = sorted(path.name for path in paths.trials.iterdir())
    assert len(trial_ids) == 2
    for trial_id in trial_ids:
        text = paths.output(trial_id).read_text()
        assert "a word on stdout\n" in text
        assert "a word on stderr, https://***@example.org\n" in text
        printed = call("logs", "tiny", trial_id[:6]).stdout
        assert "a word on stdout\n" in printed
        assert "\\x1b[31m red" in printed, "nothing steers the terminal"
    assert not [
        path for path in (tmp_path / "runs").rglob("*") if path.is_file() and b"secret-canary" in path.read_bytes()
    ]
    assert "started digits/baseline" in call("logs", "tiny", "--follow").stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "tiny.yaml").write_text(TINY)
    assert exit_code(["run", str(home / "tiny.yaml"), "--home", str(home), "--launcher", "inline", *FEW]) == 0
    return home


def test_logs_name_what_is_not_there(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--home", str(finished)]
    capsys.readouterr()
    assert exit_code(["logs", "tiny", *where]) == 0
    assert "started digits/baseline search #0" in capsys.readouterr().out
    assert exit_code(["logs", "tiny", "xx", *where]) == 2
    assert "TRIAL: no trial 'xx' in sweep 'tiny'" in capsys.readouterr().err
    assert exit_code(["logs", "tinny", *where]) == 2
    assert "did you mean 'tiny'" in capsys.readouterr().err


def test_a_trial_that_prints_without_end_is_cut(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path, "s")
    (paths.trials / "ab").mkdir(parents=True)
    for _ in range(3):
        paths.append_output("ab", "x" * (MAX_OUTPUT // 2 + 10))
    text = paths.output("ab").read_text()
    assert len(text) < MAX_OUTPUT + 100
    assert text.endswith("[what it printed beyond is not kept]\n")
    assert text.count("[what it printed") == 1


def test_delete_asks_and_removes_home_and_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    where = ["--home", str(tmp_path / "runs")]
    for name in ("tiny", "other"):
        assert (
            exit_code(["run", str(tmp_path / "tiny.yaml"), "--name", name, *where, "--launcher", "inline", *FEW]) == 0
        )
    paths = SweepPaths(tmp_path / "runs", "tiny")
    num_trials = len(read_record(paths).trials)
    capsys.readouterr()
    assert exit_code(["delete", "tiny", *where]) == 2
    err = capsys.readouterr().err
    assert f"remove {paths.root} ({num_trials} trials, " in err
    assert "--yes removes without a question" in err
    assert paths.root.is_dir()
    assert exit_code(["delete", "tiny", "--mlflow", "--yes", *where]) == 0
    assert capsys.readouterr().out == f"removed sweep tiny, and {num_trials + 1} runs from MLflow\n"
    assert not paths.root.exists()
    client = mlflow.MlflowClient(f"sqlite:///{paths.home}/mlflow.db")
    ids = [each.experiment_id for each in client.search_experiments()]
    assert {run.data.tags["sweep"] for run in client.search_runs(ids)} == {"other"}
    assert exit_code(["delete", "tiny", "--yes", *where]) == 2
    assert exit_code(["list", *where]) == 0
    assert "other" in capsys.readouterr().out


def test_what_a_deletion_that_was_killed_left_is_named_and_removed_by_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "runs"
    dead, alive = home / ".tiny.999999999.0123abcd", home / f".other.{os.getppid()}.0123abcd"
    for left in (dead, alive):
        (left / "trials").mkdir(parents=True)
    assert exit_code(["list", "--home", str(home)]) == 0
    assert f"warning: {dead} is left of a command that was killed; `teleport delete" in capsys.readouterr().err
    assert exit_code(["delete", "tiny", "--home", str(home)]) == 0
    assert capsys.readouterr().out == f"removed {dead}, which a command that was killed had left\n"
    assert list(home.iterdir()) == [alive], "its process may be at work"
    assert exit_code(["delete", "tiny", "--home", str(home)]) == 2


@pytest.mark.slow
def test_a_sweep_that_runs_is_not_deleted(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process, paths = begun(spec, tmp_path / "runs", "--launcher", "inline")
    assert exit_code(["delete", "tiny", "--yes", "--home", str(paths.home)]) == 2
    assert f"stop it first (teleport stop tiny --home {paths.home})" in capsys.readouterr().err
    assert exit_code(["stop", "tiny", "--home", str(paths.home)]) == 0
    process.communicate(timeout=END)
    assert read_record(paths).trials, "nothing of it is removed"
