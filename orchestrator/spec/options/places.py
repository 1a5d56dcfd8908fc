"""Finds where data may lie on this machine: where the user said, else in the usual directories."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from orchestrator.errors import DataCorrupt, DataNotFound, Fault

DATA_ROOT_VARIABLE = "TELEPORT_DATA"
CACHE_VARIABLE = "TELEPORT_CACHE"


def data_root(root: str | None = None) -> tuple[Path | None, str]:
    """Return the directory that the user named, or None, and where; ``root`` is the spec's ``data.root``."""
    if root is not None:
        return Path(root).expanduser(), "data.root"
    named = os.environ.get(DATA_ROOT_VARIABLE)
    return (Path(named).expanduser(), f"${DATA_ROOT_VARIABLE}") if named else (None, "")


def cache_root() -> Path:
    """Return where this user's copies go: ``$TELEPORT_CACHE``, else ``teleport`` in the cache directory."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "teleport"


def download_root(root: str | None = None) -> Path:
    """Return where a download goes and is found again: the named root, else the user's cache; it may not exist."""
    named, _ = data_root(root)
    return named if named is not None else cache_root() / "data"


def text_path(file: str, root: str | None = None) -> Path:
    """Return where a text of the user's lies, which is ``ROOT/text/FILE.txt``; it may not exist."""
    return download_root(root) / "text" / f"{file}.txt"


def read_text(path: Path) -> str:
    """Read a UTF-8 file as it is, line ends included.

    Raises:
        DataNotFound: it is not there.
        DataCorrupt: it is not UTF-8, or cannot be read.
    """
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise DataNotFound(f"text: {missing_text(path)}") from None
    except UnicodeDecodeError as error:
        message = f"expected UTF-8, found byte {error.object[error.start]:#04x} at {error.start}; save it as UTF-8"
        raise DataCorrupt(Fault(str(path), message)) from None
    except OSError as error:
        message = f"expected a text file and cannot read this one ({error.strerror or error}); put a UTF-8 text there"
        raise DataCorrupt(Fault(str(path), message)) from error


def missing_text(path: Path) -> str:
    """Say that a text is not there, and what to do."""
    embedded = "leave `file` out for the embedded text"
    return f"{path} does not exist; put a UTF-8 text there, name its directory's parent as data.root, or {embedded}"


def num_characters(path: Path) -> int:
    """Count the code points of a UTF-8 file, which is read again only after it has changed."""
    status = path.stat() if path.exists() else None
    return _num_characters(path, None if status is None else (status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=16)
def _num_characters(path: Path, state: tuple[int, int] | None) -> int:
    return len(read_text(path))
