from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import DataCorrupt
from orchestrator.trial.data.idx import read_idx, read_pair
from tests.orchestrator.trial.data.idx_files import arrays, idx_bytes, write

IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"
MEND = "mend it so"


@pytest.mark.parametrize("is_gz", [True, False], ids=["gz", "plain"])
def test_reads_what_was_written(tmp_path: Path, is_gz: bool) -> None:
    files = arrays()
    write(tmp_path, files, is_gz=is_gz)
    images, labels = read_pair(tmp_path, "train", (28, 28), 10, MEND)
    np.testing.assert_array_equal(images, files[IMAGES])
    np.testing.assert_array_equal(labels, files[LABELS])


def test_the_bytes_and_not_the_name_tell_whether_it_is_compressed(tmp_path: Path) -> None:
    labels = arrays()[LABELS]
    (tmp_path / LABELS).write_bytes(gzip.compress(idx_bytes(labels)))
    np.testing.assert_array_equal(read_idx(tmp_path, LABELS, (), MEND), labels)
    (tmp_path / LABELS).unlink()
    (tmp_path / f"{LABELS}.gz").write_bytes(idx_bytes(labels))
    np.testing.assert_array_equal(read_idx(tmp_path, LABELS, (), MEND), labels)


GOOD = idx_bytes(arrays()[IMAGES])
GZ = gzip.compress(GOOD, compresslevel=1)
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "expected an IDX file, found an empty one"),
    "text": (b"<html>404 not found</html>", "begins with 00000803, found 3c68746d"),
    "label magic": (idx_bytes(arrays()[LABELS]), "begins with 00000803, found 00000801"),
    "header cut off": (GOOD[:9], "expected a header of 16 bytes, found 9"),
    "cut off": (GOOD[:-1], "expected 37632 bytes for 48 samples, found 37631: it is cut off"),
    "too long": (GOOD + b"\0", "expected 37632 bytes for 48 samples, found more"),
    "other size": (idx_bytes(np.zeros((4, 32, 32), np.uint8)), "expected samples of 28x28, found 32x32"),
    "no samples": (idx_bytes(np.zeros((0, 28, 28), np.uint8)), "expected samples, found none"),
    "absurd count": (GOOD[:4] + struct.pack(">I", 2**32 - 1) + GOOD[8:], "found 37632: it is cut off"),
    "gz cut off": (GZ[: len(GZ) // 2], "expected gz data, but it is cut off"),
    "gz without its end": (GZ[:-4], "expected gz data, but it is cut off"),
    "gz with a wrong checksum": (GZ[:-8] + b"\1\2\3\4" + GZ[-4:], "cannot unpack it .*CRC"),
    "gz damaged": (GZ[:200] + bytes(200) + GZ[400:], "expected gz data, cannot unpack it"),
    "gz of nothing": (gzip.compress(b""), "found an empty one"),
    "gz then rubbish": (GZ + b"rubbish", "expected gz data, cannot unpack it"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named_with_what_was_expected_and_the_cure(tmp_path: Path, name: str) -> None:
    content, expected = DAMAGED[name]
    path = tmp_path / f"{IMAGES}.gz"
    path.write_bytes(content)
    with pytest.raises(DataCorrupt, match=expected) as caught:
        read_idx(tmp_path, IMAGES, (28, 28), MEND)
    (fault,) = caught.value.faults
    assert fault.place == str(path)
    assert fault.message.endswith(MEND)


NO_FILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "directory": (Path.mkdir, "expected a file, found a directory"),
    "named pipe": (os.mkfifo, "expected a file, found something else"),
    "broken link": (lambda path: path.symlink_to("nowhere"), "No such file"),
}


@pytest.mark.parametrize("name", NO_FILE)
def test_what_is_no_file_is_damaged_and_never_waited_for(tmp_path: Path, name: str) -> None:
    make, expected = NO_FILE[name]
    make(tmp_path / IMAGES)
    with pytest.raises(DataCorrupt, match=expected):
        read_idx(tmp_path, IMAGES, (28, 28), MEND)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)

    # Permission bits do not stop root, as which continuous integration often runs.
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataCorrupt, match=f"{IMAGES}.gz: cannot be read .Permission denied.; {MEND}"):
        read_idx(tmp_path, IMAGES, (28, 28), MEND)


def test_a_missing_file_beside_others_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / f"{LABELS}.gz").unlink()
    with pytest.raises(DataCorrupt, match=f"expected {LABELS} or {LABELS}.gz beside the other files"):
        read_pair(tmp_path, "train", (28, 28), 10, MEND)


def test_images_and_labels_must_be_as_many(tmp_path: Path) -> None:
    files = arrays()
    write(tmp_path, files | {LABELS: files[LABELS][:-3]})
    with pytest.raises(DataCorrupt, match=f"{LABELS}: expected 48 labels, one an image, found 45; {MEND}"):
        read_pair(tmp_path, "train", (28, 28), 10, MEND)


def test_labels_must_be_classes(tmp_path: Path) -> None:
    files = arrays()
    files[LABELS][7] = 10
    write(tmp_path, files)
    with pytest.raises(DataCorrupt, match=f"{LABELS}: expected labels 0 to 9, found 10 at 7; {MEND}"):
        read_pair(tmp_path, "train", (28, 28), 10, MEND)
