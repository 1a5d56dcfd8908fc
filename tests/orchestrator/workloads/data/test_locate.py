from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.catalog import DATASETS
from orchestrator.errors import UserError
from orchestrator.workloads.data import locate as module
from orchestrator.workloads.data.locate import LOCATORS, locate
from tests.orchestrator.workloads.data.idx_files import write


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
        "import orchestrator.workloads.budget\n"
        "from orchestrator.workloads.data.locate import LOCATORS, locate\n"
        "[locate(name) for name in LOCATORS]\n"
        "print(sorted({'torch', 'numpy', 'sklearn', 'torchvision', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
