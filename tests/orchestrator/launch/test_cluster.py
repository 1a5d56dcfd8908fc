"""A cluster that is not there is told in seconds; one that is there is told apart from one that is large enough."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import exit_code
from orchestrator.errors import Infeasible
from orchestrator.launch import RayLauncher
from orchestrator.launch.cluster import nodes_of
from orchestrator.paths import SweepPaths
from orchestrator.results import TrialConfig, TrialState
from orchestrator.spec import Share
from orchestrator.sweep import read_record
from tests.orchestrator.launch.clusters import SMALL, cluster, free_port
from tests.orchestrator.launch.test_launchers import ListSource, long_config, ray_warnings
from tests.orchestrator.specs import TINY
from tests.orchestrator.trials import config

ROOT = Path(__file__).parents[3]
pytestmark = ray_warnings


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def refused(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the tiny sweep with options that are refused; gives what was said, and nothing is left behind."""

    def run(*options: str) -> str:
        started_at = time.monotonic()
        assert exit_code(["run", str(spec), "--home", str(tmp_path / "runs"), *options]) == 2
        assert time.monotonic() - started_at < 20
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        assert not (tmp_path / "runs").exists(), "a sweep was begun"
        return captured.err

    return run


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port where something listens that says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize("address", ["nonsense", "ray://", "10.0.0.1", "http://10.0.0.1:80", "a:b:1", "head:99999", ""])
def test_what_is_no_address_is_refused(refused: Any, address: str) -> None:
    told = refused("--address", address)
    assert f"--address: must be auto, HOST:PORT or ray://HOST:PORT, is {address!r}" in told


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_port_where_nobody_listens_is_told(refused: Any, scheme: str) -> None:
    address = f"{scheme}127.0.0.1:{free_port()}"
    assert f"--address {address}: no Ray cluster answers there: Connection refused" in refused("--address", address)


def test_a_host_that_is_not_there_is_told(refused: Any) -> None:
    assert "no Ray cluster answers there: Name or service not known" in refused("--address", "nowhere.invalid:6379")


@pytest.mark.slow
def test_what_is_no_ray_is_told_in_seconds(refused: Any, deaf_port: int) -> None:
    """Ray itself waits 80 seconds, and then ends the process."""
    assert "what listens there is no Ray cluster" in refused("--address", f"127.0.0.1:{deaf_port}")


def test_waiting_for_nodes_needs_a_cluster(refused: Any) -> None:
    assert "--wait-for-nodes: no node joins without a cluster" in refused("--wait-for-nodes", "5")


def test_plan_tells_of_a_cluster_that_does_not_answer(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert exit_code(["plan", str(spec), "--address", address, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["place"] == address
    assert any("no Ray cluster answers there" in warning for warning in planned["warnings"])


@pytest.fixture(scope="module")
def two_by_two() -> Iterator[str]:
    """Two nodes with two CPUs and two GPUs each."""
    with cluster(num_cpus=2, num_gpus=2) as started:
        started.add_node(num_cpus=2, num_gpus=2, resources={"A100": 2}, **SMALL)
        yield started.address


@pytest.mark.slow
class TestTwoNodes:
    def test_a_trial_that_no_node_holds_is_refused(self, refused: Any, two_by_two: str) -> None:
        """Four GPUs as two and two: the totals would do."""
        told = refused("--address", two_by_two, "--set", "resources={gpu: 4}")
        assert "resources: a trial asks for 1 CPU, 4 GPU on one node;" in told
        assert "the closest of 2 nodes, has 2 CPU, 2 GPU" in told

    def test_every_resource_that_lacks_is_told_at_once(self, refused: Any, two_by_two: str) -> None:
        resources = "resources={cpu: 3, gpu: 0.5, memory: 100000, custom: {A100: 1, H100: 1}}"
        told = refused("--address", two_by_two, "--set", resources)
        assert "asks for 3 CPU, 0.5 GPU, 100000 GB memory, 1 A100, 1 H100 on one node" in told
        assert "no node has any H100 (ray start --resources=" in told

    def test_plan_counts_what_the_nodes_hold(
        self, spec: Path, two_by_two: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shares = "resources={cpu: 0.5, gpu: 0.5, custom: {A100: 1}}"
        assert exit_code(["plan", str(spec), "--address", two_by_two, "--set", shares, "--json"]) == 0
        planned = json.loads(capsys.readouterr().out)
        assert (planned["place"], planned["warnings"]) == (two_by_two, [])
        assert (planned["num_concurrent"], planned["num_concurrent_confirm"]) == (2, 2)
        assert exit_code(["plan", str(spec), "--address", two_by_two, "--set", "resources={cpu: 0.5, gpu: 0.5}"]) == 0
        out = capsys.readouterr().out
        assert f"on {two_by_two}: 8 at once, 4 in confirm" in out

    def test_plan_warns_of_what_no_node_holds(
        self, spec: Path, two_by_two: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert exit_code(["plan", str(spec), "--address", two_by_two, "--set", "resources={gpu: 4}"]) == 0
        assert "warning: confirm: a trial asks for 1 CPU, 4 GPU on one node" in capsys.readouterr().err

    def test_the_driver_is_given_up_by_nobody_else(self, two_by_two: str) -> None:
        assert sorted(node.resources["GPU"] for node in nodes_of(two_by_two)) == [2.0, 2.0]


@pytest.mark.slow
def test_nodes_that_join_in_time_are_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    source = ListSource([config(share=Share(custom={"late": 1.0}))])
    shares = [Share(custom={"late": 1.0})]
    with cluster(num_cpus=1) as started:
        with pytest.raises(Infeasible, match=r"no node has any late .* \(after 1 s of waiting for nodes\)"):
            RayLauncher(started.address, shares, 1.0).launch(source)
        assert not source.started
        joining = threading.Timer(4.0, lambda: started.add_node(num_cpus=1, resources={"late": 1}, wait=False, **SMALL))
        joining.start()
        RayLauncher(started.address, shares, 60.0).launch(source)
        joining.join()
    assert [result.state for result in source.results.values()] == [TrialState.COMPLETE]
    assert "waiting up to 60 s for nodes: a trial asks for 1 CPU, 1 late on one node" in capfd.readouterr().err


@pytest.mark.slow
def test_a_node_that_has_left_is_counted_no_more() -> None:
    with cluster(num_cpus=1) as started:
        leaving = started.add_node(num_cpus=1, num_gpus=4, **SMALL)
        assert {node.resources.get("GPU", 0) for node in nodes_of(started.address)} == {0, 4}
        started.remove_node(leaving)
        with pytest.raises(Infeasible, match=r"asks for 1 CPU, 1 GPU on one node; .* has 1 CPU, 0 GPU"):
            RayLauncher(started.address, [Share(gpu=1.0)]).launch(ListSource([config()]))


@pytest.mark.slow
def test_a_sweep_runs_through_rays_client(spec: Path, tmp_path: Path) -> None:
    """Tune's loop stays in this process, beside the sweep's files; it would move to the cluster by itself."""
    port = free_port()
    with cluster(num_cpus=2, ray_client_server_port=port):
        arguments = ["run", str(spec), "--home", str(tmp_path / "runs"), "--address", f"ray://127.0.0.1:{port}"]
        program = [sys.executable, "-c", "import sys; from orchestrator.cli import main; main()", *arguments]
        done = subprocess.run(program, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "Exception" not in done.stderr
    record = read_record(SweepPaths(tmp_path / "runs", "tiny"))
    assert [trial.result.state for trial in record.trials if trial.result] == [TrialState.COMPLETE] * 10


PLUGIN = '''
"""A workload, and a model that writes down where its process has our code from."""
import json, os
from typing import Literal
import orchestrator, teleport_engine
from orchestrator.catalog import Entry, MODELS as OURS
from orchestrator.catalog.models import MlpOptions

class TellingOptions(MlpOptions):
    name: Literal["telling"] = "telling"

def build(options, *arguments):
    import torch
    from orchestrator.workloads.models.mlp import build as mlp
    told = {"code": orchestrator.__file__, "engine": teleport_engine.__file__, "cwd": os.getcwd(),
            "threads": torch.get_num_threads(), "interop": torch.get_num_interop_threads(),
            "omp": os.environ.get("OMP_NUM_THREADS")}
    open(os.environ["TOLD"], "w").write(json.dumps(told))
    return mlp(options, *arguments)

MODELS = {"telling": Entry(TellingOptions, "telling:build")}
'''
