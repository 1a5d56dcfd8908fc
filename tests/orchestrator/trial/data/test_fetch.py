from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import DataCorrupt, DataNotFound, UserError
from orchestrator.trial.data.fetch import fetch
from tests.orchestrator.trial.data.idx_files import write


def test_leaves_what_is_here(tmp_path: Path) -> None:
    folder = write(tmp_path / "FashionMNIST" / "raw")
    assert fetch("fashion_mnist", str(tmp_path)).folder == folder


@pytest.mark.parametrize("name", ["digits", "seq_digits", "synthetic", "text"])
def test_what_is_embedded_needs_no_fetching(name: str) -> None:
    assert fetch(name).is_found


def test_a_damaged_file_is_known_at_once(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    with pytest.raises(DataCorrupt, match=r"t10k-labels-idx1-ubyte\.gz: expected an IDX file, found an empty one"):
        fetch("fashion_mnist", str(tmp_path))


def test_a_root_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"fashion_mnist: data\.root .*missing does not exist"):
        fetch("fashion_mnist", str(tmp_path / "missing"))


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="'mnits' is no data set; did you mean 'mnist'"):
        fetch("mnits")
