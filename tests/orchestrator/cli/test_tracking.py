"""A sweep's runs in MLflow from the command line: which experiment, which store later on, which page is opened."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.cli import exit_code, run
from orchestrator.cli.servers import _page_in
from orchestrator.home import SweepPaths
from orchestrator.track import Destination, MlflowTracker
from orchestrator.track.address import Address
from orchestrator.track.mlflow_store import PARENT, open_client
from tests.orchestrator.specs import TINY
from tests.orchestrator.track.stories import ended, on_file
from tests.waiting import PATIENCE

FEW = ["--launcher", "inline", "--set", "search.trials=1", "--set", "confirm={seeds: 1, grid: none}"]
RESTORED = "experiment 'mine' had been deleted in"


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "TELEPORT_HOME"):
        monkeypatch.delenv(name, raising=False)
    defaults = MlflowTracker.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "close_seconds", PATIENCE)  # a busy machine takes longer
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.mark.slow
def test_every_command_goes_on_where_the_sweep_began(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, uri = tmp_path / "home", f"sqlite:///{tmp_path}/elsewhere.db"
    client = open_client(Address.parse(uri))
    experiment_id = client.create_experiment("mine", artifact_location=(tmp_path / "artifacts").as_uri())
    client.delete_experiment(experiment_id)
    where = ["--tracking-uri", uri, "--experiment", "mine"]
    assert exit_code(["run", str(spec), "--home", str(home), *where, *FEW]) == 0
    err, log = capsys.readouterr().err, (home / "tiny" / "log.txt").read_text()
    assert f"MLflow: teleport ui tiny --home {home}" in err
    assert [text.count(RESTORED) for text in (err, log)] == [1, 1]

    def names() -> list[str]:
        runs = client.search_runs([experiment_id])
        parents = {run.info.run_id for run in runs if PARENT not in run.data.tags}
        assert len(parents) == 1
        assert {run.data.tags[PARENT] for run in runs if PARENT in run.data.tags} == parents
        return sorted(run.info.run_name for run in runs)

    shown = names()
    assert len(shown) == 5
    client.delete_experiment(experiment_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "others")
    for command in (["track", "sync", "tiny"], ["track", "sync"], ["resume", "tiny", "--launcher", "inline"]):
        assert exit_code([*command, "--home", str(home)]) == 0
        assert names() == shown
        said = capsys.readouterr()
        assert (RESTORED in said.err) == (command == ["track", "sync", "tiny"]), command
    assert not (home / "mlflow.db").exists()
    assert [each.name for each in client.search_experiments()] == ["mine", "Default"]
    assert exit_code(["delete", "tiny", "--home", str(home), "--mlflow", "--yes"]) == 0
    assert "and 5 runs from MLflow" in capsys.readouterr().out


@pytest.mark.slow
def test_all_sweeps_of_a_home_are_sent_and_one_that_cannot_be_read_does_not_hide_the_others(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = on_file(tmp_path, ended(0)).home
    (home / "old").mkdir()
    (home / "old" / "spec.yaml").write_text("version: 1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "others")
    assert exit_code(["track", "sync", "--home", str(home)]) == 1
    said = capsys.readouterr()
    assert "warning: old: " in said.err
    assert said.out == "tiny: MLflow has every run\n"
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("others")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 2


@pytest.mark.slow
def test_the_link_opens_the_sweeps_own_run_or_else_the_runs_of_the_experiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = on_file(tmp_path, ended(0))
    at = Destination(f"sqlite:///{tmp_path}/mlflow.db", "mine")
    open_client(Address.parse(at.uri))
    page = "http://127.0.0.1:5000"
    assert _page_in(page, at, paths) == page
    assert "`teleport track sync tiny` sends it" in capsys.readouterr().err
    assert MlflowTracker(at.uri, experiment="mine").sync(paths, "FINISHED") == 0
    client = MlflowClient(at.uri)
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    (own,) = client.search_runs([experiment.experiment_id], "tags.phase = 'sweep'")
    runs = f"{page}/#/experiments/{experiment.experiment_id}/runs"
    assert _page_in(page, at, paths) == f"{runs}/{own.info.run_id}"
    assert _page_in(page, at, None) == runs
    assert run._where_shown(paths, at) == f"teleport ui {SweepPaths(paths.home, 'tiny').arguments}"
