"""A sweep that runs inline, as a process until something happens to it, and what can stand in its way."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient

from orchestrator.cli import exit_code
from orchestrator.home.paths import SweepPaths
from tests.orchestrator.chaos.audit import audit
from tests.orchestrator.specs import TINY

# Long enough for the program to be halted in the trial after the one that was waited for.
SPEC = TINY.replace("epochs: 1\n", "epochs: 10\n").replace("every: 2}", "every: 9}")
NUM_TRIALS = 10


class Sweep:
    """A sweep that runs inline."""

    def __init__(self, root: Path, home: Path, store: Path) -> None:
        self.spec = root / "tiny.yaml"
        self.spec.write_text(SPEC)
        self.paths = SweepPaths(home, "tiny")
        self.store = f"sqlite:///{store}"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the program; its store is not on the sweep's disk."""
        return subprocess.Popen(
            [str(Path(sys.executable).parent / "teleport"), *arguments, *self._options(arguments[0])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": ""},
        )

    def call(self, *arguments: str) -> int:
        """Run the same in this process, which has imported all: for what nothing happens to.

        Returns:
            The exit code.
        """
        return exit_code([*arguments, *self._options(arguments[0])])

    def _options(self, command: str) -> list[str]:
        options = ["--home", str(self.paths.home)]
        if command != "status":
            options += ["--tracking-uri", self.store]
        if command in ("run", "resume"):
            options += ["--launcher", "inline"]
        return options

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

    def check_goes_on(self, *, is_log_whole: bool = True) -> None:
        """The cause is gone: a resume ends whole; the log alone may lack what there was no room for."""
        assert self.call("resume", "tiny") == 0
        found = audit(self.paths, MlflowClient(self.store))
        violations = [one for one in found if is_log_whole or "was never started" not in one]
        assert not violations, violations


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=180)
    return process.returncode, out, err


def check_stopped(process: subprocess.Popen[str], message: str) -> str:
    """It has ended with the cause, and with how to go on."""
    code, out, err = ended(process)
    assert (code, out) == (2, ""), err
    assert message in err
    assert "go on with: teleport resume tiny" in err
    return err


def fill(process: subprocess.Popen[str], num_bytes: int = 0) -> None:
    """Let no file of the program grow beyond a size, as root cannot ignore; let the program go on."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
    process.send_signal(signal.SIGCONT)


def files_of(paths: SweepPaths) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(paths.root.rglob("*")) if path.is_file()}


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
