"""CIFAR's batches as they are published for Python (pickles) and as plain records, checked before they are believed.

A pickle is a program, and one in a data root may come from anywhere. The reader here runs none of it: the only
names it knows are those by which numpy's arrays are written, and even these stand for inert records of what was
to be made; no function of numpy's, nor of anyone else's, is called.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from orchestrator.errors import DataCorrupt, Fault
from orchestrator.trial.data.idx import Bytes, DamageError, check_is_file
from orchestrator.trial.data.images import Labelled

IMAGE_SHAPE = (3, 32, 32)
IMAGE_SIZE = 3072
# Three times the largest file of either set; a larger file cannot be one of them.
MAX_BYTES = 512 << 20


def read_batch(path: Path, label_key: str, num_classes: int, cure: str) -> Labelled:
    """Read a pickled batch: a dictionary of ``data``, ``[n, 3072]`` bytes, and a list of labels under ``label_key``.

    Returns:
        Images ``[n, 3, 32, 32]`` and labels, each below ``num_classes``; n >= 1.

    Raises:
        DataCorrupt: the file is missing, unreadable, or not such a batch; the message ends with ``cure``.
    """
    return _reading(path, cure, lambda content: _from_pickle(content, label_key, num_classes))


def read_records(path: Path, num_labels: int, num_classes: int, cure: str) -> Labelled:
    """Read one file of plain records: one or two labels, of which the last counts, then 3,072 bytes.

    Args:
        path: the file.
        num_labels: bytes before each image: 1 for CIFAR-10, 2 (coarse, fine) for CIFAR-100.
        num_classes: each label must be below this.
        cure: tells the user how to mend the file.

    Returns:
        Images ``[n, 3, 32, 32]`` and labels; n >= 1.

    Raises:
        DataCorrupt: the file is missing, unreadable, or no such records.
    """
    return _reading(path, cure, lambda content: _from_records(content, num_labels, num_classes))


def _reading(path: Path, cure: str, parse: Callable[[bytes], Labelled]) -> Labelled:
    try:
        check_is_file(path)
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DamageError(f"expected at most {MAX_BYTES} bytes, found {size}")
        return parse(path.read_bytes())
    except FileNotFoundError:
        message = f"expected {path.name} beside the other files, found none; {cure}"
        raise DataCorrupt(Fault(str(path.parent), message)) from None
    except DamageError as damage:
        raise DataCorrupt(Fault(str(path), f"{damage}; {cure}")) from None
    except OSError as error:
        raise DataCorrupt(Fault(str(path), f"cannot be read ({error.strerror or error}); {cure}")) from error


def _from_records(content: bytes, num_labels: int, num_classes: int) -> Labelled:
    size = num_labels + IMAGE_SIZE
    if not content or len(content) % size:
        raise DamageError(f"expected records of {size} bytes, found {len(content)} bytes")
    table = np.frombuffer(content, np.uint8).reshape(-1, size)
    return _labelled(table[:, num_labels:], table[:, num_labels - 1], num_classes)


def _from_pickle(content: bytes, label_key: str, num_classes: int) -> Labelled:
    found = _unpickled(content)
    if not isinstance(found, dict):
        raise DamageError(f"expected a dictionary, found {type(found).__name__}")
    # Python 2 wrote its names as bytes.
    batch = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in found.items()}
    missing = [key for key in ("data", label_key) if key not in batch]
    if missing:
        raise DamageError(f"expected entries data and {label_key}, {' and '.join(missing)} is not there")
    labels = batch[label_key]
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DamageError(f"expected {label_key} to be a list of numbers")
    images = _array(batch["data"])
    if len(labels) != len(images):
        raise DamageError(f"expected {len(images)} labels, one an image, found {len(labels)}")
    wrong = next((index for index, label in enumerate(labels) if not 0 <= label < num_classes), None)
    if wrong is not None:
        raise DamageError(f"expected labels 0 to {num_classes - 1}, found {labels[wrong]} at {wrong}")
    return _labelled(images, np.array(labels, np.uint8), num_classes)


def _labelled(images: Bytes, labels: Bytes, num_classes: int) -> Labelled:
    if labels.max() >= num_classes:
        raise DamageError(f"expected labels 0 to {num_classes - 1}, found {labels.max()} at {int(labels.argmax())}")
    return Labelled(images.reshape(-1, *IMAGE_SHAPE), labels)


def _unpickled(content: bytes) -> object:
    try:
        return _InertUnpickler(io.BytesIO(content)).load()
    except DamageError:
        raise
    except EOFError:
        raise DamageError("expected a pickled batch, but it is cut off") from None
    except Exception as error:  # a damaged pickle fails in whatever way its bytes spell  # noqa: BLE001
        raise DamageError(f"expected a pickled batch, cannot read it ({type(error).__name__}: {error})") from None


@final
class _Record:
    """An array, or its type, as a pickle spells it; its arguments and state are kept and never acted upon."""

    def __init__(self, kind: str, arguments: tuple[Any, ...]) -> None:
        self.kind = kind
        self.arguments = arguments
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


@final
@dataclass(frozen=True)
class _Name:
    """A name that stands in a pickle for something to be called."""

    kind: str

    def __call__(self, *arguments: Any) -> _Record:
        return _Record(self.kind, arguments)


# numpy 2 moved its core; the published files name the old module.
NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "bytes",
}


# The unpickler written in Python: the one in C reserves as much memory as a damaged file claims to need.
@final
class _InertUnpickler(pickle._Unpickler):
    """Reads numbers, strings, lists, dictionaries and records of arrays; refuses every other name."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str) -> _Name:
        """Return the stand-in of a name."""
        if (module, name) not in NAMES:
            raise DamageError(f"expected numbers and arrays alone, found the program {module}.{name}: it was not run")
        return _Name(NAMES[module, name])


def _array(found: object) -> Bytes:
    """Make ``[n, 3072]`` bytes of what a pickle says about an array."""
    match found:
        case _Record(kind="array", state=(_, (int(num_images), int(size)), _Record(kind="dtype") as dtype, _, raw)):
            pass
        case _:
            raise DamageError("expected data to be an array of two dimensions")
    if dtype.arguments[:1] not in ((b"u1",), ("u1",)):
        raise DamageError(f"expected data to be of unsigned bytes, found {dtype.arguments[:1]}")
    match raw:
        # In an old protocol, Python 3 writes bytes as text with its encoding.
        case _Record(kind="bytes", arguments=(str(text), "latin1")):
            raw = text.encode("latin1")
        case _:
            pass
    if size != IMAGE_SIZE or num_images < 1:
        raise DamageError(f"expected data of n x {IMAGE_SIZE}, found {num_images} x {size}")
    if not isinstance(raw, bytes) or len(raw) != num_images * IMAGE_SIZE:
        raise DamageError(f"expected {num_images * IMAGE_SIZE} bytes for {num_images} images, found another number")
    return np.frombuffer(raw, np.uint8).reshape(num_images, IMAGE_SIZE)
