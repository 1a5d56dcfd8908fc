"""Writes a file whole or not at all, and reads a file as a record or says why it cannot be one."""

from __future__ import annotations

import hashlib
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
    """Name a new file beside a path, which replaces the path once it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")


def left_parts(directory: Path, *, deep: bool = True) -> list[Path]:
    """List the unfinished files below a directory whose writer is dead, or is this process; or right in it alone."""
    found = directory.rglob(".*") if deep else directory.glob(".*")
    named = ((path, _PART.fullmatch(path.name)) for path in found)
    return [path for path, match in named if match is not None and not _is_other_process(int(match["pid"]))]


def atomic_write(path: Path, content: str | bytes) -> None:
    """Replace a file in one step, so that neither a reader nor a crash ever meets a part of it.

    Missing directories are made, and text is written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    # The files of tempfile are readable for their owner alone, and colleagues have to read a report.
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


def digest_of(content: bytes) -> str:
    """Hash a file's content by SHA-256, as the index has it."""
    return hashlib.sha256(content).hexdigest()


def content_of(path: Path) -> bytes:
    """Read a regular file; anything else of that name is refused, since a pipe would be waited for.

    Raises:
        FileUnreadable: the file is gone, or there is a directory, a pipe or a device.
    """
    if not path.exists():
        raise FileUnreadable(damage(path, "is gone"))
    if not path.is_file():
        raise FileUnreadable(
            Fault(str(path), "must be a regular file, is a directory, a pipe or a device; move it away")
        )
    return path.read_bytes()


def read_record(model: type[M], path: Path) -> M:
    """Read a file that holds one record.

    Raises:
        FileUnreadable: the file does not hold such a record.
    """
    with naming(path):
        return model.model_validate_json(content_of(path))


def read_record_if_there(model: type[M], path: Path) -> M | None:
    """Read a file that holds one record, or return None if there is no file."""
    return read_record(model, path) if path.exists() else None


def read_lines(model: type[M], path: Path) -> Iterator[M]:
    """Read a file that holds one record on each line; a last line without an end is left out.

    Raises:
        FileUnreadable: a line does not hold such a record.
    """
    with naming(path):
        for line in content_of(path).splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield model.model_validate_json(line)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in the error where a record that is read from it does not validate.

    Raises:
        FileUnreadable: the file is damaged, or another version wrote it.
    """
    try:
        yield
    except ValidationError as error:
        raise FileUnreadable(damage(path, _in_a_line(error))) from None


def damage(path: Path, reason: str) -> Fault:
    """Make the fault of a sweep's file that cannot be read, with the reason in one line and what to do."""
    return Fault(
        str(path),
        f"{reason}; it is damaged, or another version of teleport wrote it: put back a copy of it, go on with that "
        "version (provenance.json has it), or move the sweep's directory away and run it anew",
    )


def _in_a_line(error: ValidationError) -> str:
    """Describe the first fault in one line, since later ones often follow from it."""
    first, num_more = error.errors()[0], error.error_count() - 1
    place = ".".join(map(str, first["loc"]))
    value = "" if first["type"] in {"missing", "json_invalid"} else f", is {str(first['input'])[:60]!r}"
    more = f" (and {num_more} more)" if num_more else ""
    return f"{place}{': ' if place else ''}{first['msg'][:200]}{value}{more}"


def _is_other_process(pid: int) -> bool:
    """Tell whether another process of this id lives; it may write a report without holding the sweep's lock."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
