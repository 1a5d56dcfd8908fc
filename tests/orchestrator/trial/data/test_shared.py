from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from orchestrator.errors import DataCorrupt
from orchestrator.spec.options.datasets import FashionMnistOptions
from orchestrator.trial.data import mnist, shared
from orchestrator.trial.data.dataset import DataSet
from tests.orchestrator.trial.data.idx_files import arrays, write

LABELS = "train-labels-idx1-ubyte"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "root" / "FashionMNIST" / "raw")
    return tmp_path / "root"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time the files are read."""
    found: list[str] = []
    read = mnist._read

    def counted(options: FashionMnistOptions, folder: Path) -> DataSet:
        found.append(str(folder))
        return read(options, folder)

    monkeypatch.setattr(mnist, "_read", counted)
    return found


def load(root: Path, num_train: int | None = None, batch_size: int = 8) -> DataSet:
    return mnist.load(
        FashionMnistOptions(name="fashion_mnist", batch_size=batch_size, root=str(root), num_train=num_train)
    )


def entries(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "cache" / "tensors").iterdir() if path.is_dir())


def test_files_are_read_once_whatever_the_batch_size(root: Path, tmp_path: Path, reads: list[str]) -> None:
    first, second = load(root), load(root, batch_size=16)
    assert len(reads) == len(entries(tmp_path)) == 1
    assert torch.equal(first.train.inputs, second.train.inputs)
    load(root, num_train=10)
    assert len(reads) == len(entries(tmp_path)) == 2


def test_what_a_trial_writes_into_its_tensors_stays_with_it(root: Path) -> None:
    mine = load(root)
    before = mine.train.inputs.clone()
    mine.train.inputs.zero_()
    assert torch.equal(load(root).train.inputs, before)


def test_an_entry_of_files_that_have_changed_is_stale(root: Path, reads: list[str]) -> None:
    load(root)
    files = arrays()
    files[LABELS] = (files[LABELS] + 1) % 10
    folder = write(root / "FashionMNIST" / "raw", files)
    os.utime(folder / f"{LABELS}.gz", ns=(1, 1))
    assert load(root).train.targets.tolist() == files[LABELS][:44].tolist()
    # A plain file is read before a packed one, so its appearance matters too.
    (folder / LABELS).write_bytes(b"")
    with pytest.raises(DataCorrupt, match="found an empty one"):
        load(root)
    assert len(reads) == 3


def test_an_entry_that_other_code_made_is_stale(root: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    load(root)
    monkeypatch.setattr(shared, "_code", lambda: "other")
    load(root)
    assert len(reads) == 2


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    # Another file, as a failing disk would show it: those who mapped the old one keep it.
    path.unlink()
    path.write_bytes(content)


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit": lambda entry: flip(entry / "train.inputs"),
    "cut off": lambda entry: os.truncate(entry / "test.targets", 8),
    "missing tensor": lambda entry: (entry / "validation.inputs").unlink(),
    "missing manifest": lambda entry: (entry / "entry.json").unlink(),
    "no manifest": lambda entry: (entry / "entry.json").write_text("{"),
    "manifest without tensors": lambda entry: (entry / "entry.json").write_text(
        '{"input_shape": [1], "num_classes": 2, "found": "", "tensors": {}}'
    ),
    "manifest of another shape": lambda entry: (entry / "entry.json").write_text(
        (entry / "entry.json").read_text().replace("44", "43")
    ),
    "a directory for a tensor": lambda entry: make_directory(entry / "train.targets"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_entry_is_made_again(root: Path, tmp_path: Path, reads: list[str], name: str) -> None:
    expected = load(root).train.inputs.clone()
    (entry,) = entries(tmp_path)
    DAMAGE[name](entry)
    assert torch.equal(load(root).train.inputs, expected)
    assert torch.equal(load(root).train.inputs, expected)
    assert len(reads) == 2
    assert entries(tmp_path) == [entry]


def test_a_cache_that_cannot_be_written_costs_speed_alone(
    root: Path, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TELEPORT_CACHE", str(tmp_path / "file"))
    assert torch.equal(load(root).train.inputs, load(root).train.inputs)
    assert len(reads) == 2


def test_a_disk_that_is_full_costs_speed_alone(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shared, "_write", full)
        assert len(load(root).train) == 44
    assert entries(tmp_path) == []


def test_the_entries_longest_out_of_use_go_and_what_a_crash_left(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(root, num_train=10)
    (first,) = entries(tmp_path)
    load(root, num_train=11)
    (second,) = set(entries(tmp_path)) - {first}
    (tmp_path / "cache" / "tensors" / ".incoming-0123").mkdir()
    os.utime(second, ns=(1, 1))
    size = sum(path.stat().st_size for path in first.iterdir())
    monkeypatch.setattr(shared, "MAX_BYTES", int(2.5 * size))
    load(root, num_train=12)
    assert first in entries(tmp_path)
    assert second not in entries(tmp_path)
    assert len(entries(tmp_path)) == 2
    monkeypatch.setattr(shared, "MAX_BYTES", size // 2)
    assert len(load(root, num_train=13).train) == 13
    assert len(entries(tmp_path)) == 2


def test_workers_that_start_together_read_once(root: Path, reads: list[str]) -> None:
    together = threading.Barrier(4)

    def work() -> None:
        together.wait()
        load(root)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(reads) == 1


def test_a_worker_that_hangs_holds_no_one_up(
    root: Path, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "WAIT_SECONDS", 0.1)
    folder = tmp_path / "cache" / "tensors"
    folder.mkdir(parents=True)
    with shared._alone(folder / ".lock"):
        assert len(load(root).train) == 44
    assert reads
    assert entries(tmp_path) == []


def test_a_second_process_holds_no_copy_of_its_own(tmp_path: Path) -> None:
    """Private memory that loading adds, in a process that finds the entry: far below the tensors' size."""
    write(tmp_path / "FashionMNIST" / "raw", arrays(num_train=12_000, num_test=100))
    load(tmp_path)
    program = f"""
from pathlib import Path
from tests.orchestrator.trial.data.test_shared import load
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
before = anonymous()
data = load(Path({str(tmp_path)!r}))
data.train.inputs.sum()
print(data.train.inputs.nbytes / 2**20, anonymous() - before)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    size, private = map(float, done.stdout.split())
    assert size > 30
    assert private < 0.2 * size
