"""A home that cannot be, one that was left by a dead process, one of another version."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.home.paths import SweepPaths
from tests.orchestrator.chaos.faults import Sweep, ended

pytestmark = pytest.mark.slow


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
def test_a_home_that_cannot_be(tmp_path: Path, store: Path, make_home: Callable[[Path], Path]) -> None:
    sweep = Sweep(tmp_path, make_home(tmp_path), store)
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


def test_a_driver_that_died_within_a_write_to_the_journal_keeps_nobody_waiting(
    killed: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = killed.paths.journal
    # As Optuna's lock does it, when it takes hold; the driver may have been killed just there.
    lock = journal.with_name(f"{journal.name}.lock")
    lock.unlink(missing_ok=True)
    lock.symlink_to(journal)
    assert killed.call("resume", "tiny") == 0
    assert "lock file" not in capsys.readouterr().err


def of_an_ended_trial(paths: SweepPaths, name: str) -> Path:
    """Return a file of a trial that had ended before the kill; the files of a running one are not indexed yet."""
    return sorted(paths.trials.glob("*/result.json"))[0].with_name(name)


def of_another_version(paths: SweepPaths) -> Path:
    file = of_an_ended_trial(paths, "result.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 0}))
    return file


def with_a_key_of_old(paths: SweepPaths) -> Path:
    file = of_an_ended_trial(paths, "config.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "lr": 0.1}))
    return file


def without_a_line(paths: SweepPaths) -> Path:
    file = of_an_ended_trial(paths, "history.jsonl")
    file.write_text("once upon a time\n" + file.read_text())
    return file


def of_another_program(paths: SweepPaths) -> Path:
    paths.journal.write_bytes(b"\xe2\x28\n" * 3)
    return paths.journal


@pytest.mark.parametrize("damage", [of_another_version, with_a_key_of_old, without_a_line])
def test_a_trial_with_a_changed_file_is_set_aside_and_runs_again(
    killed: Sweep, damage: Callable[[SweepPaths], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = damage(killed.paths)
    changed = file.read_bytes()
    assert killed.call("resume", "tiny") == 0
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert f"damaged: trials/{file.parent.name}/{file.name} is not as it was stored: the trial runs again" in err
    assert (killed.paths.root / "damaged" / f"{file.parent.name}.1" / file.name).read_bytes() == changed


def test_a_journal_of_another_program_is_refused_by_its_file(killed: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    file = of_another_program(killed.paths)
    before = file.read_bytes()
    assert killed.call("resume", "tiny") == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert out == "", err
    assert str(file) in err
    assert file.read_bytes() == before
