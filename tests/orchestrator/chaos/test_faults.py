"""A disk that fills, a home that cannot be written, a store that cannot: told in a line, and made good by a resume."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.paths import SweepPaths
from tests.orchestrator.chaos.audit import audit
from tests.orchestrator.specs import TINY

pytestmark = pytest.mark.slow

# Long enough to be hit in the middle.
SPEC = TINY.replace("epochs: 1\n", "epochs: 40\n").replace("every: 2}", "every: 9}")
NUM_TRIALS = 10


class Sweep:
    """A sweep that runs inline, as a process."""

    def __init__(self, root: Path, home: Path) -> None:
        self.spec = root / "tiny.yaml"
        self.spec.write_text(SPEC)
        self.paths = SweepPaths(home, "tiny")
        self.store = f"sqlite:///{root}/store/mlflow.db"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the program; its store is not on the sweep's disk."""
        options = ["--home", str(self.paths.home)]
        if arguments[0] != "status":
            options += ["--tracking-uri", self.store]
        if arguments[0] in ("run", "resume"):
            options += ["--launcher", "inline"]
        return subprocess.Popen(
            [str(Path(sys.executable).parent / "teleport"), *arguments, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": ""},
        )

    def begin(self) -> subprocess.Popen[str]:
        return self.start("run", str(self.spec))

    def wait_for(self, num_results: int, process: subprocess.Popen[str]) -> None:
        """Wait until so many trials have ended, and halt the program there."""
        deadline = time.monotonic() + 120
        while len(list(self.paths.trials.glob("*/result.json"))) < num_results:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(0.005)
        process.send_signal(signal.SIGSTOP)

    def check_goes_on(self) -> None:
        """The cause is gone: a resume ends whole."""
        code, _, err = ended(self.start("resume", "tiny"))
        assert code == 0, err
        assert audit(self.paths, MlflowClient(self.store)) == []


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=180)
    return process.returncode, out, err


def check_stopped(process: subprocess.Popen[str], message: str) -> None:
    """It has ended in two lines: why, and how to go on."""
    code, out, err = ended(process)
    assert (code, out) == (2, ""), err
    assert message in err
    assert "go on with: teleport resume tiny" in err
    assert "Traceback" not in err


def fill(process: subprocess.Popen[str], num_bytes: int = 0) -> None:
    """Let no file of the program grow beyond a size, as root cannot ignore; let the program go on."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
    process.send_signal(signal.SIGCONT)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path, tmp_path / "runs")


@pytest.mark.parametrize("num_results", [2, 7], ids=["search", "confirm"])
def test_no_room_during_the_trials(sweep: Sweep, num_results: int) -> None:
    process = sweep.begin()
    sweep.wait_for(num_results, process)
    fill(process)
    check_stopped(process, "File too large")
    sweep.check_goes_on()


def test_no_room_during_the_report(sweep: Sweep) -> None:
    process = sweep.begin()
    sweep.wait_for(NUM_TRIALS, process)
    fill(process)
    check_stopped(process, "File too large")
    assert not sweep.paths.outcome.exists()
    sweep.check_goes_on()


def test_a_line_of_the_journal_that_was_cut_off_in_the_middle(sweep: Sweep) -> None:
    """A disk that is full takes the first bytes of a line."""
    process = sweep.begin()
    sweep.wait_for(2, process)
    fill(process, sweep.paths.journal.stat().st_size + 40)
    check_stopped(process, "File too large")
    assert not sweep.paths.journal.read_bytes().endswith(b"\n"), "the journal ends in the middle of a line"
    sweep.check_goes_on()


@contextmanager
def mounted(*options: str, at: Path) -> Iterator[None]:
    subprocess.run(["mount", *options, str(at)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True, capture_output=True)


def can_mount() -> bool:
    if os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="mounting a file system needs root")


@needs_mount
def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=8m", "tmpfs", at=disk):
        sweep = Sweep(tmp_path, disk / "runs")
        process = sweep.begin()
        sweep.wait_for(3, process)
        filler = disk / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4096"], check=False, capture_output=True)
        assert os.statvfs(disk).f_bavail == 0
        process.send_signal(signal.SIGCONT)
        check_stopped(process, "No space left on device")
        filler.unlink()
        sweep.check_goes_on()


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Let nobody write: root, too, where it can mount."""
    if os.geteuid() == 0:
        with mounted("--bind", str(directory), at=directory):
            subprocess.run(["mount", "-o", "remount,ro,bind", str(directory)], check=True, capture_output=True)
            yield
        return
    files = [directory, *directory.rglob("*")]
    modes = [file.stat().st_mode for file in files]
    for file, mode in zip(files, modes, strict=True):
        file.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for file, mode in zip(files, modes, strict=True):
            file.chmod(mode)


needs_read_only = pytest.mark.skipif(os.geteuid() == 0 and not can_mount(), reason="root writes everywhere")


@needs_read_only
def test_a_home_that_has_become_read_only(sweep: Sweep) -> None:
    process = sweep.begin()
    sweep.wait_for(3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = files_of(sweep.paths)
    with read_only(sweep.paths.home):
        code, out, err = ended(sweep.start("resume", "tiny"))
        assert (code, out) == (2, ""), err
        assert "Traceback" not in err
        assert "Read-only file system" in err or "Permission denied" in err
        assert str(sweep.paths.root) in err
        code, out, err = ended(sweep.start("status", "tiny"))
        assert code == 0, err
        assert out.startswith("tiny: interrupted")
    assert files_of(sweep.paths) == before
    sweep.check_goes_on()


@needs_read_only
def test_a_store_that_is_read_only_costs_the_sweep_nothing(sweep: Sweep, tmp_path: Path) -> None:
    """The store is there, so that it cannot be told from one that will take runs."""
    store = tmp_path / "store"
    store.mkdir()
    MlflowClient(sweep.store).search_experiments()
    with read_only(store):
        code, _, err = ended(sweep.begin())
        assert code == 0, err
        assert "Traceback" not in err
        assert f"MLflow has not got {NUM_TRIALS + 1} runs; `teleport track sync tiny` sends them" in err
    code, _, err = ended(sweep.start("track", "sync", "tiny"))
    assert code == 0, err
    assert audit(sweep.paths, MlflowClient(sweep.store)) == []


def files_of(paths: SweepPaths) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(paths.root.rglob("*")) if path.is_file()}


def file_as_home(root: Path) -> Path:
    home = root / "home"
    home.write_text("no directory")
    return home


def file_above_home(root: Path) -> Path:
    return file_as_home(root) / "runs"


def file_as_sweep(root: Path) -> Path:
    home = root / "home"
    home.mkdir()
    (home / "tiny").write_text("no directory")
    return home


def kernels_own(root: Path) -> Path:
    return Path("/sys/teleport")


@pytest.mark.parametrize("make_home", [file_as_home, file_above_home, file_as_sweep, kernels_own])
def test_a_home_that_cannot_be(tmp_path: Path, make_home: Callable[[Path], Path]) -> None:
    sweep = Sweep(tmp_path, make_home(tmp_path))
    code, out, err = ended(sweep.begin())
    assert (code, out) == (2, ""), err
    [line] = err.splitlines()
    assert line.startswith(f"error: {sweep.paths.home}")


def test_a_lock_whose_owner_is_dead_is_taken_over(sweep: Sweep) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    sweep.paths.root.mkdir(parents=True)
    sweep.paths.lock.write_text(json.dumps({"host": "elsewhere", "pid": dead.pid}))
    process = sweep.begin()
    sweep.wait_for(2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert json.loads(sweep.paths.lock.read_text())["pid"] == process.pid
    sweep.check_goes_on()
    assert json.loads(sweep.paths.lock.read_text())["pid"] != process.pid


def of_another_version(paths: SweepPaths) -> Path:
    file = sorted(paths.trials.glob("*/result.json"))[0]
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 0}))
    return file


def with_a_key_of_old(paths: SweepPaths) -> Path:
    file = sorted(paths.trials.glob("*/config.json"))[0]
    file.write_text(json.dumps({**json.loads(file.read_text()), "lr": 0.1}))
    return file


def without_a_line(paths: SweepPaths) -> Path:
    file = sorted(paths.trials.glob("*/history.jsonl"))[0]
    file.write_text("once upon a time\n" + file.read_text())
    return file


def of_another_program(paths: SweepPaths) -> Path:
    paths.journal.write_bytes(b"\xe2\x28\n" * 3)
    return paths.journal


OLDER = [of_another_version, with_a_key_of_old, without_a_line, of_another_program]


@pytest.mark.parametrize("make_older", OLDER)
def test_a_home_of_another_version_is_refused_by_its_file(
    sweep: Sweep, make_older: Callable[[SweepPaths], Path]
) -> None:
    process = sweep.begin()
    sweep.wait_for(2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    file = make_older(sweep.paths)
    before = file.read_bytes()
    code, out, err = ended(sweep.start("resume", "tiny"))
    assert "Traceback" not in err
    assert (code, out) == (2, ""), err
    assert str(file) in err
    assert file.read_bytes() == before
