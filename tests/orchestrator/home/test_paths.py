"""The files of a sweep are replaced whole and read back equal, and a line that was cut short is no row."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.errors import SweepLocked, SweepNotFound, UserError
from orchestrator.home.files import atomic_write
from orchestrator.home.lock import held_since, is_locked, locked, owner
from orchestrator.home.paths import FORMAT, SweepPaths, find_sweep, find_trial, sweep_names
from orchestrator.home.records import HistoryRow, TrialConfig, TrialResult
from tests.orchestrator.trials import complete, config, row


def test_atomic_write_replaces_whole_files_and_leaves_no_part(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    atomic_write(target, "old")
    atomic_write(target, b"new")
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["file.txt"]


def test_a_file_is_as_readable_as_any_other_of_its_directory(tmp_path: Path) -> None:
    atomic_write(tmp_path / "report.html", "for colleagues")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "report.html").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file.txt"
    atomic_write(target, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(target, "new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def dead_process() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def test_who_takes_up_a_sweep_removes_what_dead_writers_have_left_and_nothing_else(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path, "s")
    trial = paths.trials / "0"
    trial.mkdir(parents=True)
    dead = dead_process()
    left = [paths.root / f".spec.yaml.{dead}.0123abcd", trial / f".result.json.{os.getpid()}.0123abcd"]
    kept = [
        trial / "result.json",
        trial / ".hidden",
        trial / f".nfs.{dead}.0123abcdef",
        trial / f".result.json.{os.getppid()}.0123abcd",  # a report may be on its way
    ]
    for file in (*left, *kept):
        file.write_text("")
    assert sorted(paths.parts()) == sorted(left)
    with locked(paths):
        assert paths.parts() == []
    assert [file for file in kept if not file.exists()] == []


def test_trials_come_back_equal(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path, "s")
    one = config()
    paths.write_config(one)
    paths.start_history(one.trial_id)
    rows = [row(step) for step in (0, 5, 10)]
    paths.append_history(one.trial_id, rows[:2])
    paths.append_history(one.trial_id, rows[2:])
    assert paths.read_trial(one.trial_id).result is None
    result = complete(one)
    paths.write_result(result)
    [trial] = paths.read_trials()
    assert trial.result is not None
    assert trial.result.files.keys() == {"config.json", "history.jsonl"}
    assert trial.result.model_copy(update={"files": {}}) == result
    assert (trial.config, trial.history) == (one, tuple(rows))
    assert paths.read_trials(with_history=False)[0].history == ()


def test_a_line_that_a_crash_cut_short_is_no_row(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path, "s")
    one = config()
    paths.write_config(one)
    paths.append_history(one.trial_id, [row(0)])
    with open(paths.history(one.trial_id), "a") as file:
        file.write(row(5).model_dump_json()[:20])
    assert paths.read_trial(one.trial_id).history == (row(0),)


def test_a_second_attempt_begins_its_curves_afresh(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path, "s")
    one = config()
    paths.write_config(one)
    paths.append_history(one.trial_id, [row(0)])
    paths.start_history(one.trial_id)
    assert paths.read_trial(one.trial_id).history == ()


def test_a_relative_home_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert SweepPaths(Path("runs"), "s").root == tmp_path / "runs" / "s"


def test_a_sweep_is_found_by_name_or_the_nearest_is_named(tmp_path: Path) -> None:
    atomic_write(SweepPaths(tmp_path, "quickstart").spec, "version: 1\n")
    atomic_write(SweepPaths(tmp_path, "quickstart").format, f"{FORMAT}\n")
    assert sweep_names(tmp_path) == ["quickstart"]
    assert find_sweep(tmp_path, "quickstart").name == "quickstart"
    with pytest.raises(SweepNotFound, match=r"no sweep 'quikstart' in .*; did you mean 'quickstart'"):
        find_sweep(tmp_path, "quikstart")
    with pytest.raises(SweepNotFound, match="none is known"):
        find_sweep(tmp_path / "nowhere", "x")


def test_identity_is_the_configuration_and_not_the_place_or_the_share() -> None:
    one = config()
    moved = TrialConfig.model_validate_json(one.model_dump_json().replace('"root":null', '"root":"/data"'))
    assert moved.training.data.root == "/data"
    assert moved.trial_id == one.trial_id
    assert config(share={"cpu": 2.0, "gpu": 0.0}).trial_id == one.trial_id
    assert config(seeds=(1,)).trial_id != one.trial_id
    assert config(phase="confirm").trial_id != one.trial_id
    assert config(arm="other").trial_id != one.trial_id
    assert config(lr=0.2).trial_id != one.trial_id
    assert config(phase="confirm").configuration_id == one.configuration_id


def test_a_value_at_its_default_leaves_the_identity_alone() -> None:
    """An older home knows nothing of an option that was added since; its ids must still be found."""
    written = config(training={**_plain(), "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0}})
    assert written.trial_id == config().trial_id
    changed = config(training={**_plain(), "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}})
    assert changed.trial_id != config().trial_id
    assert config(training={**_plain(), "lr_schedule": {"name": "constant"}}).trial_id == config().trial_id
    schedules = ({"name": "constant", "warmup": 2}, {"name": "cosine", "warmup": 2}, {"name": "cosine"})
    scheduled = [config(training={**_plain(), "lr_schedule": schedule}) for schedule in schedules]
    assert len({config().trial_id, *(one.trial_id for one in scheduled)}) == 4
    assert [TrialConfig.model_validate_json(one.model_dump_json()) for one in scheduled] == scheduled
    # Pinned: homes out there hold trials under this name.
    assert config().trial_id == "d2c45250473a"


def _plain() -> dict[str, object]:
    return config().training.model_dump(mode="json")


def test_records_are_json_both_ways_and_refuse_what_they_do_not_know() -> None:
    one = config(arm="teleport")
    assert TrialConfig.model_validate_json(one.model_dump_json()) == one
    result = complete(one)
    assert TrialResult.model_validate_json(result.model_dump_json()) == result
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        HistoryRow.model_validate({**row(0).model_dump(), "more": 1})
    with pytest.raises(ValueError, match="finite number"):
        HistoryRow.model_validate({**row(0).model_dump(), "metrics": {"train_loss": float("nan")}})


def test_whoever_looks_whether_it_is_driven_keeps_no_driver_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = SweepPaths(tmp_path, "s")
    before = time.time()
    with locked(paths):
        began = held_since(paths)
        assert began is not None
        assert before - 1.0 < began < time.time() + 1.0, "a file system's clock may be a little behind"
    assert held_since(paths) is None
    pauses: list[float] = []
    with open(paths.lock) as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)

        def stop_looking(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                fcntl.flock(looking, fcntl.LOCK_UN)

        monkeypatch.setattr(time, "sleep", stop_looking)
        with locked(paths):
            assert len(pauses) == 3


def test_a_sweep_has_one_driver(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path, "s")
    assert not is_locked(paths)
    with locked(paths):
        assert is_locked(paths)
        assert owner(paths).startswith(f"process {os.getpid()} on ")
        with pytest.raises(SweepLocked, match=f"is being run by process {os.getpid()}"), locked(paths):
            pass
    assert not is_locked(paths)
    with locked(paths):
        pass


def test_a_trial_is_found_by_the_beginning_of_its_id() -> None:
    known = ["ab12", "ab34", "cd56"]
    assert find_trial("cd", known, option="TRIAL", absent="in sweep 's'") == "cd56"
    with pytest.raises(UserError, match=r"TRIAL: 2 trials begin with 'ab'; .*known: ab12, ab34\)"):
        find_trial("ab", known, option="TRIAL", absent="in sweep 's'")
    with pytest.raises(UserError, match="TRIAL: no trial 'cd57' in sweep 's'; did you mean 'cd56'"):
        find_trial("cd57", known, option="TRIAL", absent="in sweep 's'")
