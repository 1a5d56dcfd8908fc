"""What only whole processes show: a driver that is killed, a server that is not there, what an import costs."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.home.paths import SweepPaths, atomic_write
from orchestrator.home.records import SweepRecord
from orchestrator.track import MlflowTracker, reach
from orchestrator.track.address import Address
from orchestrator.track.mlflow_store import open_client
from orchestrator.track.store import Unreachable
from tests.orchestrator.track.stories import ended, new_record, tell

ROOT = Path(__file__).parents[3]

DRIVER = """
import sys, time
from pathlib import Path
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import SweepRecord
from orchestrator.track import MlflowTracker
from tests.orchestrator.specs import tiny_spec

paths = SweepPaths(Path(sys.argv[1]), "tiny")
tracker = MlflowTracker(f"sqlite:///{paths.home}/mlflow.db")
tracker.begin_sweep(SweepRecord(tiny_spec(), paths.read_provenance(), ()), paths.read_trial)
for trial in paths.read_trials():
    tracker.begin_trial(trial.config)
    for row in trial.history:
        tracker.log_history(trial.trial_id, [row])
        print(flush=True)
        time.sleep(0.05)
    tracker.end_trial(trial.result)
"""


@pytest.mark.slow
@pytest.mark.parametrize("num_rows", [3, 30])
def test_a_driver_killed_in_the_middle_leaves_nothing_half_or_double(tmp_path: Path, num_rows: int) -> None:
    paths, trials = SweepPaths(tmp_path, "tiny"), [ended(number) for number in range(12)]
    record = new_record(*trials)
    atomic_write(paths.provenance, record.provenance.model_dump_json())
    for trial in trials:
        assert trial.result is not None
        paths.write_config(trial.config)
        paths.append_history(trial.trial_id, trial.history)
        paths.write_result(trial.result)
    open_client(Address.parse(f"sqlite:///{tmp_path}/mlflow.db"))
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert driver.stdout is not None
    with driver.stdout:
        for _ in range(num_rows):
            driver.stdout.readline()
        driver.send_signal(signal.SIGKILL)
    driver.wait()
    tracker = MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db")
    tracker.sync(record, "FINISHED")
    assert tracker.close() == 0
    runs = open_client(Address.parse(f"sqlite:///{tmp_path}/mlflow.db")).search_runs(["1"])
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
    record, trials = new_record(), [ended(0), ended(1)]
    tracker = MlflowTracker(dead_uri)
    tracker.begin_sweep(record)
    tell(tracker, trials)
    tracker.end_sweep("FINISHED")
    assert tracker.close() == 3
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING] * 2, "that it is down, what it lacks"
    assert "hunter2" not in caplog.text
    later = MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db")
    later.sync(SweepRecord(record.spec, record.provenance, tuple(trials)), "FINISHED")
    assert later.close() == 0
    assert reach(f"sqlite:///{tmp_path}/mlflow.db").endswith("3 runs in experiment 'teleport'")


def test_reaching_for_a_dead_server_says_so_without_the_password(dead_uri: str) -> None:
    with pytest.raises(Unreachable, match=r"^Connection refused$") as caught:
        reach(dead_uri)
    assert "hunter2" not in str(caught.value)


@pytest.mark.slow
def test_a_new_store_is_made_without_a_word_on_either_stream(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom orchestrator.track import MlflowTracker\n"
        "from tests.orchestrator.track.stories import new_record, tell, ended\n"
        "tracker = MlflowTracker(f'sqlite:///{sys.argv[1]}/new/home/mlflow.db', close_seconds=120)\n"
        "tracker.begin_sweep(new_record())\ntell(tracker, [ended(0)])\n"
        "tracker.end_sweep('FINISHED')\nassert tracker.close() == 0\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False, timeout=300,
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
