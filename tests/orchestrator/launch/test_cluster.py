"""A cluster that is not there is told as such, and so is one that cannot hold the trials."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import exit_code
from orchestrator.errors import Infeasible, UserError
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import HistoryRow, TrialConfig, TrialResult, TrialState
from orchestrator.launch import RayLauncher, private
from orchestrator.launch import cluster as ray_cluster
from orchestrator.launch import ray as launch_ray
from orchestrator.launch.cluster import Node, alive_nodes, nodes_of
from orchestrator.spec import Share
from orchestrator.spec.options import DATA_ROOT_VARIABLE
from tests.orchestrator.launch.clusters import SMALL, cluster, free_port, is_listening, joining
from tests.orchestrator.launch.test_launchers import ListSource, endless_config, ray_warnings
from tests.orchestrator.specs import TINY
from tests.orchestrator.trials import config, failed
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[3]
pytestmark = ray_warnings


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that is there may take longer to answer than a user is kept waiting."""
    monkeypatch.setattr(ray_cluster, "SECONDS_TO_ANSWER", PATIENCE)


@pytest.fixture
def refused(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the tiny sweep with options that are refused; gives what was said, and nothing is left behind."""

    def run(*options: str) -> str:
        assert exit_code(["run", str(spec), "--home", str(tmp_path / "runs"), *options]) == 2
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
def test_what_is_no_ray_is_told(refused: Any, deaf_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would end this process."""
    monkeypatch.setattr(ray_cluster, "SECONDS_TO_ANSWER", 1.0)
    assert "what listens there is no Ray cluster" in refused("--address", f"127.0.0.1:{deaf_port}")


def test_waiting_for_nodes_needs_a_cluster(refused: Any) -> None:
    assert "--wait-for-nodes: no node joins without a cluster" in refused("--wait-for-nodes", "5")


def test_plan_tells_of_a_cluster_that_does_not_answer(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert exit_code(["plan", str(spec), "--address", address, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["place"] == address
    assert any("no Ray cluster answers there" in warning for warning in planned["warnings"])
    assert (planned["num_concurrent"], planned["num_concurrent_confirm"], planned["seconds"]) == (0, 0, None)
    assert exit_code(["plan", str(spec), "--address", address]) == 0
    told = capsys.readouterr().out
    assert f"on {address}: nobody answers, so neither its workers nor the time are known;" in told
    assert " workers" not in told.replace("its workers", "")
    assert "\ntime: " not in told


@pytest.mark.slow
def test_where_the_driver_looks_for_data_workers_of_a_running_cluster_look_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATA_ROOT_VARIABLE, raising=False)
    with cluster(num_cpus=1) as started:
        monkeypatch.setenv(DATA_ROOT_VARIABLE, str(tmp_path))
        with ray_cluster.connected(started.address):
            import ray

            seen = ray.get(ray.remote(lambda: os.environ.get(DATA_ROOT_VARIABLE)).remote())
    assert seen == str(tmp_path)


PRIVATE = """
from orchestrator.launch import nodes_of
print(len(nodes_of(None)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_there", [False, True])
def test_a_private_ray_starts_below_a_long_directory_and_its_token_is_its_owners_alone(
    tmp_path: Path, is_there: bool
) -> None:
    usual = tmp_path / ("long" * 20)
    token = tmp_path / ".ray" / "auth_token"
    usual.mkdir()
    if is_there:
        token.parent.mkdir()
        token.write_text("0123456789abcdef" * 4)
        token.chmod(0o644)
    environment = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(usual)}
    for name in ("RAY_TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", PRIVATE], env=environment, capture_output=True, text=True, timeout=5 * PATIENCE
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) == 64
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


def test_a_directory_too_long_for_sockets_is_told_where_there_is_no_shorter_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "SHORT_DIRECTORIES", (str(tmp_path / "no"),))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 20)))
    told = r"^TMPDIR: .* is too long for the sockets of Ray, .*; set RAY_TMPDIR to a shorter directory$"
    with pytest.raises(UserError, match=told), private.short_directory(is_needed=True):
        pass
    with private.short_directory(is_needed=False) as option:
        assert option == {}


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
        assert f"on {two_by_two}: 8 workers, 4 in confirm" in out

    def test_plan_warns_of_what_no_node_holds(
        self, spec: Path, two_by_two: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert exit_code(["plan", str(spec), "--address", two_by_two, "--set", "resources={gpu: 4}"]) == 0
        assert "warning: confirm: a trial asks for 1 CPU, 4 GPU on one node" in capsys.readouterr().err

    def test_the_driver_is_given_up_by_nobody_else(self, two_by_two: str) -> None:
        assert sorted(node.resources["GPU"] for node in nodes_of(two_by_two)) == [2.0, 2.0]


@pytest.mark.slow
def test_nodes_that_join_in_time_are_waited_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ListSource([config(share=Share(custom={"late": 1.0}))])
    shares = [Share(custom={"late": 1.0})]
    with cluster(num_cpus=1) as started:
        with pytest.raises(Infeasible, match=r"no node has any late .* \(after 1 s of waiting for nodes\)"):
            RayLauncher(started.address, shares, 1.0).launch(source)
        assert not source.started
        with joining(started.address, late=1.0) as is_wanted:

            def looking() -> list[Node]:
                found = alive_nodes()
                is_wanted.set()  # so that the first look finds one node
                return found

            monkeypatch.setattr(launch_ray, "alive_nodes", looking)
            RayLauncher(started.address, shares, PATIENCE).launch(source)
    assert [result.state for result in source.results.values()] == [TrialState.COMPLETE]
    assert f"waiting up to {PATIENCE:g} s for nodes: a trial asks for 1 CPU, 1 late on one node" in caplog.text


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
        wait_until(lambda: is_listening(port), "a server for clients")
        arguments = ["run", str(spec), "--home", str(tmp_path / "runs"), "--address", f"ray://127.0.0.1:{port}"]
        program = [sys.executable, "-c", "import sys; from orchestrator.cli import main; main()", *arguments]
        done = subprocess.run(program, capture_output=True, text=True, timeout=5 * PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "Exception" not in done.stderr, done.stderr
    record = read_record(SweepPaths(tmp_path / "runs", "tiny"))
    assert [trial.result.state for trial in record.trials if trial.result] == [TrialState.COMPLETE] * 10


# A model that writes down what the process that builds it has.
PLUGIN = """
import json, os
from typing import Literal
import torch
import orchestrator, teleport_engine
from orchestrator.spec.options import Entry
from orchestrator.spec.options.models import MlpOptions
from orchestrator.trial.models import mlp

class TellingOptions(MlpOptions):
    name: Literal["telling"]

def build(options, *arguments):
    told = {
        "code": [orchestrator.__file__, teleport_engine.__file__],
        "threads": torch.get_num_threads(),
        "omp": int(os.environ["OMP_NUM_THREADS"]),
    }
    with open(os.environ["TOLD"], "a") as file:
        print(json.dumps(told), file=file)
    return mlp.build(options, *arguments)

MODELS = {"telling": Entry(TellingOptions, "telling:build")}
"""


@pytest.fixture
def telling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a sweep of few trials whose workers say what they have, in the file ``told``."""
    here = tmp_path / "elsewhere"
    here.mkdir()
    (here / "telling.py").write_text(PLUGIN)
    few = TINY.replace("name: mlp", "name: telling").replace("trials: 3", "trials: 1").replace("seeds: 2", "seeds: 1")
    (here / "tiny.yaml").write_text(few)
    monkeypatch.setenv("TOLD", str(here / "told"))
    # Workers inherit from their node what this process has: the code must not reach them this way.
    monkeypatch.delenv("PYTHONPATH", raising=False)
    # Ray gives its workers their threads by this variable only if their node does not have it.
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return here


def told_by(here: Path, path: Path, *options: str) -> list[dict[str, Any]]:
    """Run that sweep in a process of its own that has our code from ``path``; gives what the workers said."""
    patient = f"from orchestrator.launch import cluster; cluster.SECONDS_TO_ANSWER = {PATIENCE}"
    program = [sys.executable, "-c", f"{patient}; from orchestrator.cli import main; main()"]
    arguments = ["run", "tiny.yaml", "--plugin", "telling", *options]
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [*program, *arguments], capture_output=True, text=True, timeout=5 * PATIENCE, cwd=here, env=environment
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (here / "told").read_text().splitlines()]


@pytest.mark.slow
def test_the_code_of_a_plain_install_reaches_the_workers(telling: Path, tmp_path: Path) -> None:
    source, installed = tmp_path / "source", tmp_path / "installed"
    for name in ("orchestrator", "teleport_engine"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(installed), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True)
    with cluster(num_cpus=2) as started:
        told = told_by(telling, installed, "--address", started.address)
    assert len(told) == 4
    for each in told:
        assert all("/py_modules_files/_ray_pkg_" in file for file in each["code"]), each["code"]


@pytest.mark.slow
def test_a_worker_has_as_many_threads_as_it_was_given_cores(telling: Path) -> None:
    """Whatever the node has, and also where confirm is given more than the search."""
    shares = "resources={search: {cpu: 2}, confirm: {cpu: 3}}"
    with cluster(num_cpus=8) as started:
        told = told_by(telling, ROOT, "--address", started.address, "--set", shares)
    assert sorted((each["threads"], each["omp"]) for each in told) == [(2, 2), (2, 2), (3, 3), (3, 3)]


@pytest.mark.slow
def test_nodes_may_join_and_leave_while_a_sweep_runs() -> None:
    """It starts on one node, a second brings room for more, the first goes and its trial runs again on the second."""

    class Following(ListSource):
        """Changes the cluster under trials without an end, and ends each of them once a worker has been lost."""

        def __init__(self, configs: Sequence[TrialConfig], join: Callable[[], None], leave: Callable[[], None]) -> None:
            super().__init__([])
            self.waves = deque([deque(configs)])
            self.join, self.leaving = join, threading.Thread(target=leave)
            self.num_at_once = 0
            self.lost: set[str] = set()

        @property
        def is_exhausted(self) -> bool:
            return not any(self.waves) and not self.running

        def propose(self) -> TrialConfig | None:
            return super().propose() if any(self.waves) else None

        def on_started(self, config: TrialConfig) -> None:
            super().on_started(config)
            self.join()

        def on_history(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> bool:
            super().on_history(config, rows)
            # A trial that waits for a place runs too, but only one that has a worker has rows.
            self.num_at_once = max(self.num_at_once, len(self.running & self.rows.keys()))
            if self.num_at_once >= 4 and self.leaving.ident is None:
                self.leaving.start()
            if not self.lost:
                return True
            self.running.remove(config.trial_id)
            self.results[config.trial_id] = failed(config)
            return False

        def on_ended(self, config: TrialConfig, result: TrialResult) -> None:
            assert result.failure is not None
            assert result.failure.kind == "lost"
            self.lost.add(config.trial_id)
            self.running.remove(config.trial_id)
            self.waves[0].append(config)

    configs = [endless_config(lr=0.01 * (1 + index)) for index in range(8)]
    with cluster(num_cpus=0) as started, joining(started.address) as is_wanted:
        first = started.add_node(num_cpus=1, **SMALL)
        source = Following(configs, is_wanted.set, lambda: started.remove_node(first))
        RayLauncher(started.address, [Share()]).launch(source)
        source.leaving.join()
    assert source.num_at_once >= 4, "the second node was not made use of"
    assert source.results.keys() == {of.trial_id for of in configs}
    assert all(source.started.count(trial_id) == 2 for trial_id in source.lost)
