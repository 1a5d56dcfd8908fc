"""Runs the tracker's contract on a SQLite file, a PostgreSQL database and an MLflow server."""

from __future__ import annotations

import shutil
import urllib.request
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cli.servers import mlflow_server
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.track import MlflowTracker, Tracker
from orchestrator.track.address import Address
from orchestrator.track.destination import EXPERIMENT
from orchestrator.track.mlflow_store import PARENT, open_client
from orchestrator.track.projection import SWEEP_ID, TRIAL_ID, sweep_id
from tests.orchestrator.chaos.store import database
from tests.orchestrator.track.contract import TrackerContract
from tests.orchestrator.track.stories import Seen, on_file, trial_runs
from tests.servers import answering
from tests.waiting import PATIENCE, wait_until


class MlflowContract(TrackerContract):
    """How any MLflow store is read back."""

    @property
    @abstractmethod
    def uri(self) -> str: ...

    def tracker(self) -> Tracker:
        return MlflowTracker(self.uri, close_seconds=PATIENCE)

    def wait_for_running(self, paths: SweepPaths, num_trials: int) -> None:
        def are_shown() -> bool:
            runs = trial_runs(self.seen(paths)) if self._has_experiment() else {}
            running = [run for run in runs.values() if run.status == "RUNNING"]
            return len(running) == num_trials and all(
                len(run.curves.get("epoch", ())) == paths.count_rows(str(run.trial_id)) for run in running
            )

        wait_until(are_shown, "a store that shows the running trials")

    def seen(self, paths: SweepPaths) -> list[Seen]:
        record = read_record(paths, with_history=False)
        client = open_client(Address.parse(self.uri))
        zero = round(record.provenance.started_at * 1000)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        found = []
        runs = client.search_runs([experiment.experiment_id], f"tags.`{SWEEP_ID}` = '{sweep_id(record)}'")
        names = {run.info.run_id: run.info.run_name for run in runs}
        for run in runs:
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
            inputs = run.inputs.dataset_inputs if run.inputs else []
            data = [(each.dataset.name, each.dataset.digest) for each in inputs]
            parent = names.get(run.data.tags.get(PARENT, ""), "")
            params = dict(run.data.params)
            found.append(Seen(run.info.run_name, trial_id, run.info.status, params, tags, curves, files, data, parent))
        return found

    def delete_sweep_run(self, paths: SweepPaths) -> None:
        record = read_record(paths, with_history=False)
        client = open_client(Address.parse(self.uri))
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        where = f"tags.`{SWEEP_ID}` = '{sweep_id(record)}' AND tags.phase = 'sweep'"
        (run,) = client.search_runs([experiment.experiment_id], where)
        client.delete_run(run.info.run_id)

    def _has_experiment(self) -> bool:
        return open_client(Address.parse(self.uri)).get_experiment_by_name(EXPERIMENT) is not None


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
        tracker = self.follow(on_file(self.home))
        assert tracker.close("FINISHED", artifacts=[tmp_path / "spec.yaml"]) == 0
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
        with urllib.request.urlopen(self.uri, timeout=PATIENCE) as answer:
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
