"""Finds where a data set lies without loading it; uses only the standard library, so that the dry run is quick."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

from orchestrator.errors import DataNotFound, UserError, nearest
from orchestrator.spec.options import (
    DATA_ROOT_VARIABLE,
    DATASETS,
    EMBEDDED_TEXT,
    DataOptions,
    TextOptions,
    data_root,
    download_root,
    missing_text,
    text_path,
)

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR10_BATCHES = tuple(f"data_batch_{index}" for index in range(1, 6))


@final
@dataclass(frozen=True)
class Layout:
    """One form in which a data set lies under a root, as torchvision or its authors lay it out.

    Args:
        folder: path of the directory below the root.
        train: files of the training split, in order.
        test: files of the test split.
    """

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """All files."""
        return self.train + self.test


# The first form is the one that a download makes.
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "mnist": (Layout("MNIST/raw", IDX_FILES[:2], IDX_FILES[2:]),),
    "fashion_mnist": (Layout("FashionMNIST/raw", IDX_FILES[:2], IDX_FILES[2:]),),
    "cifar10": (
        Layout("cifar-10-batches-py", CIFAR10_BATCHES, ("test_batch",)),
        Layout("cifar-10-batches-bin", tuple(f"{name}.bin" for name in CIFAR10_BATCHES), ("test_batch.bin",)),
    ),
    "cifar100": (
        Layout("cifar-100-python", ("train",), ("test",)),
        Layout("cifar-100-binary", ("train.bin",), ("test.bin",)),
    ),
}
CONTENTS = {
    "mnist": "the four IDX files",
    "fashion_mnist": "the four IDX files",
    "cifar10": "the five training batches and the test batch",
    "cifar100": "the files train and test",
}


@final
@dataclass(frozen=True)
class Location:
    """Where a data set lies on this machine.

    Args:
        name: the data set.
        folder: the directory that holds its files; None: it was not found, or needs no files.
        reason: why it was not found and what to do; empty: it was found.
        is_mistake: whether the reason is a mistake of the user's, which no download may hide.
        origin: where it comes from, if it needs no files of its own.
    """

    name: str
    folder: Path | None
    reason: str = ""
    is_mistake: bool = False
    origin: str = ""

    @property
    def is_found(self) -> bool:
        """Whether the data set is there."""
        return not self.reason

    def __str__(self) -> str:
        return f"not found: {self.reason}" if self.reason else self.origin or str(self.folder)


def locate(name: str, root: str | None = None) -> Location:
    """Find where a data set lies; this reads no file and reaches no network.

    Args:
        name: the data set.
        root: the spec's ``data.root``; None: ``$TELEPORT_DATA``, else the usual places.

    Raises:
        UserError: no data set has that name.
    """
    if name in LOCATORS:
        return LOCATORS[name](root)
    if name not in DATASETS:
        raise UserError(f"{name!r} is no data set; {nearest(name, DATASETS)}")
    return _locate_of_plugin(name, root)


def locate_for(options: DataOptions) -> Location:
    """Find what a spec asks for as :func:`locate` does; a text is looked for by the file that the options name."""
    if not isinstance(options, TextOptions) or options.file == EMBEDDED_TEXT:
        return locate(options.name, options.root)
    mistake = root_mistake(options.root)
    path = text_path(options.file, options.root)
    if mistake:
        return Location("text", None, mistake, is_mistake=True)
    if not os.path.lexists(path):
        return Location("text", None, missing_text(path), is_mistake=True)
    return Location("text", path.parent, origin=str(path))


def root_mistake(root: str | None) -> str:
    """Say where the user named the data root, and that it is no directory; empty: nothing is wrong with it."""
    named, place = data_root(root)
    if named is None or named.is_dir():
        return ""
    return f"{place} {named} {'is no directory' if named.exists() else 'does not exist'}"


def has_file(folder: Path, name: str) -> bool:
    """Tell whether a folder has an entry of that name, plain or gz; a damaged one counts."""
    return any(os.path.lexists(folder / candidate) for candidate in (name, f"{name}.gz"))


def layout_of(name: str, folder: Path) -> Layout:
    """Tell by the files in a folder which form of a data set it holds; the first form where none fits."""
    layouts = LAYOUTS[name]
    return next((each for each in layouts if _has_any(folder, each)), layouts[0])


def _has_any(folder: Path, layout: Layout) -> bool:
    return any(has_file(folder, file) for file in layout.files)


def _locate_files(name: str, root: str | None) -> Location:
    mistake = root_mistake(root)
    if mistake:
        return Location(name, None, mistake, is_mistake=True)
    named, _ = data_root(root)
    base = download_root(root)
    places = [(base / layout.folder, layout) for layout in LAYOUTS[name]]
    if name == "fashion_mnist":
        packaged = (DEBIAN_FOLDER, LAYOUTS[name][0])
        # MNIST's files have the same names, so directly in a root they could be either.
        places = [*places, (base, LAYOUTS[name][0]), packaged] if named is not None else [packaged, *places]
    for folder, layout in places:
        if _has_any(folder, layout):
            return Location(name, folder)
    return Location(name, None, _nowhere(name, root))


def _nowhere(name: str, root: str | None) -> str:
    named, place = data_root(root)
    package = "dataset-fashion-mnist" if name == "fashion_mnist" else ""
    looked = [
        f"in {named} (from {place})" if named is not None else f"in no data root (data.root, ${DATA_ROOT_VARIABLE})"
    ]
    looked += [f"in {DEBIAN_FOLDER}"] if package else []
    cures = [f"apt-get install {package}"] if package else []
    cures += [f"teleport data fetch {name}"]
    layouts = " or ".join(f"ROOT/{layout.folder}" for layout in LAYOUTS[name])
    return (
        f"looked {', '.join(looked)}, and for an earlier download in {download_root(root)}. "
        f"One of these mends it: {'; '.join(cures)}; or "
        f"put {CONTENTS[name]} into {layouts} and name ROOT as data.root"
    )


def _locate_in_sklearn(name: str, file: str, root: str | None) -> Location:
    # scikit-learn is not imported, since that takes two seconds (it loads scipy.stats and pandas).
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        return Location(name, None, "it is part of scikit-learn, which is not installed")
    folder = Path(package.origin).parent / "datasets" / "data"
    if not (folder / file).is_file():
        return Location(name, None, f"scikit-learn has no {folder / file}; install it again")
    return Location(name, folder)


def _locate_sequence(images: str, root: str | None) -> Location:
    return replace(LOCATORS[images](root), name=f"seq_{images}")


def _locate_synthetic(root: str | None) -> Location:
    return Location("synthetic", None, origin="drawn here from its seed, needs no file")


def embedded_text() -> Path | None:
    """Find the module of the standard library that holds Python's reference; None: this Python lacks it."""
    module = importlib.util.find_spec("pydoc_data")
    if module is None or not module.submodule_search_locations:
        return None
    path = Path(next(iter(module.submodule_search_locations))) / "topics.py"
    return path if path.is_file() else None


def _locate_text(root: str | None) -> Location:
    path = embedded_text()
    if path is None:
        return Location("text", None, "this Python lacks pydoc_data/topics.py; install Python again, or use `file`")
    own = text_path("*", root).parent
    names = sorted(each.stem for each in own.glob("*.txt"))
    beside = f"; in {own}: {', '.join(names)}" if names else f"; your own: {own}/NAME.txt"
    return Location("text", path.parent, origin=f"{EMBEDDED_TEXT} in {path}{beside}")


def _locate_of_plugin(name: str, root: str | None) -> Location:
    entry = DATASETS[name]
    if not entry.locate:
        return Location(name, None, origin=f"the plug-in {entry.plugin} brings it")
    try:
        return Location(name, Path(entry.load_locator()(root)))
    except DataNotFound as error:
        return Location(name, None, str(error))
    except Exception as error:  # noqa: BLE001 - a user's function may raise anything
        return Location(name, None, f"{entry.locate} failed: {type(error).__name__}: {error}", is_mistake=True)


LOCATORS: dict[str, Callable[[str | None], Location]] = {
    "digits": partial(_locate_in_sklearn, "digits", "digits.csv.gz"),
    "diabetes": partial(_locate_in_sklearn, "diabetes", "diabetes_data_raw.csv.gz"),
    "mnist": partial(_locate_files, "mnist"),
    "fashion_mnist": partial(_locate_files, "fashion_mnist"),
    "cifar10": partial(_locate_files, "cifar10"),
    "cifar100": partial(_locate_files, "cifar100"),
    "seq_digits": partial(_locate_sequence, "digits"),
    "seq_mnist": partial(_locate_sequence, "mnist"),
    "seq_fashion_mnist": partial(_locate_sequence, "fashion_mnist"),
    "synthetic": _locate_synthetic,
    "text": _locate_text,
}
