from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.spec.options import DATASETS
from orchestrator.spec.options.datasets import TextOptions
from orchestrator.trial.data import locations as module
from orchestrator.trial.data.locations import LOCATORS, locate, locate_for
from tests.orchestrator.trial.data import cifar_files
from tests.orchestrator.trial.data.idx_files import write


def test_every_data_set_can_be_located() -> None:
    assert LOCATORS.keys() == DATASETS.keys()


def test_digits_are_embedded() -> None:
    place = locate("digits")
    assert place.is_found
    assert (Path(str(place)) / "digits.csv.gz").is_file()


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="'digit' is no data set; did you mean 'digits'"):
        locate("digit")


def test_a_place_is_found_by_its_files_and_a_damaged_one_counts(tmp_path: Path) -> None:
    folder = write(tmp_path / "FashionMNIST" / "raw")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"")
    place = locate("fashion_mnist", str(tmp_path))
    assert (place.is_found, place.folder, place.reason) == (True, folder, "")


def test_what_is_missing_is_a_reason_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEBIAN_FOLDER", tmp_path / "debian")
    place = locate("fashion_mnist", str(tmp_path))
    assert not place.is_found
    assert str(place).startswith(f"not found: looked in {tmp_path} (from data.root), in {tmp_path / 'debian'}")
    assert locate("fashion_mnist", str(tmp_path / "missing")).reason.endswith("missing does not exist")


def test_locating_imports_neither_torch_nor_numpy_nor_scikit_learn() -> None:
    program = (
        "import sys\n"
        "import orchestrator.trial.clock\n"
        "from orchestrator.trial.data.locations import LOCATORS, locate\n"
        "[locate(name) for name in LOCATORS]\n"
        "print(sorted({'torch', 'numpy', 'sklearn', 'torchvision', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sequences_lie_where_their_images_lie(tmp_path: Path) -> None:
    folder = write(tmp_path / "MNIST" / "raw")
    place = locate("seq_mnist", str(tmp_path))
    assert (place.name, place.folder) == ("seq_mnist", folder)


def test_a_text_is_located_by_its_name(tmp_path: Path) -> None:
    def text(file: str) -> TextOptions:
        return TextOptions(name="text", batch_size=1, file=file, root=str(tmp_path))

    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "mine.txt").write_text("a b c")
    assert str(locate_for(text("mine"))) == str(tmp_path / "text" / "mine.txt")
    assert not locate_for(text("other")).is_found
    assert "other.txt does not exist; put a UTF-8 text there" in str(locate_for(text("other")))
    assert "mine" in str(locate("text", str(tmp_path)))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("is_binary", [False, True])
def test_both_forms_of_cifar_are_known(tmp_path: Path, name: str, is_binary: bool) -> None:
    folder = cifar_files.write(tmp_path, name, is_binary=is_binary)
    assert locate(name, str(tmp_path)).folder == folder
