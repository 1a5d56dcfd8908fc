"""Writes the files of MNIST and FashionMNIST in their real format, at any size."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from orchestrator.trial.data.locations import IDX_FILES

Bytes = npt.NDArray[np.uint8]


def idx_bytes(values: Bytes) -> bytes:
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.tobytes()


def arrays(num_train: int = 48, num_test: int = 12) -> dict[str, Bytes]:
    random = np.random.RandomState(3)
    found: dict[str, Bytes] = {}
    for name, size in zip(IDX_FILES, (num_train, num_train, num_test, num_test), strict=True):
        shape, top = ((size, 28, 28), 256) if "images" in name else ((size,), 10)
        found[name] = random.randint(0, top, size=shape).astype(np.uint8)
    return found


def write(folder: Path, files: dict[str, Bytes] | None = None, *, is_gz: bool = True) -> Path:
    """Write all four files, as torchvision downloads them or as it unpacks them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in (files or arrays()).items():
        content = idx_bytes(values)
        path = folder / (f"{name}.gz" if is_gz else name)
        path.write_bytes(gzip.compress(content, compresslevel=1, mtime=0) if is_gz else content)
    return folder
