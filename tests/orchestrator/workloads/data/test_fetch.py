from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import DataCorrupt, DataNotFound, UserError
from orchestrator.workloads.data import fetch as module
from orchestrator.workloads.data import locate
from orchestrator.workloads.data.fetch import DOWNLOADS, fetch
from tests.orchestrator.workloads.data.idx_files import write


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.delenv("TELEPORT_DATA", raising=False)

    def download(target: Path) -> Path:
        return write(target / "FashionMNIST" / "raw")

    monkeypatch.setitem(DOWNLOADS, "fashion_mnist", download)


def test_gets_what_is_not_here_and_leaves_what_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = fetch("fashion_mnist", str(tmp_path))
    assert place.folder == tmp_path / "FashionMNIST" / "raw"
    monkeypatch.setattr(module, "DOWNLOADS", {})
    assert fetch("fashion_mnist", str(tmp_path)) == place


def test_what_is_embedded_needs_no_fetching() -> None:
    assert fetch("digits").is_found


def test_a_damaged_file_is_known_at_once(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    with pytest.raises(DataCorrupt, match=r"t10k-labels-idx1-ubyte\.gz: expected an IDX file, found an empty one"):
        fetch("fashion_mnist", str(tmp_path))


def test_a_root_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"fashion_mnist: data\.root .*missing does not exist"):
        fetch("fashion_mnist", str(tmp_path / "missing"))


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="'mnist' is no data set"):
        fetch("mnist")
