"""Reads the tables of numbers that scikit-learn carries, without importing it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.errors import DataCorrupt, DataNotFound
from orchestrator.trial.data.locations import Location


def folder_of(place: Location) -> Path:
    """Return the folder of a data set of scikit-learn.

    Raises:
        DataNotFound: scikit-learn is not installed, or lacks the data set.
    """
    if place.folder is None:
        raise DataNotFound(f"{place.name}: {place.reason}")
    return place.folder


def read_table(path: Path, shape: tuple[int, int], **options: Any) -> npt.NDArray[Any]:
    """Read a compressed table of a known shape; ``options`` are those of ``numpy.loadtxt``.

    Raises:
        DataCorrupt: the file is damaged.
    """
    try:
        with gzip.open(path, "rt") as lines:
            table = np.loadtxt(lines, ndmin=2, **options)
    except (OSError, EOFError, ValueError) as error:
        raise DataCorrupt(f"{path}: cannot be read ({error}); install scikit-learn again") from error
    if table.shape != shape:
        expected = f"expected {shape[0]} rows of {shape[1]} numbers"
        raise DataCorrupt(f"{path}: {expected}, found {table.shape}; install scikit-learn again")
    return table
