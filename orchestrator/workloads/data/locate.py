"""Where a data set lies, without loading it: standard library only, so that the dry run stays quick."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.errors import UserError, nearest

DATA_ROOT_VARIABLE = "TELEPORT_DATA"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@final
@dataclass(frozen=True)
class Location:
    """Where a data set lies on this machine.

    Args:
        name: of the data set.
        folder: the directory that holds its files; None where it was not found.
        reason: why it was not found and what to do; empty where it was.
        is_mistake: whether the reason is a mistake of the user's that no download may paper over.
    """

    name: str
    folder: Path | None
    reason: str = ""
    is_mistake: bool = False

    @property
    def is_found(self) -> bool:
        """Whether it is there."""
        return self.folder is not None

    def __str__(self) -> str:
        return f"not found: {self.reason}" if self.folder is None else str(self.folder)


def locate(name: str, root: str | None = None) -> Location:
    """Look where a data set lies; opens no file, reaches no network.

    Args:
        name: of the data set.
        root: the spec's ``data.root``; None: ``$TELEPORT_DATA``, else the usual places alone.

    Returns:
        The folder, or the reason why there is none.

    Raises:
        UserError: no data set of that name.
    """
    if name not in LOCATORS:
        raise UserError(f"{name!r} is no data set; {nearest(name, LOCATORS)}")
    return LOCATORS[name](root)


def data_root(root: str | None = None) -> tuple[Path | None, str]:
    """Tell which directory the user named, and how.

    Args:
        root: the spec's ``data.root``.

    Returns:
        The directory (None where none was named) and where it was named.
    """
    if root is not None:
        return Path(root).expanduser(), "data.root"
    named = os.environ.get(DATA_ROOT_VARIABLE)
    return (Path(named).expanduser(), f"${DATA_ROOT_VARIABLE}") if named else (None, "")


def download_root(root: str | None = None) -> Path:
    """Tell where a download goes, and is found again: the named root, else the user's cache directory.

    Args:
        root: the spec's ``data.root``.

    Returns:
        The directory; it may not exist.
    """
    named, _ = data_root(root)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return named if named is not None else Path(cache).expanduser() / "teleport" / "data"


def has_file(folder: Path, name: str) -> bool:
    """Tell whether a folder has an entry of that name, plain or gz; a damaged one counts."""
    return any(os.path.lexists(folder / candidate) for candidate in (name, f"{name}.gz"))


def _locate_digits(root: str | None) -> Location:
    # Found without importing scikit-learn, which takes two seconds (it loads scipy.stats and pandas).
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        return Location("digits", None, "it is part of scikit-learn, which is not installed")
    folder = Path(package.origin).parent / "datasets" / "data"
    if not (folder / "digits.csv.gz").is_file():
        return Location("digits", None, f"scikit-learn has no {folder / 'digits.csv.gz'}; install it again")
    return Location("digits", folder)


def _locate_fashion_mnist(root: str | None) -> Location:
    named, place = data_root(root)
    if named is not None and not named.is_dir():
        what = "is no directory" if named.exists() else "does not exist"
        return Location("fashion_mnist", None, f"{place} {named} {what}", is_mistake=True)
    target = download_root(root)
    places = [DEBIAN_FOLDER, target / "FashionMNIST" / "raw"]
    if named is not None:
        places = [named / "FashionMNIST" / "raw", named, DEBIAN_FOLDER]
    for folder in places:
        if any(has_file(folder, name) for name in FASHION_MNIST_FILES):
            return Location("fashion_mnist", folder)
    looked = f"{named} (from {place})" if named is not None else f"no data root (data.root, ${DATA_ROOT_VARIABLE})"
    reason = (
        f"looked in {looked}, in {DEBIAN_FOLDER}, and for an earlier download in {target}. "
        "One of these mends it: apt-get install dataset-fashion-mnist; teleport data fetch fashion_mnist; or "
        "put the four IDX files into ROOT/FashionMNIST/raw and name ROOT as data.root"
    )
    return Location("fashion_mnist", None, reason)


LOCATORS: dict[str, Callable[[str | None], Location]] = {
    "digits": _locate_digits,
    "fashion_mnist": _locate_fashion_mnist,
}
