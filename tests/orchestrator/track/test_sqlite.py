"""A SQLite store has all its tables as soon as it is there, even if a process dies or two come at once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.track import sqlite as tables
from orchestrator.track.address import Address
from orchestrator.track.destination import EXPERIMENT
from orchestrator.track.mlflow_store import MlflowStore, open_client
from orchestrator.track.sqlite import SETTLED_SECONDS, is_used, prepare
from orchestrator.track.store import Unreachable
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[3]
LONG_AGO = time.time() - 2 * SETTLED_SECONDS


def address_of(file: Path) -> Address:
    return Address.parse(f"sqlite:///{file}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("whole") / "deep" / "mlflow.db"
    prepare(address_of(file))
    return file


def execute(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mlflow.db"


@pytest.fixture
def copied(whole: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Making tables takes seconds, so a copy of whole ones is taken; lists what was made."""
    made: list[Path] = []

    def copy(part: Path, address: Address) -> None:
        part.write_bytes(whole.read_bytes())
        made.append(part)

    monkeypatch.setattr(tables, "_make", copy)
    return made


def half_made(file: Path) -> None:
    """As a killed process leaves it: some tables, of which MLflow makes the next again."""
    execute(
        file,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
        "INSERT INTO alembic_version VALUES ('451aebb31d03')",
        "CREATE TABLE experiments (experiment_id INTEGER)",
        "CREATE TABLE runs (run_uuid VARCHAR(32))",
    )
    os.utime(file, (LONG_AGO, LONG_AGO))


def test_a_store_has_its_tables_and_nothing_lies_beside_it(whole: Path) -> None:
    assert is_used(whole)
    assert [path.name for path in whole.parent.iterdir()] == ["mlflow.db"]


def test_what_a_dead_process_had_begun_is_begun_anew(file: Path, copied: list[Path]) -> None:
    part = file.with_name(f".{file.name}.new")
    part.write_bytes(b"half")
    part.with_name(f"{part.name}-journal").write_bytes(b"half")
    prepare(address_of(file))
    assert is_used(file)
    assert os.listdir(file.parent) == ["mlflow.db"]


def test_a_store_in_use_is_left_alone_without_a_lock(file: Path, whole: Path, copied: list[Path]) -> None:
    file.write_bytes(whole.read_bytes())
    prepare(address_of(file))
    assert copied == []


def test_a_half_made_store_heals(file: Path, copied: list[Path]) -> None:
    half_made(file)
    prepare(address_of(file))
    assert is_used(file)


def with_a_run(file: Path) -> None:
    half_made(file)
    execute(file, "INSERT INTO runs VALUES ('1')")
    os.utime(file, (LONG_AGO, LONG_AGO))


def being_made(file: Path) -> None:
    half_made(file)
    os.utime(file)


def of_something_else(file: Path) -> None:
    file.write_text("no database")
    os.utime(file, (LONG_AGO, LONG_AGO))


def whole_and_empty(file: Path) -> None:
    prepare(address_of(file))
    execute(file, "DELETE FROM experiments")
    os.utime(file, (LONG_AGO, LONG_AGO))


@pytest.mark.parametrize("make", [with_a_run, being_made, of_something_else, whole_and_empty])
def test_a_file_that_may_be_of_use_to_anyone_is_left_alone(
    file: Path, copied: list[Path], make: Callable[[Path], None]
) -> None:
    make(file)
    before = file.stat().st_ino, file.read_bytes()
    prepare(address_of(file))
    assert (file.stat().st_ino, file.read_bytes()) == before


@pytest.mark.filterwarnings("ignore:Unnamed CHECK constraint")  # of alembic, before it fails
def test_a_half_made_store_with_something_in_it_says_what_to_do(file: Path, whole: Path) -> None:
    """As an upgrade leaves it that was killed."""
    file.write_bytes(whole.read_bytes())
    execute(file, "UPDATE alembic_version SET version_num = '451aebb31d03'", "DROP TABLE trace_tags")
    with pytest.raises(Unreachable, match=r"mlflow\.db: a program that .* was killed; move the file away"):
        open_client(address_of(file))
    with pytest.raises(Unreachable, match="move the file away"):
        MlflowStore(address_of(file)).num_runs()


RACE = """
import sys
from orchestrator.track.address import Address
from orchestrator.track.mlflow_store import open_client
client = open_client(Address.parse(sys.argv[1]))
client.create_experiment(sys.argv[2])
"""


@pytest.mark.slow
def test_two_that_come_at_once_share_one_store(file: Path) -> None:
    uri = f"sqlite:///{file}"
    both = [subprocess.Popen([sys.executable, "-c", RACE, uri, name], cwd=ROOT) for name in ("one", "two")]
    assert [process.wait(5 * PATIENCE) for process in both] == [0, 0]
    names = {experiment.name for experiment in open_client(Address.parse(uri)).search_experiments()}
    assert names == {"Default", "one", "two"}
    assert EXPERIMENT not in names
