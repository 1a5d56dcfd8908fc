"""Files that are written whole or not at all, and read as the record that they are or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from orchestrator.errors import Fault, FileUnreadable

M = TypeVar("M", bound=BaseModel)

_PART = re.compile(r"\..+\.(?P<pid>[1-9]\d*)\.[0-9a-f]{8}")


def part_of(path: Path) -> Path:
    """Name a file beside another that is to replace it once it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


def left_parts(directory: Path) -> list[Path]:
    """List what writers that are no more, killed before a file was whole, have left.

    Args:
        directory: looked through with all that is below it.

    Returns:
        The parts, of this process too.
    """
    named = ((path, _PART.fullmatch(path.name)) for path in directory.rglob(".*"))
    return [path for path, match in named if match is not None and not _is_other_process(int(match["pid"]))]


def atomic_write(path: Path, content: str | bytes) -> None:
    """Replace a file in one step: a reader, or a crash, sees the old content or the new, never a part.

    Args:
        path: the file; its directory is made where it is missing.
        content: text is written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    # Not tempfile's: its files are for their owner alone, and a report is for colleagues.
    part = part_of(path)
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_record(model: type[M], path: Path) -> M:
    """Read a file of one record.

    Args:
        model: of the record.
        path: of the file.

    Returns:
        The record.

    Raises:
        FileUnreadable: the file holds none.
    """
    with naming(path):
        return model.model_validate_json(path.read_bytes())


def read_record_if_there(model: type[M], path: Path) -> M | None:
    """Read a file of one record; None where there is no file."""
    return read_record(model, path) if path.is_file() else None


def read_lines(model: type[M], path: Path) -> Iterator[M]:
    """Read a file of a record a line; a last line that was cut short is none.

    Args:
        model: of the records.
        path: of the file.

    Yields:
        The records.

    Raises:
        FileUnreadable: a line holds none.
    """
    with naming(path):
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield model.model_validate_json(line)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say of which file it is that what it holds is no record.

    Args:
        path: of the file.

    Yields:
        Nothing.

    Raises:
        FileUnreadable: it is damaged, or of another version.
    """
    try:
        yield
    except ValidationError as error:
        raise FileUnreadable(damage(path, _in_a_line(error))) from None


def damage(path: Path, reason: str) -> Fault:
    """Say of a file of a sweep that it cannot be read, and what to do.

    Args:
        path: of the file.
        reason: what is wrong with it, in a line.

    Returns:
        The fault.
    """
    return Fault(
        str(path),
        f"{reason}; it is damaged, or another version of teleport wrote it: put back a copy of it, go on with that "
        "version (provenance.json has it), or move the sweep's directory away and run it anew",
    )


def _in_a_line(error: ValidationError) -> str:
    """Say the first thing that is wrong, which says more than those that follow from it."""
    first, num_more = error.errors()[0], error.error_count() - 1
    place = ".".join(map(str, first["loc"]))
    value = "" if first["type"] in {"missing", "json_invalid"} else f", is {str(first['input'])[:60]!r}"
    more = f" (and {num_more} more)" if num_more else ""
    return f"{place}{': ' if place else ''}{first['msg'][:200]}{value}{more}"


def _is_other_process(pid: int) -> bool:
    """Tell whether a process lives that is not this one: a report may be written while nobody holds the sweep."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
