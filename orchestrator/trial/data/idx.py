"""IDX files, plain or gz: the format of MNIST and its kin, checked before a number of it is believed.

Source: http://yann.lecun.com/exdb/mnist/: two zero bytes, the type (8: unsigned byte), the number of
dimensions, each dimension as a big-endian 32-bit number, then the values.
"""

from __future__ import annotations

import gzip
import math
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, final

import numpy as np
import numpy.typing as npt

from orchestrator.errors import DataCorrupt, Fault

UNSIGNED_BYTE = 8
BLOCK = 1 << 24
GZIP_MAGIC = b"\x1f\x8b"

Bytes = npt.NDArray[np.uint8]


@final
class DamageError(Exception):
    """What is wrong with a file; whoever catches it adds the file's name and what the user can do."""


def check_is_file(path: Path) -> None:
    """Refuse a directory or a device, on which reading would fail or block for ever.

    Raises:
        DamageError: the path is no regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise DamageError("expected a file, found " + ("a directory" if path.is_dir() else "something else"))


def read_idx(folder: Path, name: str, sample_shape: tuple[int, ...], cure: str) -> Bytes:
    """Read the file ``NAME``, else ``NAME.gz``, of a folder; its first bytes tell whether it is compressed.

    Args:
        folder: the directory that holds the file.
        name: the file's name without ``.gz``.
        sample_shape: what each sample must be: ``(28, 28)`` for an image, ``()`` for a label.
        cure: tells the user how to cure the file.

    Returns:
        ``[n, *sample_shape]``, uint8, with n >= 1.

    Raises:
        DataCorrupt: the file is missing, unreadable, or not what its name says.
    """
    path = next((p for p in (folder / name, folder / f"{name}.gz") if os.path.lexists(p)), None)
    if path is None:
        message = f"expected {name} or {name}.gz beside the other files, found neither; {cure}"
        raise DataCorrupt(Fault(str(folder), message))
    try:
        return _read(path, sample_shape)
    except DamageError as damage:
        raise DataCorrupt(Fault(str(path), f"{damage}; {cure}")) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataCorrupt(Fault(str(path), f"expected gz data, cannot unpack it ({error}); {cure}")) from error
    except EOFError as error:
        raise DataCorrupt(Fault(str(path), f"expected gz data, but it is cut off; {cure}")) from error
    except OSError as error:
        raise DataCorrupt(Fault(str(path), f"cannot be read ({error.strerror or error}); {cure}")) from error


def _read(path: Path, sample_shape: tuple[int, ...]) -> Bytes:
    check_is_file(path)
    with path.open("rb") as start:
        is_gz = start.read(2) == GZIP_MAGIC
    with gzip.open(path) if is_gz else path.open("rb") as stream:
        return _parse(stream, sample_shape)  # type: ignore[arg-type]


def _parse(stream: BinaryIO, sample_shape: tuple[int, ...]) -> Bytes:
    num_dimensions = 1 + len(sample_shape)
    magic = bytes((0, 0, UNSIGNED_BYTE, num_dimensions))
    header = stream.read(4 + 4 * num_dimensions)
    if not header:
        raise DamageError("expected an IDX file, found an empty one")
    if header[:4] != magic:
        raise DamageError(f"expected an IDX file that begins with {magic.hex()}, found {header[:4].hex()}")
    if len(header) < 4 + 4 * num_dimensions:
        raise DamageError(f"expected a header of {4 + 4 * num_dimensions} bytes, found {len(header)} bytes in all")
    num_samples, *found_shape = struct.unpack(f">{num_dimensions}I", header[4:])
    if tuple(found_shape) != sample_shape:
        expected, found = ("x".join(map(str, shape)) for shape in (sample_shape, found_shape))
        raise DamageError(f"expected samples of {expected}, found {found}")
    if num_samples == 0:
        raise DamageError("expected samples, found none")
    size = num_samples * math.prod(sample_shape)
    values = b"".join(_blocks(stream, size))
    # gzip compares the checksum only when the read goes past the last value.
    rest = stream.read(1)
    if len(values) < size:
        raise DamageError(f"expected {size} bytes for {num_samples} samples, found {len(values)}: it is cut off")
    if rest:
        raise DamageError(f"expected {size} bytes for {num_samples} samples, found more")
    return np.frombuffer(values, dtype=np.uint8).reshape(num_samples, *sample_shape)


def _blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Read up to ``size`` bytes in blocks: one read would reserve as much memory as a damaged header claims."""
    while size > 0 and (block := stream.read(min(size, BLOCK))):
        size -= len(block)
        yield block


def read_pair(
    folder: Path, prefix: str, image_shape: tuple[int, int], num_classes: int, cure: str
) -> tuple[Bytes, Bytes]:
    """Read images ``[n, rows, columns]`` and their labels ``[n]``, each below ``num_classes``, both uint8.

    The files are ``PREFIX-images-idx3-ubyte`` and ``PREFIX-labels-idx1-ubyte``; the prefix is ``train`` or ``t10k``.

    Raises:
        DataCorrupt: a file is missing or damaged, or the two do not fit together; the message ends with ``cure``.
    """
    images = read_idx(folder, f"{prefix}-images-idx3-ubyte", image_shape, cure)
    labels = read_idx(folder, f"{prefix}-labels-idx1-ubyte", (), cure)
    name = str(folder / f"{prefix}-labels-idx1-ubyte")
    if len(images) != len(labels):
        raise DataCorrupt(Fault(name, f"expected {len(images)} labels, one an image, found {len(labels)}; {cure}"))
    if labels.max() >= num_classes:
        message = f"expected labels 0 to {num_classes - 1}, found {labels.max()} at {int(labels.argmax())}; {cure}"
        raise DataCorrupt(Fault(name, message))
    return images, labels
