"""A sweep on a server that asks for a password: it is tracked, and the password stays where it was."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from orchestrator.cli.servers import mlflow_server
from orchestrator.track.address import Address
from orchestrator.track.destination import EXPERIMENT
from orchestrator.track.mlflow_store import open_client
from tests.orchestrator.specs import TINY
from tests.servers import answering
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

PASSWORD = f"hunter2-{secrets.token_hex(8)}"
LOGIN = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
# A busy machine may take longer to send everything than the tracker waits when a sweep ends.
MAIN = f"""
from orchestrator.cli import main
from orchestrator.track import MlflowTracker
MlflowTracker.__init__.__kwdefaults__["close_seconds"] = {PATIENCE}
main()
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with MLflow's own authentication, as ``teleport ui`` starts it."""
    store = f"sqlite:///{tmp_path_factory.mktemp('guarded')}/mlflow.db"
    open_client(Address.parse(store))
    server = mlflow_server(store, port=0, environment={**os.environ, "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD})
    with answering(server) as found:
        yield found


def _teleport(*arguments: str, login: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in LOGIN}
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONWARNINGS": "", **login},
        check=False,
        timeout=5 * PATIENCE,
    )


def _assert_kept(home: Path, *said: str) -> None:
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]
    assert PASSWORD not in "".join(said)


def _run(home: Path, uri: str, login: dict[str, str]) -> subprocess.CompletedProcess[str]:
    spec = home.parent / "tiny.yaml"
    spec.write_text(TINY, encoding="utf-8")
    where = ("--home", str(home), "--tracking-uri", uri, "--launcher", "inline")
    return _teleport("run", str(spec), "--set", "search.trials=1", "--set", "confirm.seeds=1", *where, login=login)


@pytest.mark.parametrize("way", ["environment", "uri"])
def test_a_sweep_is_tracked_and_its_password_lies_nowhere(
    way: Literal["environment", "uri"], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_uri = url.replace("://", f"://admin:{PASSWORD}@")
    uri, login = (url, LOGIN) if way == "environment" else (in_uri, {})
    home = tmp_path / "home"
    done = _run(home, uri, login)
    assert done.returncode == 0, (done.stdout, done.stderr)
    _assert_kept(home, done.stdout, done.stderr)
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    client = open_client(Address.parse(url))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    (sweep, *_) = client.search_runs([experiment.experiment_id], "tags.phase = 'sweep'")
    runs = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{sweep.info.run_id}'")
    assert [run.info.status for run in (sweep, *runs)] == ["FINISHED"] * 5
    assert PASSWORD not in repr([run.to_dictionary() for run in (sweep, *runs)])
    artifacts = {file.path for file in client.list_artifacts(sweep.info.run_id)}
    assert {"spec.yaml", "report", "record.tar.gz"} <= artifacts
    stored = Path(client.download_artifacts(sweep.info.run_id, "", str(tmp_path)))
    assert not [path for path in stored.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    here = tmp_path / "here"
    where = ("--home", str(here), "--tracking-uri", uri, "--run-id", sweep.info.run_id)
    fetched = _teleport("track", "fetch", "tiny", *where, login=login)
    assert (fetched.returncode, "4 trials" in fetched.stdout) == (0, True), fetched.stderr
    _assert_kept(here, fetched.stdout, fetched.stderr)
    wrong = _teleport("track", "fetch", "tiny", *where[:2], "--tracking-uri", url, login={})
    assert (wrong.returncode, "does not answer" in wrong.stderr) == (2, True), wrong.stderr


def test_a_wrong_password_is_told_before_anything_is_begun(url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    wrong = url.replace("://", f"://nobody:{PASSWORD}@")
    done = _run(home, wrong, {})
    assert (done.returncode, done.stdout, home.exists()) == (2, "", False), done.stderr
    assert f"error: --tracking-uri: {url.replace('://', '://***@')} does not know this user (401)" in done.stderr
    assert PASSWORD not in done.stderr


def test_a_sweep_goes_on_where_it_began_with_its_login_in_the_environment(url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = _run(home, url.replace("://", f"://admin:{PASSWORD}@"), {})
    assert done.returncode == 0, done.stderr
    assert f"MLflow: {url}/#/experiments/1/runs/" in done.stderr
    sync = ("track", "sync", "tiny", "--home", str(home))
    alone = _teleport(*sync, login={})
    assert (alone.returncode, "credentials are not kept with a sweep" in alone.stderr) == (2, True), alone.stderr
    late = _teleport(*sync, login=LOGIN)
    assert (late.returncode, late.stdout) == (0, "tiny: MLflow has every run\n"), late.stderr
    assert not (home / "mlflow.db").exists()
    _assert_kept(home, done.stdout, done.stderr, late.stdout, late.stderr)
