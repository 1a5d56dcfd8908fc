"""What torchvision knows of where data sets are published: addresses and checksums, read from its own classes."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.trial.data.locations import LAYOUTS


class Unsound(Exception):
    """What came is not what was published."""


@final
@dataclass(frozen=True)
class Published:
    """One file to download.

    Args:
        name: of the file.
        urls: where it is, in the order to try.
        md5: of its content.
    """

    name: str
    urls: tuple[str, ...]
    md5: str


@final
@dataclass(frozen=True)
class Release:
    """A data set as it is published.

    Args:
        folder: below a root, where its files belong.
        downloads: the files to get.
        unpack: ``unpack(downloaded, into)``: checks and unpacks one of them.
    """

    folder: str
    downloads: tuple[Published, ...]
    unpack: Callable[[Path, Path], None]


def release_of(name: str) -> Release:
    """Ask torchvision's class of a data set where it is published.

    Args:
        name: of the data set.

    Returns:
        What to get and how to unpack it.
    """
    return RELEASES[name]()


def _idx(name: str, kind: str) -> Release:
    from torchvision import datasets

    source = getattr(datasets, kind)
    downloads = (
        Published(file, tuple(f"{mirror.rstrip('/')}/{file}" for mirror in source.mirrors), md5)
        for file, md5 in source.resources
    )
    return Release(LAYOUTS[name][0].folder, tuple(downloads), _gunzip)


def _cifar(name: str, kind: str) -> Release:
    from torchvision import datasets

    source = getattr(datasets, kind)
    members = dict([*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])])
    archive = Published(source.filename, (source.url,), source.tgz_md5)

    def unpack(downloaded: Path, into: Path) -> None:
        _untar(downloaded, into, source.base_folder, members)

    return Release(LAYOUTS[name][0].folder, (archive,), unpack)


def _gunzip(downloaded: Path, into: Path) -> None:
    with gzip.open(downloaded) as packed, (into / downloaded.name.removesuffix(".gz")).open("xb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)


def _untar(downloaded: Path, into: Path, folder: str, members: dict[str, str]) -> None:
    """Take the files that are asked for out of an archive, and nothing else, whatever names it holds."""
    with tarfile.open(downloaded, "r:gz") as archive:
        for member in archive:
            name = member.name.removeprefix(f"{folder}/")
            stream = archive.extractfile(member) if name in members and member.isfile() else None
            if stream is None:
                continue
            with stream, (into / name).open("xb") as plain:
                shutil.copyfileobj(stream, plain, 1 << 20)
    for name, md5 in members.items():
        if not (into / name).is_file():
            raise Unsound(f"{downloaded.name} has no {folder}/{name}")
        found = md5_of(into / name)
        if found != md5:
            raise Unsound(f"{folder}/{name} in {downloaded.name} has the md5 {found}, expected {md5}")


def md5_of(path: Path) -> str:
    """Work out the md5 of a file: a checksum against damage, as its authors published it.

    Args:
        path: of the file.

    Returns:
        32 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


RELEASES: dict[str, Callable[[], Release]] = {
    "mnist": lambda: _idx("mnist", "MNIST"),
    "fashion_mnist": lambda: _idx("fashion_mnist", "FashionMNIST"),
    "cifar10": lambda: _cifar("cifar10", "CIFAR10"),
    "cifar100": lambda: _cifar("cifar100", "CIFAR100"),
}
