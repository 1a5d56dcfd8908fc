"""Writes CIFAR's batches in their real formats, byte by byte as Python 2 pickled them, at any size."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from orchestrator.trial.data.locations import CIFAR10_BATCHES

Bytes = npt.NDArray[np.uint8]
IMAGE_SIZE = 3072


def arrays(num_images: int, num_classes: int, seed: int = 0) -> tuple[Bytes, Bytes]:
    random = np.random.RandomState(seed)
    images = random.randint(0, 256, size=(num_images, IMAGE_SIZE)).astype(np.uint8)
    return images, random.randint(0, num_classes, size=num_images).astype(np.uint8)


def pickled(images: Bytes, labels: Bytes, label_key: str = "labels") -> bytes:
    """What ``cPickle.dump({'batch_label': ..., LABEL_KEY: [...], 'data': images}, file, 2)`` of Python 2 wrote."""
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    raw = images.tobytes()
    kind = b"cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R(K\x03" + text("|") + b"NNN" + NONE * 2 + b"K\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R"
    shape = number(len(images)) + number(images.shape[1]) + b"\x86"
    array = empty + b"(K\x01" + shape + kind + b"\x89T" + struct.pack("<I", len(raw)) + raw + b"tb"
    entries = text("batch_label") + text("testing batch 1 of 1")
    entries += text(label_key) + b"](" + numbers + b"e" + text("data") + array
    return b"\x80\x02}(" + entries + b"u."


NONE = b"J\xff\xff\xff\xff"


def text(value: str) -> bytes:
    return b"U" + bytes([len(value)]) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def records(images: Bytes, *labels: Bytes) -> bytes:
    return np.concatenate([*(each[:, np.newaxis] for each in labels), images], axis=1).tobytes()


def write(root: Path, name: str, *, is_binary: bool = False, num_images: int = 8) -> Path:
    """Write a whole set; gives its folder."""
    num_classes = {"cifar10": 10, "cifar100": 100}[name]
    stem = {"cifar10": "cifar-10-batches-", "cifar100": "cifar-100-"}[name]
    end = {"cifar10": "bin", "cifar100": "binary"}[name] if is_binary else {"cifar10": "py", "cifar100": "python"}[name]
    files = (*CIFAR10_BATCHES, "test_batch") if name == "cifar10" else ("train", "test")
    folder = root / f"{stem}{end}"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, file in enumerate(files):
        images, labels = arrays(num_images, num_classes, seed)
        if is_binary:
            above = [labels // 5] if name == "cifar100" else []
            (folder / f"{file}.bin").write_bytes(records(images, *above, labels))
        else:
            key = "labels" if name == "cifar10" else "fine_labels"
            (folder / file).write_bytes(pickled(images, labels, key))
    if not is_binary:
        meta, key = ("batches.meta", "label_names") if name == "cifar10" else ("meta", "fine_label_names")
        (folder / meta).write_bytes(b"\x80\x02}" + text(key) + b"]s.")
    return folder
