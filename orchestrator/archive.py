"""A sweep's record as one file: what its home holds of it, so that another machine can have that home.

Configurations, curves and results, the spec and the search's journal; no log, no checkpoint, and no report, which is
made of the rest. The same record gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import Fault, FileUnreadable
from orchestrator.files import atomic_write
from orchestrator.paths import SweepPaths

# Curves are text that repeats itself: higher levels take three times as long for a tenth less.
LEVEL = 4
_TRIAL = re.compile(r"trials/[0-9a-f]+")
MAX_BYTES = 16 * 2**30
_FILES = (
    *("spec.yaml", "provenance.json", "plugins.json", "warm_start.json", "replay.json", "outcome.json"),
    "study.journal",
)
_OF_A_TRIAL = ("config.json", "history.jsonl", "result.json")


def pack(paths: SweepPaths) -> Path:
    """Write a sweep's archive.

    Args:
        paths: of a sweep that nobody writes meanwhile.

    Returns:
        The file, replaced in one step.
    """
    content = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=content, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in _members(paths):
            data = path.read_bytes()
            member = tarfile.TarInfo(path.relative_to(paths.root).as_posix())
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    atomic_write(paths.archive, content.getvalue())
    return paths.archive


def unpack(archive: Path, root: Path) -> None:
    """Unpack an archive into a directory of its own.

    Args:
        archive: from :func:`pack`, or what somebody says is one.
        root: directory of the sweep; must not be there.

    Raises:
        FileUnreadable: it holds anything but a sweep's record, or is cut short.
    """
    root.mkdir(parents=True)
    num_bytes = 0
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                num_bytes += member.size
                if not member.isreg() or not _is_part(member.name) or num_bytes > MAX_BYTES:
                    raise FileUnreadable(
                        Fault(str(archive), f"holds {member.name[:80]!r}, which is no part of a sweep")
                    )
                opened.extract(member, root, filter="data")
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileUnreadable(Fault(str(archive), f"is no archive of a sweep, or is cut short: {error}")) from None


def _is_part(name: str) -> bool:
    folder, _, last = name.rpartition("/")
    return name in _FILES or (last in _OF_A_TRIAL and _TRIAL.fullmatch(folder) is not None)


def _members(paths: SweepPaths) -> Iterator[Path]:
    named = [paths.root / name for name in _FILES]
    trials = sorted(path.parent for path in paths.trials.glob("*/config.json"))
    named += [trial / name for trial in trials for name in _OF_A_TRIAL]
    yield from (path for path in named if path.is_file())
