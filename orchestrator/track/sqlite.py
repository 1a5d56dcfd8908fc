"""Makes the tables of a SQLite store in a file beside it, and puts that in the store's place when it is whole.

MLflow makes them in the store's own file, in some forty steps that cannot all be repeated. A process that is killed
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

# A file that was written so recently may be one in which another program is making tables now.
SETTLED_SECONDS = 60.0
# The tables that have rows as soon as all tables are made.
_MADE_WITH_THE_TABLES = frozenset({"alembic_version", "workspaces", "sqlite_sequence"})


def prepare(address: Address) -> None:
    """Make the tables of a SQLite store that has none; a file that holds anything is left as it is.

    A file whose making was certainly cut off is replaced: one that lacks tables, holds nobody's rows, and has not
    been touched for a while. Stores of other kinds are left alone.
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
    """Tell whether a store has an experiment, which every store has as soon as its tables are whole."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is not None
    except sqlite3.Error:  # no file, no such table, or no database, of which those who use it will tell
        return False


def _is_settled(file: Path) -> bool:
    return time.time() - file.stat().st_mtime > SETTLED_SECONDS


def _is_empty(file: Path) -> bool:
    """Tell whether a database holds nobody's rows; opening it undoes what a dead writer had begun."""
    try:
        with closing(sqlite3.connect(file)) as connection:
            names = _names(connection) - _MADE_WITH_THE_TABLES
            filled = (connection.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone() for name in names)
            is_empty = not any(filled)
    except sqlite3.Error:
        return False
    # SQLite would play the journal of the old file back into the new one.
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
    """Let one process at a time make tables; the operating system drops the lock if it dies."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
