"""A tracking URI is read or refused, and nobody reads its password."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.track import MlflowTracker
from orchestrator.track.address import Address
from orchestrator.track.text import MAX_TAG, clean, clean_key, note, redact


def test_a_sqlite_file_is_made_absolute_and_its_artifacts_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    address = Address.parse("sqlite:///runs/mlflow.db")
    assert address.uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert address.artifact_root == tmp_path / "runs" / "mlartifacts"
    assert Address.parse(address.uri) == address


@pytest.mark.parametrize("uri", ["http://host:5000", "https://host/mlflow"])
def test_a_server_keeps_its_own_artifacts(uri: str) -> None:
    address = Address.parse(uri)
    assert (address.uri, address.is_database, address.artifact_root) == (uri, False, None)


def test_postgresql_goes_to_a_driver_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"psycopg2"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in installed else None)
    assert Address.parse("postgresql://me:secret@host/runs").uri == "postgresql+psycopg2://me:secret@host/runs"
    installed.add("psycopg")
    assert Address.parse("postgresql://host/runs").uri == "postgresql+psycopg://host/runs"
    installed.clear()
    assert Address.parse("postgresql+psycopg2://host/runs").uri == "postgresql+psycopg2://host/runs"
    with pytest.raises(UserError, match=re.escape("PostgreSQL needs a driver: pip install 'psycopg[binary]'")):
        Address.parse("postgresql://host/runs")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "'' is no store's address; give sqlite:///FILE"),
        ("./mlruns", "'./mlruns' is no store's address"),
        ("http://", "'http://' is no store's address"),
        ("file:///tmp/mlruns", "'file:///tmp/mlruns' is of an unknown kind"),
        ("mysql://me:hunter2@host/x", "'mysql://***@host/x' is of an unknown kind"),
        ("sqlite://", "'sqlite://' is no store's address"),
        ("sqlite:///", "'sqlite:///' names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_what_is_no_store_is_refused_before_anything_starts(uri: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        MlflowTracker(uri)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hunter2@host:5000/x",
        "https://me:hunter2@more@host",
        "https://me:'hunter2\"<@host",
        "postgresql://host/db?user=me&password=hunter2&sslmode=require",
        "MLFLOW_TRACKING_PASSWORD=hunter2 teleport run",
        "--token=hunter2",
    ],
)
def test_no_credential_survives(text: str) -> None:
    assert "hunter2" not in redact(f"before {text} after")
    assert redact(f"before {text} after").startswith("before ")
    assert redact(f"before {text} after").endswith(" after")


def test_text_without_credentials_stays_as_it_is() -> None:
    text = "see http://host/page, mail me@home, set lr=0.1"
    assert redact(text) == text


def test_any_text_is_made_storable() -> None:
    assert clean("a\0b\ud800") == "a\ufffdb?"
    long = clean("x" * 20_000)
    assert len(long) < MAX_TAG + 50
    assert long.endswith("… (20000 characters)")
    assert clean_key("layer:[0]\n✓") == "layer__0___"


def test_a_long_description_ends_after_a_whole_line() -> None:
    table = "| arm | verdict |\n|---|---|\n" + "| teleport | faster |\n" * 1_000
    shown = note(table)
    assert len(shown) <= MAX_TAG
    *lines, blank, rest = shown.splitlines()
    assert set(lines[2:]) == {"| teleport | faster |"}
    assert (blank, rest) == ("", "The rest is in the report, among the artifacts.")
    assert note("short\n") == "short\n"
    assert len(note("x" * 20_000)) <= MAX_TAG
