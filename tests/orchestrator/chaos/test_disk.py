"""A disk that fills, a home and a store that cannot be written: told in a line, made good by a resume."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.orchestrator.chaos.audit import audit
from tests.orchestrator.chaos.faults import (
    NUM_TRIALS,
    SPEC,
    Sweep,
    can_mount,
    check_stopped,
    ended,
    files_of,
    fill,
    mounted,
    read_only,
)

pytestmark = pytest.mark.slow

needs_mount = pytest.mark.skipif(not can_mount(), reason="mounting a file system needs root")
needs_read_only = pytest.mark.skipif(os.geteuid() == 0 and not can_mount(), reason="root writes everywhere")


@pytest.mark.parametrize("num_results", [2, 7], ids=["search", "confirm"])
def test_no_room_during_the_trials(sweep: Sweep, num_results: int) -> None:
    process = sweep.begin()
    sweep.wait_for(num_results, process)
    fill(process)
    assert "Traceback" not in check_stopped(process, "File too large")
    sweep.check_goes_on(is_log_whole=False)


def test_no_room_during_the_report(sweep: Sweep) -> None:
    process = sweep.begin()
    sweep.wait_for(NUM_TRIALS, process)
    fill(process)
    check_stopped(process, "File too large")
    assert not sweep.paths.outcome.exists()
    sweep.check_goes_on(is_log_whole=False)


def test_a_line_of_the_journal_that_was_cut_off_in_the_middle(sweep: Sweep) -> None:
    """A disk that is full takes the first bytes of a line."""
    # Two rows a trial, and some trials: whenever it is halted, the journal is the first file to reach its limit.
    sweep.spec.write_text(SPEC.replace("every: 9}", "every: 90}"))
    process = sweep.begin()
    sweep.wait_for(5, process)
    fill(process, sweep.paths.journal.stat().st_size + 40)
    check_stopped(process, "File too large")
    assert not sweep.paths.journal.read_bytes().endswith(b"\n"), "the journal ends in the middle of a line"
    sweep.check_goes_on(is_log_whole=False)


@needs_mount
def test_a_full_disk(tmp_path: Path, store: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=8m", "tmpfs", at=disk):
        sweep = Sweep(tmp_path, disk / "runs", store)
        process = sweep.begin()
        sweep.wait_for(3, process)
        filler = disk / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4096"], check=False, capture_output=True)
        assert os.statvfs(disk).f_bavail == 0
        process.send_signal(signal.SIGCONT)
        check_stopped(process, "No space left on device")
        filler.unlink()
        sweep.check_goes_on(is_log_whole=False)


@needs_read_only
def test_a_home_that_has_become_read_only(killed: Sweep) -> None:
    before = files_of(killed.paths)
    with read_only(killed.paths.home):
        code, out, err = ended(killed.start("resume", "tiny"))
        assert (code, out) == (2, ""), err
        assert "Traceback" not in err
        assert "Read-only file system" in err or "Permission denied" in err
        assert str(killed.paths.root) in err
        code, out, err = ended(killed.start("status", "tiny"))
        assert code == 0, err
        assert out.startswith("tiny: interrupted")
    assert files_of(killed.paths) == before
    killed.check_goes_on()


@needs_read_only
def test_a_store_that_is_read_only_costs_the_sweep_nothing(sweep: Sweep, store: Path) -> None:
    with read_only(store.parent):
        code, _, err = ended(sweep.begin())
        assert code == 0, err
        assert "Traceback" not in err
        assert f"MLflow has not got {NUM_TRIALS + 1} runs; `teleport track sync tiny --home " in err
    assert sweep.call("track", "sync", "tiny") == 0
    assert audit(sweep.paths, MlflowClient(sweep.store)) == []


def test_a_driver_that_dies_while_it_makes_the_store(sweep: Sweep, store: Path) -> None:
    store.unlink()
    part = store.with_name(f".{store.name}.new")
    process = sweep.begin()
    while not part.is_file() or part.stat().st_size == 0:
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not store.exists()
    sweep.check_goes_on()
    assert not part.exists()
