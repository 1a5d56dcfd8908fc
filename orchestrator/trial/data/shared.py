"""Keeps decoded tensors on disk, so that all workers of a machine decode them once and hold them in memory once.

An entry is a directory ``CACHE/tensors/NAME-HASH`` with one raw file a tensor and ``entry.json``. Its name hashes
all that its content follows from: the options, the files it was read from by path, size and time, and the code.
Entries are made aside and renamed into place, so there is no half entry; each is checked against its sums when it
is opened, and one that does not hold is made again. A directory that cannot be written costs speed alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import Tensor

from orchestrator.spec.options import DataOptions, Options, cache_root
from orchestrator.trial.data.dataset import DataSet, Split
from orchestrator.trial.data.idx import DamageError

# Above this the entries longest out of use are removed: a search over data options would fill the disk.
MAX_BYTES = 8 << 30
# A worker that hangs while it decodes delays the others by no more than this.
WAIT_SECONDS = 120.0
DTYPES = {"float32": torch.float32, "int64": torch.int64}
SPLITS = ("train", "validation", "test")
MANIFEST = "entry.json"


class _Stored(Options):
    """One tensor on disk."""

    dtype: Literal["float32", "int64"]
    shape: tuple[int, ...]
    crc32: int


class _Manifest(Options):
    """What an entry holds."""

    input_shape: tuple[int, ...]
    num_classes: int
    found: str
    tensors: dict[str, _Stored]


def shared(options: DataOptions, sources: Sequence[Path], make: Callable[[], DataSet]) -> DataSet:
    """Return the data set from its entry; where there is none, make it first, once for all processes that ask.

    Its tensors are private copy-on-write maps of files: all processes share the pages that nobody writes to.

    Args:
        options: what was asked for; batch size and root make no difference.
        sources: the files that ``make`` reads; that one is missing makes a difference too.
        make: loads the data set from them.
    """
    folder = cache_root() / "tensors"
    entry = folder / f"{options.name}-{_identity(options, sources)}"
    found = _open(entry)
    if found is not None:
        return found
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(_alone(folder / ".lock"))
        except OSError:
            return make()
        return _open(entry) or _made(entry, make())


def _identity(options: DataOptions, sources: Sequence[Path]) -> str:
    states = [(str(path), _state(path)) for path in sources]
    asked = options.model_dump(mode="json", exclude={"batch_size", "root"})
    content = json.dumps([asked, states, _code(), sys.byteorder], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


@functools.cache
def _code() -> str:
    """Hash the loaders themselves, since an entry that other code made is stale."""
    content = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(content).hexdigest()


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock, which the death of its owner releases; raise ``TimeoutError`` where it cannot be had."""
    give_up = time.monotonic() + WAIT_SECONDS
    with open(path, "ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise TimeoutError(f"{path} is held by another process") from None
                time.sleep(0.02)
        yield


def _open(entry: Path) -> DataSet | None:
    """Map an entry; None: there is none, or it is not what was written."""
    try:
        manifest = _Manifest.model_validate_json((entry / MANIFEST).read_bytes())
        tensors = {name: _map(entry / name, stored) for name, stored in manifest.tensors.items()}
        splits = (Split(tensors[f"{name}.inputs"], tensors[f"{name}.targets"]) for name in SPLITS)
        train, validation, test = splits
    except (OSError, RuntimeError, ValidationError, KeyError, DamageError):
        return None
    with contextlib.suppress(OSError):
        # This records the last use; the entries longest out of use are removed first.
        os.utime(entry)
    return DataSet(train, validation, test, manifest.input_shape, manifest.num_classes, manifest.found)


def _map(path: Path, stored: _Stored) -> Tensor:
    dtype = DTYPES[stored.dtype]
    size = torch.Size(stored.shape).numel()
    if path.stat().st_size != size * dtype.itemsize:
        raise DamageError("the file is not as long as it was written")
    tensor = torch.from_file(str(path), shared=False, size=size, dtype=dtype)
    if _sum(tensor) != stored.crc32:
        raise DamageError("the file is not what was written")
    return tensor.reshape(stored.shape)


def _sum(tensor: Tensor) -> int:
    raw: npt.NDArray[np.uint8] = tensor.reshape(-1).view(torch.uint8).numpy()
    return zlib.crc32(raw.data)


def _made(entry: Path, data: DataSet) -> DataSet:
    """Write an entry and return it mapped; where there is no room, return the data set as it is."""
    tensors: dict[str, Tensor] = {}
    for name in SPLITS:
        split: Split = getattr(data, name)
        tensors |= {f"{name}.inputs": split.inputs.contiguous(), f"{name}.targets": split.targets.contiguous()}
    num_bytes = sum(tensor.nbytes for tensor in tensors.values())
    if num_bytes > MAX_BYTES:
        return data
    # Only the owner can read a directory that tempfile makes, and colleagues may share this one.
    incoming = entry.with_name(f".incoming-{secrets.token_hex(8)}")
    try:
        _make_room(entry.parent, num_bytes)
        incoming.mkdir()
        try:
            _write(incoming, data, tensors)
            shutil.rmtree(entry, ignore_errors=True)
            os.replace(incoming, entry)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
    except OSError:
        return data
    return _open(entry) or data


def _write(folder: Path, data: DataSet, tensors: dict[str, Tensor]) -> None:
    stored = {}
    for name, tensor in tensors.items():
        tensor.numpy().tofile(folder / name)
        stored[name] = _Stored.model_validate(
            {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": tuple(tensor.shape), "crc32": _sum(tensor)}
        )
    manifest = _Manifest(input_shape=data.input_shape, num_classes=data.num_classes, found=data.found, tensors=stored)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))


def _make_room(folder: Path, num_bytes: int) -> None:
    """Remove what a crash left, and the entries longest out of use until a new one fits; a map outlives its file."""
    for left in folder.glob(".incoming-*"):
        shutil.rmtree(left, ignore_errors=True)
    entries = sorted((path.stat().st_mtime_ns, path) for path in folder.iterdir() if path.is_dir())
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for _, path in entries}
    for _, path in entries:
        if sum(sizes.values()) + num_bytes <= MAX_BYTES:
            break
        shutil.rmtree(path, ignore_errors=True)
        del sizes[path]
