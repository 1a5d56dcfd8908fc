from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.errors import DataCorrupt, DataNotFound, UserError
from orchestrator.spec.options.datasets import FashionMnistOptions, MnistOptions
from orchestrator.trial.data.images import find
from orchestrator.trial.data.mnist import load
from tests.orchestrator.trial.data.idx_files import arrays, write

FASHION = "fashion_mnist"


def options(**more: Any) -> FashionMnistOptions:
    return FashionMnistOptions.model_validate({"name": "fashion_mnist", "batch_size": 8, **more})


@pytest.mark.parametrize("is_gz", [True, False], ids=["gz", "plain"])
@pytest.mark.parametrize("layout", ["FashionMNIST/raw", "."])
def test_loads_from_a_root_in_either_layout(tmp_path: Path, layout: str, is_gz: bool) -> None:
    files = arrays(num_train=48, num_test=12)
    folder = write(tmp_path / "root" / layout, files, is_gz=is_gz)
    data = load(options(root=str(tmp_path / "root")))
    assert data.found == str(folder)
    assert (len(data.train), len(data.validation), len(data.test)) == (44, 4, 12)
    assert data.train.inputs.shape == (44, *data.input_shape) == (44, 1, 28, 28)
    assert data.train.inputs.dtype == torch.float32
    labels = [int(label) for label in files["train-labels-idx1-ubyte"]]
    assert data.train.targets.tolist() == labels[:44]
    assert data.validation.targets.tolist() == labels[44:]
    assert data.num_classes == 10


def test_is_normalised_by_the_training_split_alone(tmp_path: Path) -> None:
    files = arrays()
    files["t10k-images-idx3-ubyte"][:] = 255
    write(tmp_path, files)
    data = load(options(root=str(tmp_path)))
    assert data.train.inputs.double().mean().item() == pytest.approx(0, abs=1e-6)
    assert data.train.inputs.double().std(correction=0).item() == pytest.approx(1, rel=1e-6)
    raw = torch.from_numpy(files["train-images-idx3-ubyte"][:44]).double()
    white = (255 - raw.mean()) / raw.std(correction=0)
    assert torch.unique(data.test.inputs).tolist() == pytest.approx([white.item()])


def test_the_root_of_the_spec_comes_before_the_variable_before_debian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare_machine: Path
) -> None:
    write(bare_machine)
    assert find(FASHION) == bare_machine
    named = write(tmp_path / "variable")
    monkeypatch.setenv("TELEPORT_DATA", str(named))
    assert find(FASHION) == named
    spec = write(tmp_path / "spec")
    assert find(FASHION, str(spec)) == spec


def test_a_root_without_the_files_sends_on_to_debian(tmp_path: Path, bare_machine: Path) -> None:
    write(bare_machine)
    assert find(FASHION, str(tmp_path)) == bare_machine


def test_a_damaged_file_is_no_reason_to_look_further(tmp_path: Path, bare_machine: Path) -> None:
    write(bare_machine)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "t10k-labels-idx1-ubyte").write_bytes(b"")
    with pytest.raises(DataCorrupt, match=r"root: expected train-images-idx3-ubyte .* teleport data fetch"):
        load(options(root=str(tmp_path / "root")))


def test_debians_files_are_mended_by_apt(bare_machine: Path) -> None:
    write(bare_machine)
    (bare_machine / "train-images-idx3-ubyte.gz").write_bytes(b"")
    with pytest.raises(DataCorrupt, match="empty one; mend it by apt-get install --reinstall"):
        load(options())


@pytest.mark.parametrize("is_variable", [True, False], ids=["variable", "spec"])
def test_a_root_that_does_not_exist_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare_machine: Path, is_variable: bool
) -> None:
    write(bare_machine)
    missing = str(tmp_path / "missing")
    if is_variable:
        monkeypatch.setenv("TELEPORT_DATA", missing)
    with pytest.raises(DataNotFound, match=r"(data\.root|\$TELEPORT_DATA) .*missing does not exist"):
        find(FASHION, None if is_variable else missing)
    assert not Path(missing).exists()


def test_a_root_that_is_a_file_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataNotFound, match="file is no directory"):
        find(FASHION, str(tmp_path / "file"))


def test_found_nowhere_says_all_three_places_and_leaves_no_trace(tmp_path: Path, bare_machine: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(DataNotFound) as caught:
        load(options(root=str(root)))
    message = str(caught.value)
    for part in (str(root), str(bare_machine), "apt-get install dataset-fashion-mnist", "teleport data fetch",
                 "no network"):  # fmt: skip
        assert part in message
    assert list(root.iterdir()) == []


def test_num_train_takes_the_first_and_leaves_validation_as_it_is(tmp_path: Path) -> None:
    write(tmp_path)
    whole, part = load(options(root=str(tmp_path))), load(options(root=str(tmp_path), num_train=10))
    assert part.train.targets.tolist() == whole.train.targets[:10].tolist()
    assert part.validation.targets.tolist() == whole.validation.targets.tolist()
    # The same images, normalised by another split: the same up to scale and offset.
    ours, theirs = ((x - x.mean()) / x.std() for x in (part.validation.inputs, whole.validation.inputs))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_more_training_images_than_there_are_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match=r"data\.num_train: 45 is more than the 44 training images"):
        load(options(root=str(tmp_path), num_train=45))


def test_mnist_is_read_by_the_same_rules_from_its_own_folder(tmp_path: Path) -> None:
    files = arrays()
    folder = write(tmp_path / "MNIST" / "raw", files)
    write(tmp_path / "FashionMNIST" / "raw", arrays(num_train=12))
    data = load(MnistOptions(name="mnist", batch_size=8, root=str(tmp_path)))
    assert data.found == str(folder)
    assert len(data.train) == 44
    assert data.train.targets.tolist() == files["train-labels-idx1-ubyte"][:44].tolist()


def test_loose_files_are_never_taken_for_mnist(tmp_path: Path) -> None:
    """FashionMNIST's files have the same names, and a set in a wrong name is a wrong result."""
    write(tmp_path)
    with pytest.raises(DataNotFound, match=r"mnist is nowhere: .*put the four IDX files into ROOT/MNIST/raw"):
        load(MnistOptions(name="mnist", batch_size=8, root=str(tmp_path)))
