"""A sweep's record as one file, from which another machine makes the sweep's home.

The archive holds the spec, the search's journal, and each trial's configuration, curves and result. It leaves out
logs, checkpoints and reports; a report can be made again. The same record gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import final

from orchestrator.errors import Fault, FileUnreadable
from orchestrator.home.files import atomic_write
from orchestrator.home.paths import SweepPaths

# Higher levels of compression take three times as long and make the archive a tenth smaller.
LEVEL = 4
_TRIAL = re.compile(r"trials/(?P<id>[0-9a-f]+)/")
MAX_BYTES = 16 * 2**30
MAX_READ = 2**20


def pack(paths: SweepPaths) -> Path:
    """Write the archive of a sweep that nobody writes meanwhile, in one step."""
    content = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=content, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in _members(paths):
            data = path.read_bytes()
            member = tarfile.TarInfo(_name(paths, path))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    atomic_write(paths.archive, content.getvalue())
    return paths.archive


def unpack(archive: Path, root: Path) -> None:
    """Unpack an archive into a directory that does not exist yet; the archive need not be trusted.

    Raises:
        FileUnreadable: the archive holds anything but a sweep's record, or is damaged.
    """
    paths = SweepPaths(root.parent, root.name)
    paths.root.mkdir(parents=True)
    try:
        with gzip.open(archive) as stream:
            _extract(_Bounded(stream), paths, archive)
            # The tar ends before its gzip does, and the checksum comes last.
            while stream.read(MAX_READ):
                pass
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileUnreadable(Fault(str(archive), f"is no archive of a sweep, or is damaged: {error}")) from None


def _extract(stream: _Bounded, paths: SweepPaths, archive: Path) -> None:
    num_bytes = 0
    with tarfile.open(fileobj=stream, mode="r:") as opened:
        for member in opened:
            num_bytes += member.size
            if not member.isreg() or not _is_part(paths, member.name) or num_bytes > MAX_BYTES:
                raise FileUnreadable(Fault(str(archive), f"holds {member.name[:80]!r}, which is no part of a sweep"))
            opened.extract(member, paths.root, filter="data")


@final
class _Bounded(io.RawIOBase):
    """Refuses to read much at once, which a tar file asks for only where a header of it claims to be huge."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        """Read as the stream does.

        Raises:
            ReadError: more is asked for than the headers and blocks of a sweep's archive have.
        """
        if not 0 <= size <= MAX_READ:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place in the unpacked content."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Tell the place in the unpacked content."""
        return self._stream.tell()


def _is_part(paths: SweepPaths, name: str) -> bool:
    of_trial = _TRIAL.match(name)
    allowed = _of_trial(paths, of_trial["id"]) if of_trial else _of_sweep(paths)
    return name in {_name(paths, path) for path in allowed}


def _name(paths: SweepPaths, path: Path) -> str:
    return path.relative_to(paths.root).as_posix()


def _members(paths: SweepPaths) -> Iterator[Path]:
    trial_ids = sorted(path.parent.name for path in paths.trials.glob("*/config.json"))
    named = [*_of_sweep(paths), *(path for trial_id in trial_ids for path in _of_trial(paths, trial_id))]
    yield from (path for path in named if path.is_file())


def _of_sweep(paths: SweepPaths) -> tuple[Path, ...]:
    described = paths.format, paths.spec, paths.provenance, paths.plugins, paths.resolved, paths.earlier
    return (*described, paths.warm_start, paths.outcome, paths.journal, paths.index)


def _of_trial(paths: SweepPaths, trial_id: str) -> tuple[Path, ...]:
    return paths.config(trial_id), paths.history(trial_id), paths.result(trial_id)
