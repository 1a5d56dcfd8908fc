from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from torchvision import datasets

from orchestrator.errors import DataCorrupt, DataNotFound, UserError
from orchestrator.trial.data import download as module
from orchestrator.trial.data.download import DOWNLOADABLE, Published, download, fetch
from orchestrator.trial.data.download import retrieve as over_http
from orchestrator.trial.data.images import find
from orchestrator.trial.data.locations import IDX_FILES, LAYOUTS
from tests.orchestrator.trial.data import cifar_files
from tests.orchestrator.trial.data.idx_files import write
from tests.orchestrator.trial.data.mirror import Mirror, serving


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


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
            publish(name, cifar_files.write(tmp_path / "content", name), mirror, monkeypatch)
        monkeypatch.setattr(module, "retrieve", over_http)
        yield mirror


def publish(
    name: str, content: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, also: tuple[str, ...] = ()
) -> None:
    """Put an archive on the mirror, with further members where asked."""
    kind = getattr(datasets, DOWNLOADABLE[name])
    archive = mirror.folder / kind.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(content, arcname=kind.base_folder)
        for path in also:
            member = tarfile.TarInfo(path)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
    layout = LAYOUTS[name][0]
    monkeypatch.setattr(kind, "url", f"{mirror.url}{kind.filename}")
    monkeypatch.setattr(kind, "tgz_md5", md5_of(archive))
    # torchvision checks the files one by one when it opens them.
    monkeypatch.setattr(kind, "train_list", [[file, md5_of(content / file)] for file in layout.train])
    monkeypatch.setattr(kind, "test_list", [[file, md5_of(content / file)] for file in layout.test])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5_of(content / kind.meta["filename"])})


@pytest.mark.parametrize("name", DOWNLOADABLE)
def test_torchvision_knows_where_each_is_published(name: str) -> None:
    for published in module._published(getattr(datasets, DOWNLOADABLE[name])):
        assert published.urls
        assert all(url.startswith("http") and url.endswith(published.name) for url in published.urls)
        assert len(published.md5) == 32


@pytest.mark.parametrize("name", DOWNLOADABLE)
def test_fetches_into_torchvisions_layout_and_leaves_nothing_else(tmp_path: Path, mirror: Mirror, name: str) -> None:
    (tmp_path / "root").mkdir()
    place = fetch(name, str(tmp_path / "root"))
    folder = tmp_path / "root" / LAYOUTS[name][0].folder
    assert place.folder == folder
    assert {path.name for path in folder.iterdir()} >= set(LAYOUTS[name][0].files)
    top = folder.relative_to(tmp_path / "root").parts[0]
    assert [path.name for path in (tmp_path / "root").iterdir()] == [top]
    num_asked = len(mirror.asked)
    assert fetch(name, str(tmp_path / "root")) == place
    assert len(mirror.asked) == num_asked
    assert len(getattr(datasets, DOWNLOADABLE[name])(str(tmp_path / "root"), train=False)) > 0, "torchvision reads it"


def test_a_terminal_sees_a_bar_and_a_log_sees_lines(
    tmp_path: Path, mirror: Mirror, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    download("cifar10", tmp_path / "log", show_progress=True)
    assert "%|" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    download("cifar10", tmp_path / "terminal", show_progress=True)
    captured = capsys.readouterr()
    assert "100%|" in captured.err
    assert captured.out == ""


def test_a_sequence_is_fetched_as_its_images(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "root").mkdir()
    place = fetch("seq_mnist", str(tmp_path / "root"))
    assert place.folder == tmp_path / "root" / "MNIST" / "raw"


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


def test_a_download_that_is_cut_off_leaves_no_trace_and_the_next_one_succeeds(tmp_path: Path, mirror: Mirror) -> None:
    root = tmp_path / "root"
    root.mkdir()
    mirror.cut_after = 3000
    with pytest.raises(DataNotFound, match=r"the download into .*root failed: http.*cifar-10-python\.tar\.gz: .*3000"):
        fetch("cifar10", str(root))
    assert list(root.iterdir()) == []
    mirror.cut_after = None
    fetch("cifar10", str(root))
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-py"]


def test_what_a_killed_download_left_is_removed_by_the_next(tmp_path: Path, mirror: Mirror) -> None:
    left = tmp_path / "root" / ".incoming-killed"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half")
    download("cifar10", tmp_path / "root")
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["cifar-10-batches-py"]


def test_wrong_bytes_end_in_an_error_that_names_every_address_and_not_in_a_root(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir()
    monkeypatch.setattr(datasets.MNIST, "resources", [(f"{name}.gz", "0" * 32) for name in IDX_FILES])
    match = (
        r"none/train-images-idx3-ubyte\.gz: 404.*; http.*/train-images-idx3-ubyte\.gz: MD5 hash .* expected md5:0000"
    )
    with pytest.raises(DataNotFound, match=match):
        fetch("mnist", str(tmp_path / "root"))
    assert list((tmp_path / "root").iterdir()) == []


def test_an_archive_that_lacks_a_file_is_refused(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = mirror.folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "content" / "cifar-10-batches-py" / "test_batch", "cifar-10-batches-py/test_batch")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5_of(archive))
    with pytest.raises(DataNotFound, match=r"data_batch_1, .*data_batch_5 did not come"):
        download("cifar10", tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_an_archive_that_would_write_outside_is_refused(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tmp_path / "content" / "cifar-10-batches-py"
    publish("cifar10", content, mirror, monkeypatch, also=("cifar-10-batches-py/../../../../outside",))
    with pytest.raises(DataNotFound, match=r"the download into .*root failed: .*outside"):
        download("cifar10", tmp_path / "root")
    assert not list(tmp_path.glob("**/outside"))


def test_an_archive_that_cannot_be_unpacked_is_refused(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"no archive", gzip.compress(b"no archive either"), gzip.compress(b"cut off")[:-9]):
        (mirror.folder / "cifar-10-python.tar.gz").write_bytes(content)
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
        with pytest.raises(DataNotFound, match=r"the download into .*root failed"):
            download("cifar10", tmp_path / "root")
        assert list((tmp_path / "root").iterdir()) == []


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


def test_without_a_network_each_address_is_named_and_no_file_is_left(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/one", "http://127.0.0.1:9/two"])
    match = r"mnist is nowhere: .* torchvision's source: .*:9/one/train\S+: .*refused.*; .*:9/two/train\S+: .*refused"
    with pytest.raises(DataNotFound, match=match):
        find("mnist")
    assert list((tmp_path / "cache" / "data").iterdir()) == []


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataNotFound, match=r"the download into .*file failed: .*File exists"):
        download("mnist", tmp_path / "file")


def test_of_two_at_once_one_downloads_and_the_other_waits(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    is_first = threading.Event()

    def noted(published: Published, folder: Path, show_progress: bool) -> Path:
        asked.append(published.name)
        is_first.set()
        return over_http(published, folder, show_progress)

    monkeypatch.setattr(module, "retrieve", noted)
    first = threading.Thread(target=lambda: download("mnist", tmp_path / "root"))
    first.start()
    assert is_first.wait(60)
    folder = download("mnist", tmp_path / "root")
    first.join()
    assert sorted(asked) == sorted(f"{name}.gz" for name in IDX_FILES)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["MNIST"]
    assert folder == tmp_path / "root" / "MNIST" / "raw"
