"""A sweep's runs go where the user says, and later where they went before."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.options import DEFAULT_HOME
from orchestrator.errors import UserError
from orchestrator.home import SweepPaths, Tracking, paths
from orchestrator.track.destination import Destination, destination, store_of, to_remember

HOME = Path("/home/runs")
SERVER = "https://me:hunter2@host/mlflow"
OTHER = {"MLFLOW_TRACKING_URI": "http://other:5000", "MLFLOW_EXPERIMENT_NAME": "others"}


def test_what_is_given_goes_before_what_is_remembered_before_the_environment_before_the_usual() -> None:
    stored = Tracking(uri="https://host/mlflow", experiment="mine")
    assert destination(HOME, None, None, environment={}) == Destination("sqlite:////home/runs/mlflow.db", "teleport")
    assert destination(HOME, None, None, environment=OTHER) == Destination("http://other:5000", "others")
    assert destination(HOME, None, None, stored, OTHER) == Destination("https://host/mlflow", "mine")
    assert destination(HOME, "http://new", "new", stored, OTHER) == Destination("http://new", "new")


def test_the_homes_own_store_is_remembered_as_that_so_that_a_home_can_be_moved() -> None:
    kept = to_remember(Destination(store_of(HOME)), HOME)
    assert kept == Tracking(uri="", experiment="teleport")
    assert destination(Path("/moved"), None, None, kept, OTHER).uri == "sqlite:////moved/mlflow.db"


@pytest.mark.parametrize("uri", [SERVER, "postgresql://me:hunter2@host/db", "https://host/?token=hunter2"])
def test_credentials_are_not_kept_and_are_asked_for_again(uri: str) -> None:
    kept = to_remember(Destination(uri), HOME)
    assert "hunter2" not in kept.model_dump_json()
    with pytest.raises(UserError, match="credentials are not kept with a sweep; give its address again") as caught:
        destination(HOME, None, None, kept, OTHER)
    assert "hunter2" not in str(caught.value)
    assert destination(HOME, None, None, kept, {"MLFLOW_TRACKING_URI": uri}).uri == uri
    assert destination(HOME, uri, None, kept, {}).uri == uri


def test_a_server_may_be_told_who_it_is_by_the_environment() -> None:
    kept = to_remember(Destination(SERVER), HOME)
    assert destination(HOME, None, None, kept, {"MLFLOW_TRACKING_USERNAME": "me"}).uri == "https://host/mlflow"


@pytest.mark.parametrize("name", ["", "  ", "x" * 257])
def test_an_experiment_without_a_usable_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^--experiment: a name has 1 to 256 characters, is '"):
        destination(HOME, None, name, environment={"MLFLOW_EXPERIMENT_NAME": name})


def test_a_sweep_says_how_a_command_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert DEFAULT_HOME == paths.DEFAULT_HOME
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TELEPORT_HOME", raising=False)
    assert SweepPaths(Path("runs"), "night").arguments == "night"
    assert SweepPaths(tmp_path / "a b", "night").arguments == f"night --home '{tmp_path}/a b'"
    monkeypatch.setenv("TELEPORT_HOME", str(tmp_path / "a b"))
    assert SweepPaths(tmp_path / "a b", "night").arguments == "night"
    assert SweepPaths(Path("runs"), "night").arguments == f"night --home {tmp_path}/runs"
