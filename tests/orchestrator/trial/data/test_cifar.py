from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.errors import DataCorrupt, UserError
from orchestrator.spec.options import DATASETS
from orchestrator.trial.data import cifar_file
from orchestrator.trial.data.cifar import load
from orchestrator.trial.data.cifar_file import read_batch
from orchestrator.trial.data.dataset import DataSet
from tests.orchestrator.trial.data.cifar_files import arrays, pickled, records, write

MEND = "mend it so"


def loaded(name: str, root: Path, **more: Any) -> DataSet:
    return load(DATASETS[name].options.model_validate({"name": name, "batch_size": 4, "root": str(root), **more}))  # type: ignore[arg-type]


@pytest.mark.parametrize("is_binary", [False, True], ids=["pickle", "binary"])
@pytest.mark.parametrize(("name", "sizes"), [("cifar10", (36, 4, 8)), ("cifar100", (7, 1, 8))])
def test_reads_what_was_written(tmp_path: Path, name: str, sizes: tuple[int, ...], is_binary: bool) -> None:
    folder = write(tmp_path, name, is_binary=is_binary)
    data = loaded(name, tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == sizes
    assert (data.input_shape, data.found) == ((3, 32, 32), str(folder))
    images, labels = arrays(8, data.num_classes, seed=0)
    assert data.train.targets[:7].tolist() == labels[:7].tolist()
    raw = torch.from_numpy(images[:7]).reshape(7, 3, 32, 32).double()
    for channel in range(3):
        ours = data.train.inputs[:7, channel].double()
        theirs = raw[:, channel]
        torch.testing.assert_close((ours - ours.mean()) / ours.std(), (theirs - theirs.mean()) / theirs.std())


def test_each_channel_is_normalised_by_the_training_split(tmp_path: Path) -> None:
    write(tmp_path, "cifar10")
    inputs = loaded("cifar10", tmp_path).train.inputs.double()
    assert inputs.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert inputs.std(dim=(0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], rel=1e-6)


def test_num_train_takes_the_first(tmp_path: Path) -> None:
    write(tmp_path, "cifar10")
    whole, part = loaded("cifar10", tmp_path), loaded("cifar10", tmp_path, num_train=5)
    assert part.train.targets.tolist() == whole.train.targets[:5].tolist()
    assert part.validation.targets.tolist() == whole.validation.targets.tolist()
    with pytest.raises(UserError, match=r"data\.num_train: 37 is more than the 36 training images"):
        loaded("cifar10", tmp_path, num_train=37)


def test_what_torchvision_reads_is_read_alike(tmp_path: Path) -> None:
    """The writer is right: torchvision's own way of reading gives the same."""
    path = write(tmp_path, "cifar10") / "data_batch_1"
    with path.open("rb") as file:
        theirs = pickle.load(file, encoding="latin1")
    ours = read_batch(path, "labels", 10, MEND)
    np.testing.assert_array_equal(ours.images.reshape(-1, 3072), theirs["data"])
    assert ours.labels.tolist() == theirs["labels"]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_python_3_pickled_again_is_read_too(tmp_path: Path, protocol: int) -> None:
    images, labels = arrays(3, 10)
    (tmp_path / "batch").write_bytes(pickle.dumps({"data": images, "labels": labels.tolist()}, protocol))
    ours = read_batch(tmp_path / "batch", "labels", 10, MEND)
    np.testing.assert_array_equal(ours.images.reshape(-1, 3072), images)
    assert ours.labels.tolist() == labels.tolist()


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch exploded",)


IMAGES, LABELS = arrays(3, 10)
GOOD = pickled(IMAGES, LABELS)
WIDE = np.zeros((3, 3073), np.uint8)
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "expected a pickled batch, but it is cut off"),
    "text": (b"<html>404 not found</html>", "expected a pickled batch, cannot read it"),
    "cut off": (GOOD[:-100], "expected a pickled batch"),
    "not a dictionary": (pickle.dumps([1, 2]), "expected a dictionary, found list"),
    "other keys": (pickled(IMAGES, LABELS, "fine_labels"), "expected entries data and labels, labels is not there"),
    "other shape": (pickled(WIDE, LABELS), "expected data of n x 3072, found 3 x 3073"),
    "no samples": (pickled(IMAGES[:0], LABELS[:0]), "expected data of n x 3072, found 0 x 3072"),
    "other type": (pickle.dumps({"data": IMAGES.astype("f4"), "labels": [1, 2, 3]}, 2), "unsigned bytes, found .*f4"),
    "no array": (pickle.dumps({"data": [1], "labels": [1]}, 2), "expected data to be an array of two dimensions"),
    "labels of text": (pickle.dumps({"data": IMAGES, "labels": ["a", 1, 2]}, 2), "labels to be a list of numbers"),
    "fewer labels": (pickled(IMAGES, LABELS[:2]), "expected 3 labels, one an image, found 2"),
    "a label too high": (pickled(IMAGES, np.array([1, 10, 2], np.uint8)), "expected labels 0 to 9, found 10 at 1"),
    "a label far too high": (pickle.dumps({"data": IMAGES, "labels": [1, 2, 1 << 70]}, 2), "found 1180.* at 2"),
    "short data": (GOOD.replace(b"J\x03\x00\x00\x00J", b"J\x04\x00\x00\x00J"), "expected 12288 bytes for 4 images"),
    "a program": (pickle.dumps(Bomb()), r"found the program \w+\.system: it was not run"),
    "a program in a batch": (pickle.dumps({"data": IMAGES, "labels": Bomb()}), r"system: it was not run"),
    "a harmless class": (pickle.dumps(OrderedDict(a=1)), r"found the program collections\.OrderedDict"),
    "another of numpy's": (b"cnumpy\nload\n(U\x01/tR.", r"found the program numpy\.load"),
    "absurd memo": (b"\x80\x02Nr\xff\xff\xff\xff.", "expected a dictionary, found NoneType"),
    "absurd length": (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.", "expected a pickled batch"),
    "a list as a key": (b"\x80\x02}](I1\nebK\x01s.", "expected a pickled batch, cannot read it"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_batch_is_named_with_what_was_expected_and_nothing_in_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content, expected = DAMAGED[name]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(DataCorrupt, match=expected) as caught:
        read_batch(path, "labels", 10, MEND)
    (fault,) = caught.value.faults
    assert fault.place == str(path)
    assert fault.message.endswith(MEND)
    assert [each.name for each in tmp_path.iterdir()] == ["data_batch_1"]


def test_a_pickle_cannot_change_what_stands_for_numpy(tmp_path: Path) -> None:
    """BUILD sets attributes of whatever is on the stack: there must be nothing of ours that lasts."""
    before = dict(cifar_file.NAMES)
    (tmp_path / "batch").write_bytes(b"\x80\x02cnumpy\ndtype\n}U\x04kindU\x05arraysb.")
    with pytest.raises(DataCorrupt, match="expected a"):
        read_batch(tmp_path / "batch", "labels", 10, MEND)
    assert before == cifar_file.NAMES
    (tmp_path / "batch").write_bytes(GOOD)
    assert len(read_batch(tmp_path / "batch", "labels", 10, MEND).labels) == 3


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_damaged_records_are_named(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, name, is_binary=True)
    path = folder / ("data_batch_1.bin" if name == "cifar10" else "train.bin")
    whole = path.read_bytes()
    size = 3073 if name == "cifar10" else 3074
    for content, expected in (
        (whole[:-1], f"expected records of {size} bytes, found {len(whole) - 1} bytes; mend it by removing"),
        (b"", f"expected records of {size} bytes, found 0"),
        (records(IMAGES, LABELS, np.full(3, 200, np.uint8))[: size * 3], "expected (labels|records)"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataCorrupt, match=expected):
            loaded(name, tmp_path)


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    (write(tmp_path, "cifar10") / "data_batch_3").unlink()
    with pytest.raises(DataCorrupt, match=r"cifar-10-batches-py: expected data_batch_3 beside the other files"):
        loaded("cifar10", tmp_path)


def test_what_is_no_file_and_what_is_too_large_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(GOOD)
    monkeypatch.setattr(cifar_file, "MAX_BYTES", 100)
    for name, expected in (("pipe", "something else"), ("folder", "a directory"), ("large", "at most 100 bytes")):
        with pytest.raises(DataCorrupt, match=expected):
            read_batch(tmp_path / name, "labels", 10, MEND)
