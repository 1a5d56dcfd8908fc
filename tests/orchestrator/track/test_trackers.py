"""The contract, against memory, a SQLite file, a PostgreSQL database and an MLflow server over HTTP."""

from __future__ import annotations

import shutil
import time
import urllib.request
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cli.servers import mlflow_server
from orchestrator.home.records import SweepRecord
from orchestrator.track import MemoryTracker, MlflowTracker, Tracker
from orchestrator.track.address import Address
from orchestrator.track.memory import Key, Run
from orchestrator.track.mlflow_store import EXPERIMENT, open_client
from orchestrator.track.projection import SWEEP_ID, TRIAL_ID, sweep_id
from tests.orchestrator.chaos.store import database
from tests.orchestrator.track.contract import TrackerContract
from tests.orchestrator.track.stories import Seen, ended, new_record, sweep_run, tell, trial_runs
from tests.servers import PATIENCE, answering


class TestMemory(TrackerContract):
    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.runs: dict[Key, Run] = {}

    def tracker(self) -> Tracker:
        return MemoryTracker(self.runs)

    def wait_for_running(self, record: SweepRecord, num_trials: int) -> None:
        assert sum(run.status == "RUNNING" for run in self.runs.values()) == num_trials + 1

    def seen(self, record: SweepRecord) -> list[Seen]:
        zero = round(record.provenance.started_at * 1000)
        found = []
        for (owner, trial_id), run in self.runs.items():
            if owner != sweep_id(record):
                continue
            curves = defaultdict(list)
            for point in sorted(run.points, key=lambda point: (point.key, point.step, point.timestamp)):
                curves[point.key].append((point.step, point.value, point.timestamp - zero))
            found.append(Seen(run.name, trial_id, run.status, run.params, run.tags, dict(curves), run.artifacts))
        return found


class MlflowContract(TrackerContract):
    """How any MLflow store is read back."""

    @property
    @abstractmethod
    def uri(self) -> str: ...

    def tracker(self) -> Tracker:
        return MlflowTracker(self.uri, close_seconds=PATIENCE)

    def wait_for_running(self, record: SweepRecord, num_trials: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            runs = trial_runs(self.seen(record)) if self._has_experiment() else {}
            running = [run for run in runs.values() if run.status == "RUNNING" and "train_loss" in run.curves]
            if len(running) == num_trials:
                return
            time.sleep(0.1)
        raise AssertionError("the store never showed the running trials")

    def seen(self, record: SweepRecord) -> list[Seen]:
        client = open_client(Address.parse(self.uri))
        zero = round(record.provenance.started_at * 1000)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        found = []
        for run in client.search_runs([experiment.experiment_id], f"tags.`{SWEEP_ID}` = '{sweep_id(record)}'"):
            curves = {
                key: [
                    (point.step, point.value, point.timestamp - zero)
                    for point in client.get_metric_history(run.info.run_id, key)
                ]
                for key in run.data.metrics
            }
            trial_id = run.data.tags.get(TRIAL_ID)
            files = [file.path for file in client.list_artifacts(run.info.run_id)] if trial_id is None else []
            tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.runName"}
            found.append(Seen(run.info.run_name, trial_id, run.info.status, dict(run.data.params), tags, curves, files))
        return found

    def _has_experiment(self) -> bool:
        return open_client(Address.parse(self.uri)).get_experiment_by_name(EXPERIMENT) is not None

    def test_it_shows_what_a_tracker_in_memory_shows(self) -> None:
        record, trials = new_record(), [ended(0), ended(1, fails=True), ended(2, seeds=(0, 1))]
        memory = TestMemory()
        memory.runs = {}
        for tracker in (memory.tracker(), self.tracker()):
            tracker.begin_sweep(record)
            tell(tracker, trials)
            tracker.end_sweep("FINISHED", description="done")
            assert tracker.close() == 0
        here, there = self.seen(record), memory.seen(record)
        ours, theirs = trial_runs(here), trial_runs(there)
        for trial in trials:
            one, other = ours[trial.trial_id], theirs[trial.trial_id]
            one.tags.pop("mlflow.parentRunId")
            assert one == other
        assert sweep_run(here) == sweep_run(there)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with its tables: making them takes seconds, so it is done once and copied."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    open_client(Address.parse(f"sqlite:///{file}"))
    return file


class TestSqlite(MlflowContract):
    @pytest.fixture(autouse=True)
    def _store(self, empty_store: Path, tmp_path: Path) -> None:
        self.file = tmp_path / "home" / "mlflow.db"
        self.file.parent.mkdir()
        shutil.copy(empty_store, self.file)

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.file}"

    def test_artifacts_lie_beside_the_store(self, tmp_path: Path) -> None:
        (tmp_path / "spec.yaml").write_text("version: 1", encoding="utf-8")
        tracker = self.tracker()
        tracker.begin_sweep(new_record())
        tracker.end_sweep("FINISHED", artifacts=[tmp_path / "spec.yaml"])
        assert tracker.close() == 0
        (stored,) = (self.file.parent / "mlartifacts").rglob("spec.yaml")
        assert stored.read_text(encoding="utf-8") == "version: 1"


@pytest.fixture(scope="module")
def server_uri(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on a free port, as ``teleport ui`` starts it."""
    home = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, home / "mlflow.db")
    with answering(mlflow_server(f"sqlite:///{home / 'mlflow.db'}", port=0)) as url:
        yield url


@pytest.mark.slow
class TestServer(MlflowContract):
    @pytest.fixture(autouse=True)
    def _store(self, server_uri: str) -> None:
        self.address = server_uri

    @property
    def uri(self) -> str:
        return self.address

    def test_its_page_opens(self) -> None:
        with urllib.request.urlopen(self.uri, timeout=30) as answer:
            assert b"<title>MLflow</title>" in answer.read()


@pytest.fixture(scope="module")
def postgres_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL server of its own; the first client makes its tables."""
    root = tmp_path_factory.mktemp("postgres")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(root))  # pgserver warns where a container has none
        with database("postgresql", root) as uri:
            yield uri


@pytest.mark.slow
class TestPostgres(MlflowContract):
    @pytest.fixture(autouse=True)
    def _store(self, postgres_uri: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.address = postgres_uri
        # An experiment keeps the place of its artifacts, so all tests on this database share one.
        self.artifacts = tmp_path_factory.getbasetemp() / "postgres-artifacts"

    @property
    def uri(self) -> str:
        return self.address

    def tracker(self) -> Tracker:
        return MlflowTracker(self.uri, artifact_root=self.artifacts, close_seconds=PATIENCE)
