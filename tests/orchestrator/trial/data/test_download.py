from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from torchvision import datasets

from orchestrator.errors import DataNotFound
from orchestrator.spec.options import DATASETS
from orchestrator.trial.data import http as http_module
from orchestrator.trial.data.download import DOWNLOADABLE, download
from orchestrator.trial.data.fetch import fetch
from orchestrator.trial.data.http import Watch
from orchestrator.trial.data.http import get as over_http
from orchestrator.trial.data.images import find
from orchestrator.trial.data.locations import IDX_FILES, LAYOUTS
from orchestrator.trial.data.releases import Published, md5_of, release_of
from tests.orchestrator.trial.data import cifar_files
from tests.orchestrator.trial.data.idx_files import write
from tests.orchestrator.trial.data.mirror import Mirror, serving

KINDS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Serves small sets in the published form; torchvision's classes name it and its checksums."""
    folder = write(tmp_path / "mirror")
    sums = [(f"{name}.gz", md5_of(folder / f"{name}.gz")) for name in IDX_FILES]
    with serving(folder) as mirror:
        for kind in ("MNIST", "FashionMNIST"):
            monkeypatch.setattr(getattr(datasets, kind), "mirrors", [f"{mirror.url}none/", mirror.url])
            monkeypatch.setattr(getattr(datasets, kind), "resources", sums)
        for name in ("cifar10", "cifar100"):
            publish(name, tmp_path, mirror, monkeypatch)
        monkeypatch.setattr(http_module, "get", over_http)
        yield mirror


def publish(name: str, tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = getattr(datasets, KINDS[name])
    content = cifar_files.write(tmp_path / "content", name)
    archive = mirror.folder / kind.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(content, arcname=kind.base_folder)
        # What no archive of this set holds is not taken out of it.
        for evil in ("../outside", "/tmp/outside", f"{kind.base_folder}/../../outside"):
            member = tarfile.TarInfo(evil)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
    layout = LAYOUTS[name][0]
    monkeypatch.setattr(kind, "url", f"{mirror.url}{kind.filename}")
    monkeypatch.setattr(kind, "tgz_md5", md5_of(archive))
    monkeypatch.setattr(kind, "train_list", [[file, md5_of(content / file)] for file in layout.train])
    monkeypatch.setattr(kind, "test_list", [[file, md5_of(content / file)] for file in layout.test])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5_of(content / kind.meta["filename"])})


def test_torchvision_knows_where_each_is_published() -> None:
    assert KINDS.keys() == DOWNLOADABLE
    for name in DOWNLOADABLE:
        for published in release_of(name).downloads:
            assert published.urls
            assert all(url.startswith("http") and url.endswith(published.name) for url in published.urls)
            assert len(published.md5) == 32


@pytest.mark.parametrize("name", KINDS)
def test_fetches_into_torchvisions_layout_and_leaves_nothing_else(tmp_path: Path, mirror: Mirror, name: str) -> None:
    (tmp_path / "root").mkdir()
    seen: dict[str, int] = {}
    place = fetch(name, str(tmp_path / "root"), lambda file, num_done, num_total: seen.update({file: num_done}))
    folder = tmp_path / "root" / LAYOUTS[name][0].folder
    assert place.folder == folder
    assert {path.name for path in folder.iterdir()} >= set(LAYOUTS[name][0].files)
    top = folder.relative_to(tmp_path / "root").parts[0]
    assert [path.name for path in (tmp_path / "root").iterdir()] == [top]
    assert not list(tmp_path.glob("**/outside"))
    assert seen
    assert all(num_done > 0 for num_done in seen.values())
    num_asked = len(mirror.asked)
    assert fetch(name, str(tmp_path / "root")) == place
    assert len(mirror.asked) == num_asked


def test_torchvision_itself_finds_what_was_fetched(tmp_path: Path, mirror: Mirror) -> None:
    for name, kind in KINDS.items():
        download(name, tmp_path / "root")
        assert len(getattr(datasets, kind)(str(tmp_path / "root"), train=False)) > 0


def test_a_sequence_is_fetched_as_its_images(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "root").mkdir()
    place = fetch("seq_mnist", str(tmp_path / "root"))
    assert place.folder == tmp_path / "root" / "MNIST" / "raw"


def test_a_fetch_that_is_cut_off_goes_on_later_and_the_root_is_never_half_written(
    tmp_path: Path, mirror: Mirror
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    mirror.has_ranges, mirror.cut_after, mirror.num_cuts = False, 3000, 100
    with pytest.raises(DataNotFound, match=r"the download into .*root failed: .*cut off after 3000 of"):
        fetch("cifar10", str(root))
    assert [path.name for path in root.iterdir()] == [".incoming"]
    mirror.has_ranges, mirror.num_cuts = True, 0
    mirror.asked.clear()
    fetch("cifar10", str(root))
    assert mirror.asked == [("/cifar-10-python.tar.gz", "bytes=3000-")]
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-py"]


def test_wrong_bytes_end_in_an_error_and_not_in_a_root(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir()
    monkeypatch.setattr(datasets.MNIST, "resources", [(f"{name}.gz", "0" * 32) for name in IDX_FILES])
    with pytest.raises(DataNotFound, match=r"none/train-images-idx3-ubyte.gz: .*404.*the md5 \w+, expected 0000"):
        fetch("mnist", str(tmp_path / "root"))
    assert list((tmp_path / "root").iterdir()) == []


def test_an_archive_that_lacks_a_file_or_has_another_is_refused(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = datasets.CIFAR10.train_list
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [*lists, ["data_batch_6", "0" * 32]])
    with pytest.raises(DataNotFound, match=r"cifar-10-python\.tar\.gz has no cifar-10-batches-py/data_batch_6"):
        download("cifar10", tmp_path / "root")
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, "0" * 32] for name, _ in lists])
    with pytest.raises(DataNotFound, match=r"data_batch_1 in cifar-10-python\.tar\.gz has the md5 \w+, expected 0000"):
        download("cifar10", tmp_path / "root")
    assert not (tmp_path / "root" / "cifar-10-batches-py").exists()


def test_an_archive_that_cannot_be_unpacked_is_refused(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"no archive", gzip.compress(b"no archive either"), gzip.compress(b"cut off")[:-9]):
        (mirror.folder / "cifar-10-python.tar.gz").write_bytes(content)
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
        with pytest.raises(DataNotFound, match=r"the download into .*root failed"):
            download("cifar10", tmp_path / "root")
        shutil.rmtree(tmp_path / "root")


def test_a_set_that_is_nowhere_is_downloaded_and_found_again_after_debian(
    tmp_path: Path, mirror: Mirror, bare_machine: Path
) -> None:
    folder = find("fashion_mnist")
    assert folder == tmp_path / "cache" / "data" / "FashionMNIST" / "raw"
    num_asked = len(mirror.asked)
    assert find("fashion_mnist") == folder
    assert len(mirror.asked) == num_asked
    write(bare_machine)
    assert find("fashion_mnist") == bare_machine


def test_without_network_no_trace_is_left(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"mnist is nowhere: .* torchvision's source: .* no network to"):
        find("mnist")
    assert not (tmp_path / "cache" / "data").exists()


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataNotFound, match=r"the download into .*file failed: .*Not a directory"):
        download("mnist", tmp_path / "file")


def test_of_two_at_once_one_downloads_and_the_other_waits(tmp_path: Path, mirror: Mirror) -> None:
    asked: list[str] = []
    is_first = threading.Event()

    def slow(published: Published, folder: Path, watch: Watch) -> Path:
        asked.append(published.name)
        is_first.set()
        return over_http(published, folder, watch)

    first = threading.Thread(target=lambda: download("mnist", tmp_path / "root", get=slow))
    first.start()
    assert is_first.wait(10)
    folder = download("mnist", tmp_path / "root", get=slow)
    first.join()
    assert sorted(asked) == sorted(f"{name}.gz" for name in IDX_FILES)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["MNIST"]
    assert DATASETS["mnist"].load()(DATASETS["mnist"].options.model_validate(
        {"name": "mnist", "batch_size": 1, "root": str(tmp_path / "root")}
    )).found == str(folder)  # fmt: skip
