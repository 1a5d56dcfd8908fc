"""Who may reach the MLflow page, and that it opens on the home's store."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from orchestrator.cli.servers import is_loopback, mlflow_server
from orchestrator.errors import UserError

PASSWORD = {"MLFLOW_AUTH_ADMIN_PASSWORD": "hunter2-hunter2"}


def test_it_serves_the_home_and_shows_no_address_on_its_command_line(tmp_path: Path) -> None:
    server = mlflow_server(f"sqlite:///{tmp_path}/mlflow.db", port=0, environment={"HOME": "/h"})
    assert server.directory == tmp_path
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.url)
    assert not [word for word in server.arguments if "mlflow.db" in word], "every user of the machine can read it"
    assert server.environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert server.environment["HOME"] == "/h"
    assert f"file://{tmp_path}/mlartifacts" in server.arguments
    assert "basic-auth" not in server.arguments


def test_a_port_that_is_taken_is_replaced_with_a_word(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        server = mlflow_server(f"sqlite:///{tmp_path}/mlflow.db", port=taken)
    port = int(server.url.rsplit(":", 1)[1])
    assert port != taken
    assert server.notes == (f"port {taken} is taken, so it listens on {port}",)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_another_host_needs_authentication(host: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can be reached from other machines, and without authentication anyone"):
        mlflow_server(f"sqlite:///{tmp_path}/mlflow.db", host=host, environment={})


def test_with_a_password_it_asks_everyone_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    server = mlflow_server(f"sqlite:///{tmp_path}/mlflow.db", host="0.0.0.0", port=0, environment=PASSWORD)
    assert "basic-auth" in server.arguments
    assert not [word for word in server.arguments if "hunter2" in word]
    assert len(server.environment["MLFLOW_FLASK_SERVER_SECRET_KEY"]) == 64
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in server.notes[0]


def test_authentication_that_cannot_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("pip install 'mlflow[auth]'")):
        mlflow_server(f"sqlite:///{tmp_path}/mlflow.db", environment=PASSWORD)


def test_a_server_has_a_page_already() -> None:
    with pytest.raises(UserError, match=re.escape("http://***@host:5000 is a server already; open it in a browser")):
        mlflow_server("http://me:hunter2@host:5000")


def test_an_address_that_is_not_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(UserError, match=r"--host: cannot listen on '192\.0\.2\.1'"):
        mlflow_server(f"sqlite:///{tmp_path}/mlflow.db", host="192.0.2.1", port=0, environment=PASSWORD)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_only_this_machine_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
