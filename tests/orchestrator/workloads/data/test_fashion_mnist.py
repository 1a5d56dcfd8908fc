from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.catalog.datasets import FashionMnistOptions
from orchestrator.errors import DataCorrupt, DataNotFound, UserError
from orchestrator.workloads.data import download, fashion_mnist, locate
from orchestrator.workloads.data.fashion_mnist import find, load
from orchestrator.workloads.data.locate import FASHION_MNIST_FILES
from tests.orchestrator.workloads.data.idx_files import arrays, write


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data anywhere and no network, whatever this machine has; gives Debian's folder, still empty."""
    debian = tmp_path / "usr" / "fashion-mnist"
    for module in (locate, fashion_mnist):
        monkeypatch.setattr(module, "DEBIAN_FOLDER", debian)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TELEPORT_DATA", raising=False)
    monkeypatch.setattr(download, "_fetch_by_torchvision", no_network)
    return debian


def no_network(root: Path) -> None:
    raise RuntimeError("no network to http://mirror")


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
    assert find() == bare_machine
    named = write(tmp_path / "variable")
    monkeypatch.setenv("TELEPORT_DATA", str(named))
    assert find() == named
    spec = write(tmp_path / "spec")
    assert find(str(spec)) == spec


def test_a_root_without_the_files_sends_on_to_debian(tmp_path: Path, bare_machine: Path) -> None:
    write(bare_machine)
    assert find(str(tmp_path)) == bare_machine


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
        find(None if is_variable else missing, lambda root: pytest.fail("a mistake was papered over"))
    assert not Path(missing).exists()


def test_a_root_that_is_a_file_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataNotFound, match="file is no directory"):
        find(str(tmp_path / "file"))


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


def test_without_a_root_the_download_goes_to_the_cache_and_is_found_again_after_debian(
    tmp_path: Path, bare_machine: Path
) -> None:
    def whole(staging: Path) -> None:
        write(staging / "FashionMNIST" / "raw", is_gz=False)

    folder = find(None, whole)
    assert folder == tmp_path / "cache" / "teleport" / "data" / "FashionMNIST" / "raw"
    assert find(None, no_network) == folder
    assert sorted(path.name for path in folder.parent.iterdir()) == ["raw"]
    write(bare_machine)
    assert find(None, no_network) == bare_machine


def test_a_download_that_is_cut_off_leaves_no_half_root(tmp_path: Path) -> None:
    def cut_off(staging: Path) -> None:
        write(staging / "FashionMNIST" / "raw", is_gz=False)
        raise RuntimeError("File not found or corrupted.")

    with pytest.raises(DataNotFound, match=r"the download into .* failed: File not found or corrupted"):
        find(None, cut_off)
    assert not (tmp_path / "cache" / "teleport" / "data").exists()


def test_a_download_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    def lacks_one(staging: Path) -> None:
        write(staging / "FashionMNIST" / "raw", is_gz=False)
        (staging / "FashionMNIST" / "raw" / FASHION_MNIST_FILES[2]).unlink()

    with pytest.raises(DataNotFound, match="t10k-images-idx3-ubyte did not come"):
        find(None, lacks_one)
    assert not (tmp_path / "cache" / "teleport" / "data").exists()


def test_two_downloads_at_once_end_with_one_whole_root(tmp_path: Path) -> None:
    def overtaken(staging: Path) -> None:
        write(staging / "FashionMNIST" / "raw", is_gz=False)
        write(tmp_path / "cache/teleport/data/FashionMNIST/raw", is_gz=False)

    folder = find(None, overtaken)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FASHION_MNIST_FILES)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["raw"]


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


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A server on this machine with the four gz files."""
    folder = write(tmp_path / "mirror")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_torchvisions_own_download_is_what_is_called(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import FashionMNIST
    from torchvision.datasets.utils import calculate_md5

    sums = [(f"{name}.gz", calculate_md5(str(tmp_path / "mirror" / f"{name}.gz"))) for name in FASHION_MNIST_FILES]
    monkeypatch.undo()
    monkeypatch.setattr(FashionMNIST, "mirrors", [mirror])
    monkeypatch.setattr(FashionMNIST, "resources", sums)
    monkeypatch.setattr(locate, "DEBIAN_FOLDER", tmp_path / "none")
    (tmp_path / "root").mkdir()
    assert len(load(options(root=str(tmp_path / "root"))).train) == 44

    # Its checksums guard the download: a mirror that serves something else ends in an error, not in a root.
    monkeypatch.setattr(FashionMNIST, "resources", [(name, "0" * 32) for name, _ in sums])
    (tmp_path / "other").mkdir()
    with pytest.raises(DataNotFound, match=r"torchvision: the download into .*other failed"):
        load(options(root=str(tmp_path / "other")))
    assert list((tmp_path / "other").iterdir()) == []


def test_a_server_that_never_answers_is_not_waited_for() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(RuntimeError, match=r"no (answer from|network to) http://127"):
            download.check_answers(url, seconds=0.2)


def test_looking_up_a_name_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver knows no timeout."""
    released = threading.Event()

    def never_resolved(request: object, timeout: float) -> None:
        released.wait(20.0)
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", never_resolved)
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"no answer from http://mirror/ in 0\.1 s"):
        download.check_answers("http://mirror/", seconds=0.1)
    assert time.monotonic() - started < 10.0
    released.set()
