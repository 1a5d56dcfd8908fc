"""Downloads published data sets into a data root, whole or not at all.

torchvision's classes name the addresses and the md5 sums; pooch downloads each file and checks its sum.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import os
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from pydantic import ValidationError

from orchestrator.errors import DataNotFound, UserError
from orchestrator.spec.options import DATASETS, SequenceOptions, download_root
from orchestrator.trial.data.locations import LAYOUTS, Location, locate

# Data set -> torchvision's class of it.
DOWNLOADABLE = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
# Seconds to connect, and seconds of silence in the middle of a download.
TIMEOUT = (8.0, 20.0)
CHUNK = 1 << 18


@final
@dataclass(frozen=True)
class Published:
    """One file to download; ``urls`` are tried in order."""

    name: str
    urls: tuple[str, ...]
    md5: str


def fetch(name: str, root: str | None = None, *, show_progress: bool = False) -> Location:
    """Download a data set unless it is on this machine, and read it once, so that a damaged file is known now.

    Args:
        name: the data set.
        root: where to look first, and where a download goes; None: as :func:`locate` chooses.
        show_progress: whether a terminal shows a bar for each file.

    Raises:
        UserError: no data set has that name, or it has settings without a default.
        DataNotFound: the data set is not here and cannot be downloaded.
        DataCorrupt: the data set is here, and damaged.
    """
    place = locate(name, root)
    entry = DATASETS[name]
    try:
        options = entry.options.model_validate({"name": name, "batch_size": 1, "root": root})
    except ValidationError as error:
        lacking = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
        raise UserError(f"{name} has settings without a default ({lacking}); run a sweep that gives them") from None
    if not place.is_found:
        published = options.images.name if isinstance(options, SequenceOptions) else name
        if place.is_mistake or published not in DOWNLOADABLE:
            raise DataNotFound(f"{name}: {place.reason}")
        download(published, download_root(root), show_progress=show_progress)
        place = locate(name, root)
    entry.load()(options)
    return place


def download(name: str, target: Path, *, show_progress: bool = False) -> Path:
    """Download a data set into a root, in torchvision's layout, and return the folder that holds it.

    The files are downloaded and unpacked in a hidden directory of the root and then renamed into place, so a root is
    never half written. When several processes ask at once, one downloads and the others wait for it.

    Args:
        name: a key of :data:`DOWNLOADABLE`.
        target: the data root; it is made where it does not exist.
        show_progress: whether a terminal shows a bar for each file.

    Raises:
        DataNotFound: there is no network, no space or no permission, or a file is not what was published.
    """
    folder = target / LAYOUTS[name][0].folder
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if not all((folder / file).is_file() for file in LAYOUTS[name][0].files):
                _bring(name, folder, target, show_progress)
    except (OSError, ValueError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataNotFound(f"the download into {target} failed: {error}") from error
    return folder


def retrieve(published: Published, folder: Path, show_progress: bool) -> Path:
    """Download one file from the first address that has it.

    Raises:
        OSError: no address has it; the message says what each answered.
    """
    import pooch

    downloader = pooch.HTTPDownloader(
        progressbar=show_progress and sys.stderr.isatty(),
        chunk_size=CHUNK,
        timeout=TIMEOUT,
        # If a server unpacked the file on the way, its bytes would not have the published sum.
        headers={"Accept-Encoding": "identity"},
    )
    troubles = []
    for url in published.urls:
        try:
            return Path(pooch.retrieve(url, f"md5:{published.md5}", published.name, folder, downloader=downloader))
        except (OSError, ValueError) as error:
            troubles.append(f"{url}: {error}")
    raise OSError("; ".join(troubles))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock a directory; the lock ends with the process that holds it."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _bring(name: str, folder: Path, target: Path, show_progress: bool) -> None:
    from torchvision import datasets

    # This process holds the lock, so a process that was killed left these.
    for left in target.glob(".incoming-*"):
        shutil.rmtree(left)
    source = getattr(datasets, DOWNLOADABLE[name])
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=target) as directory:
        incoming, unpacked = Path(directory), Path(directory) / "unpacked" / folder.name
        unpacked.mkdir(parents=True)
        for published in _published(source):
            _unpack(retrieve(published, incoming, show_progress), unpacked)
        missing = [file for file in LAYOUTS[name][0].files if not (unpacked / file).is_file()]
        if missing:
            raise OSError(f"{', '.join(missing)} did not come")
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(unpacked, folder)


def _published(source: Any) -> tuple[Published, ...]:
    """Read from a torchvision class which files are published where: one archive, or a file for each part."""
    from torchvision import datasets

    if issubclass(source, datasets.CIFAR10):
        return (Published(source.filename, (source.url,), source.tgz_md5),)
    mirrors = [mirror.rstrip("/") for mirror in source.mirrors]
    return tuple(Published(name, tuple(f"{each}/{name}" for each in mirrors), md5) for name, md5 in source.resources)


def _unpack(path: Path, into: Path) -> None:
    """Unpack one downloaded file; an archive holds one directory, named as ``into`` is."""
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path, "r:gz") as archive:
            # The filter refuses members that would lie outside.
            archive.extractall(into.parent, filter="data")
    else:
        with gzip.open(path) as packed, (into / path.name.removesuffix(".gz")).open("wb") as plain:
            shutil.copyfileobj(packed, plain, CHUNK)
