"""Who may reach the live page, and how its server is started."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from orchestrator.cli import exit_code
from orchestrator.cli.servers import DASHBOARD_PASSWORD as PASSWORD
from orchestrator.cli.servers import Server, dashboard_server
from orchestrator.errors import UserError

UI = "http://127.0.0.1:5000"


def server(
    home: Path, host: str = "127.0.0.1", port: int = 0, uri: str = "sqlite:////h/mlflow.db", password: str = ""
) -> Server:
    return dashboard_server(home, uri, UI, host=host, port=port, environment={PASSWORD: password})


def test_it_listens_on_this_machine_alone_and_answers_to_its_own_names(tmp_path: Path) -> None:
    made = server(tmp_path)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", made.url)
    assert made.arguments[3:5] == ("--server.address", "127.0.0.1")
    assert {"--server.allowedHosts=localhost", "--server.allowedHosts=127.0.0.1"} <= set(made.arguments)
    assert made.environment["TELEPORT_HOME"] == str(tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_another_host_needs_a_password(host: str, tmp_path: Path) -> None:
    message = (
        r"without a password anyone there could read every sweep; set TELEPORT_DASHBOARD_PASSWORD, .* ssh -L 8501:"
    )
    with pytest.raises(UserError, match=message):
        server(tmp_path, host, 8501)


def test_with_a_password_it_may_and_says_what_that_is_worth(tmp_path: Path) -> None:
    made = server(tmp_path, "0.0.0.0", password="hunter2")
    assert not [word for word in made.arguments if "hunter2" in word or "allowedHosts" in word]
    assert made.environment[PASSWORD] == "hunter2"
    assert "TLS" in made.notes[0]


def test_a_port_that_is_taken_is_replaced_with_a_word(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        made = server(tmp_path, port=taken)
    assert made.notes == (f"port {taken} is taken, so it listens on {made.url.rpartition(':')[2]}",)


def test_credentials_of_the_store_are_in_the_environment_alone(tmp_path: Path) -> None:
    made = server(tmp_path, uri="http://me:hunter2@host:5000")
    assert not [word for word in made.arguments if "hunter2" in word]
    assert made.environment["MLFLOW_TRACKING_URI"] == "http://me:hunter2@host:5000"


def test_a_missing_package_is_told_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert exit_code(["dashboard", "--home", str(tmp_path)]) == 2
    assert "the dashboard needs streamlit: pip install 'teleport[dashboard]'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["ui", "dashboard"])
def test_an_open_host_is_refused_by_the_command(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (PASSWORD, "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    assert exit_code([command, "--home", str(tmp_path), "--host", "0.0.0.0"]) == 2
    assert "can be reached from other machines" in capsys.readouterr().err
