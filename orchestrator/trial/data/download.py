"""Getting a published data set into a data root: whole or not at all, and gone on with where it was cut off."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from orchestrator.errors import DataNotFound
from orchestrator.trial.data import http
from orchestrator.trial.data.http import Watch
from orchestrator.trial.data.locations import LAYOUTS
from orchestrator.trial.data.releases import RELEASES, Published, Unsound, release_of

DOWNLOADABLE = frozenset(RELEASES)

# Brings one published file into a folder and says where it is.
Get = Callable[[Published, Path, Watch], Path]


def unwatched(name: str, num_done: int, num_total: int | None) -> None:
    """Watch nothing."""


def download(name: str, target: Path, *, watch: Watch = unwatched, get: Get | None = None) -> Path:
    """Download a data set into a root, as torchvision lays it out, by its addresses and checksums.

    What has come lies in ``TARGET/.incoming/NAME`` until all is there and unpacked; then it moves to its place by
    one rename. So a root is never half written, whenever this is cut off, and the next call goes on from there.
    Of several at once one downloads and the others wait for it.

    Args:
        name: of the data set, one of :data:`DOWNLOADABLE`.
        target: the data root; made where it does not exist.
        watch: is told how far each file is.
        get: brings one file; None: over HTTP.

    Returns:
        The folder with the files.

    Raises:
        DataNotFound: no network, no space, no permission, or what came is not what was expected.
    """
    folder = target / LAYOUTS[name][0].folder
    incoming = target / ".incoming" / name
    made = [path for path in (folder.parent, target) if not path.exists()]
    try:
        incoming.mkdir(parents=True, exist_ok=True)
        with _alone(incoming):
            if not _is_whole(name, folder):
                _bring(name, folder, incoming, watch, get or http.get)
    except (OSError, RuntimeError, Unsound, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataNotFound(f"the download into {target} failed: {error}") from error
    finally:
        _remove_if_empty([incoming, incoming.parent, *made])
    return folder


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a directory's lock, which its owner's death releases."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        # The one before us may have left nothing, not even the directory.
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        os.close(opened)


def _bring(name: str, folder: Path, incoming: Path, watch: Watch, get: Get) -> None:
    release = release_of(name)
    arrived = [get(published, incoming, watch) for published in release.downloads]
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Unpacked beside its place, in the same file system, so that one rename puts it there.
    staging = Path(tempfile.mkdtemp(prefix="unpacked-", dir=incoming))
    try:
        staging.chmod(0o755)
        for path in arrived:
            release.unpack(path, staging)
        if not _is_whole(name, staging):
            missing = [file for file in LAYOUTS[name][0].files if not (staging / file).is_file()]
            raise Unsound(f"{', '.join(missing)} did not come")
        os.replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for path in arrived:
        path.unlink()


def _is_whole(name: str, folder: Path) -> bool:
    return all((folder / file).is_file() for file in LAYOUTS[name][0].files)


def _remove_if_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
