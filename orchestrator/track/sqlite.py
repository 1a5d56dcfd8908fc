"""The tables of a SQLite store: made beside it and put in its place whole.

MLflow makes them in the file itself, in some forty steps of which not each can be repeated. A process that is killed
meanwhile leaves a file that MLflow can neither use nor finish.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from orchestrator.track.address import Address

# An older version, or a server of MLflow's own, may be making tables in the file right now.
SETTLED_SECONDS = 60.0
# Filled while the tables are made.
_MADE_WITH_THE_TABLES = frozenset({"alembic_version", "workspaces", "sqlite_sequence"})


def prepare(address: Address) -> None:
    """Give a SQLite store its tables where it has none; a file that holds anything is left as it is.

    A file whose making was cut off is replaced where that is certain: it lacks tables, holds no row of anyone's, and
    nobody has touched it for a while.

    Args:
        address: of any store; one that is no file has its own ways.
    """
    file = address.file
    if file is None or is_used(file):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with _alone(file.parent):
        if file.exists() and (is_used(file) or not _is_settled(file) or not _is_empty(file)):
            return
        part = file.with_name(f".{file.name}.new")
        _remove(part)
        try:
            _make(part, address)
            if not file.exists() or _tables(file) < _tables(part):
                os.replace(part, file)
        finally:
            _remove(part)


def is_used(file: Path) -> bool:
    """Tell whether a store has an experiment, as each has from the moment that its tables are whole."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is not None
    except sqlite3.Error:  # no file, no such table, or nothing that is a database: those who use it will say
        return False


def _is_settled(file: Path) -> bool:
    return time.time() - file.stat().st_mtime > SETTLED_SECONDS


def _is_empty(file: Path) -> bool:
    """Tell whether a database holds no row of anyone's; first it takes back what a dead writer had begun."""
    try:
        with closing(sqlite3.connect(file)) as connection:
            names = _names(connection) - _MADE_WITH_THE_TABLES
            filled = (connection.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone() for name in names)
            is_empty = not any(filled)
    except sqlite3.Error:
        return False
    # The journal of another file would be played back into the new one.
    return is_empty and not any(side.exists() for side in _sides(file))


def _tables(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as connection:
        return _names(connection)


def _names(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _make(part: Path, address: Address) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    assert address.artifact_root is not None
    store = SqlAlchemyStore(f"sqlite:///{part}", address.artifact_root.as_uri())  # type: ignore[no-untyped-call]
    store.engine.dispose()


def _remove(part: Path) -> None:
    for file in (part, *_sides(part)):
        file.unlink(missing_ok=True)


def _sides(file: Path) -> list[Path]:
    return [file.with_name(f"{file.name}{end}") for end in ("-journal", "-wal", "-shm")]


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let one process of this program at a time make tables; its death lets go of the directory."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
