"""Needs whole processes: a driver that is killed, a server that is not there, what an import loads."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.track import Destination, MlflowTracker, reach
from orchestrator.track.address import Address
from orchestrator.track.destination import EXPERIMENT
from orchestrator.track.mlflow_store import open_client
from orchestrator.track.store import Unreachable
from tests.orchestrator.track.stories import ended, on_file, put
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[3]

DRIVER = """
import sys
from pathlib import Path
from orchestrator.home.paths import SweepPaths
from orchestrator.track import MlflowTracker, writer
from tests.orchestrator.track.stories import ended, put

writer.LOOK_SECONDS = 0.01
paths = SweepPaths(Path(sys.argv[1]), "tiny")
MlflowTracker(f"sqlite:///{sys.argv[2]}").follow(paths)
for number in range(12):
    trial = ended(number)
    put(paths, trial.model_copy(update={"result": None}))
    print(flush=True)
    sys.stdin.readline()
    put(paths, trial)
sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.parametrize("num_trials", [1, 6, 12])
def test_a_driver_killed_in_the_middle_leaves_nothing_half_or_double(tmp_path: Path, num_trials: int) -> None:
    paths, trials = on_file(tmp_path), [ended(number) for number in range(12)]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = open_client(Address.parse(uri))
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(paths.home), f"{tmp_path}/mlflow.db"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert driver.stdin is not None
    assert driver.stdout is not None
    with driver.stdin, driver.stdout:
        for _ in range(num_trials):
            driver.stdout.readline()
            driver.stdin.write("\n")
            driver.stdin.flush()
        wait_until(lambda: client.get_experiment_by_name(EXPERIMENT) and client.search_runs(["1"]), "the first run")
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    for trial in trials:
        if not paths.result(trial.trial_id).is_file():
            put(paths, trial)
    assert MlflowTracker(uri).sync(paths, "FINISHED") == 0
    runs = client.search_runs(["1"])
    children = [run for run in runs if "trial_id" in run.data.tags]
    assert sorted(run.data.tags["trial_id"] for run in children) == sorted(trial.trial_id for trial in trials)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == len(trials) + 1


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def dead_uri(closed_port: int) -> str:
    return f"http://me:hunter2@127.0.0.1:{closed_port}"


@pytest.mark.slow
def test_a_dead_server_costs_the_sweep_nothing_and_is_made_good_later(
    dead_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = on_file(tmp_path, ended(0))
    tracker = MlflowTracker(dead_uri)
    tracker.follow(paths)
    put(paths, ended(1))
    wait_until(lambda: caplog.records, "word that it is down")
    assert tracker.close("FINISHED") == 3
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING] * 2, "that it is down, what it lacks"
    assert "hunter2" not in caplog.text
    assert MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db").sync(paths, "FINISHED") == 0
    assert reach(Destination(f"sqlite:///{tmp_path}/mlflow.db")).endswith("3 runs in experiment 'teleport'")


def test_reaching_for_a_dead_server_says_so_without_the_password(dead_uri: str) -> None:
    with pytest.raises(Unreachable, match=r"^Connection refused$") as caught:
        reach(Destination(dead_uri))
    assert "hunter2" not in str(caught.value)


@pytest.mark.slow
def test_a_new_store_is_made_without_a_word_on_either_stream(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom orchestrator.track import MlflowTracker\n"
        "from tests.orchestrator.track.stories import on_file, ended\n"
        "paths = on_file(Path(sys.argv[1]) / 'new', ended(0))\n"
        "tracker = MlflowTracker(f'sqlite:///{paths.home}/mlflow.db', close_seconds=600)\n"
        "tracker.follow(paths)\nassert tracker.close('FINISHED') == 0\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False, timeout=5 * PATIENCE,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["new"], "nothing lands in the current directory"


def test_importing_the_package_imports_no_mlflow() -> None:
    script = (
        "import sys, orchestrator.track, orchestrator.cli.servers\n"
        "print(sorted({'mlflow', 'sqlalchemy', 'pandas', 'torch', 'ray'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
