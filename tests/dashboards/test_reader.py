"""A home that is read again and again: always what is on file, and only what is new."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dashboards.reader import Home, SweepReader, Unreadable
from orchestrator.home.lock import locked
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import TrialState
from orchestrator.report import summarise
from orchestrator.sweep.standing import standing
from tests.dashboards.homes import write_sweep, write_trial
from tests.orchestrator.report.build import failing, running, sweep


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    return write_sweep(tmp_path, sweep())


def test_it_is_what_is_on_file(paths: SweepPaths) -> None:
    reader = SweepReader(paths)
    snapshot = reader.read()
    assert snapshot.record == read_record(paths, with_history=False)
    assert snapshot.standing == standing(paths)
    assert snapshot.faults == ()
    record = read_record(paths)
    assert reader.report(snapshot).comparisons == summarise(record).comparisons
    assert reader.report(snapshot) == summarise(record), "the page says what the report says"


def test_a_trial_that_has_ended_is_never_read_again(paths: SweepPaths) -> None:
    reader = SweepReader(paths)
    before = reader.read()
    report = reader.report(before)
    for trial in before.record.trials:
        with open(paths.result(trial.trial_id), "r+") as file:  # in place: the directory stays as it was
            file.write("spoilt")
    after = reader.read()
    assert after.version == before.version
    assert after.record is before.record
    assert reader.report(after) is report


def test_what_comes_is_seen(tmp_path: Path) -> None:
    whole = sweep()
    first, second, *others = whole.trials
    paths = write_sweep(tmp_path, sweep(change=lambda trial: None), is_ended=False)
    reader = SweepReader(paths)
    assert reader.read().record.trials == ()
    write_trial(paths, running(first))
    with locked(paths):
        found = reader.read()
        assert [trial.result for trial in found.record.trials] == [None]
        assert (found.standing.state, found.standing.progress.num_running) == ("running", 1)
    assert reader.read().standing.state == "interrupted"
    # Within one tick of the file system's clock, the directory's time does not change.
    folder = paths.result(first.trial_id).parent
    tick = folder.stat().st_mtime_ns
    write_trial(paths, first)
    os.utime(folder, ns=(tick, tick))
    assert [trial.result for trial in reader.read().record.trials] == [first.result]
    for trial in (second, *others):
        write_trial(paths, trial)
    assert reader.read().record.trials == tuple(read_record(paths, with_history=False).trials)


def test_a_trial_that_is_taken_away_is_gone(paths: SweepPaths) -> None:
    reader = SweepReader(paths)
    trial_id = reader.read().record.trials[0].trial_id
    for path in (paths.config(trial_id), paths.result(trial_id), paths.history(trial_id)):
        path.unlink()
    paths.config(trial_id).parent.rmdir()
    assert trial_id not in [trial.trial_id for trial in reader.read().record.trials]


def test_curves_grow_by_whole_lines_and_begin_again_with_their_trial(tmp_path: Path) -> None:
    trial = sweep().trials[0]
    rows = trial.history
    paths = write_sweep(tmp_path, sweep(change=lambda trial: None), is_ended=False)
    reader = SweepReader(paths)
    assert reader.history(trial.trial_id) == ()
    write_trial(paths, running(trial))
    assert reader.history(trial.trial_id) == rows[:3]
    line = rows[3].model_dump_json()
    with open(paths.history(trial.trial_id), "a") as file:
        file.write(line[:20])
    assert reader.history(trial.trial_id) == rows[:3], "a torn line is no line"
    with open(paths.history(trial.trial_id), "a") as file:
        file.write(line[20:] + "\n")
    assert reader.history(trial.trial_id) == rows[:4]
    paths.start_history(trial.trial_id, 2)
    paths.append_history(trial.trial_id, rows[2:9])
    assert reader.history(trial.trial_id) == rows[:9]


def test_one_trial_that_cannot_be_read_hides_no_other(paths: SweepPaths) -> None:
    reader = SweepReader(paths)
    trials = reader.read().record.trials
    broken = trials[0].trial_id
    paths.result(broken).unlink()
    paths.result(broken).write_text("{")
    found = reader.read()
    assert [trial.trial_id for trial in found.record.trials] == [trial.trial_id for trial in trials[1:]]
    [fault] = found.faults
    assert fault.startswith(f"trial {broken} cannot be read: ")
    paths.result(broken).unlink()
    [again] = [trial for trial in reader.read().record.trials if trial.trial_id == broken]
    assert again.result is None


def test_curves_that_are_spoilt_leave_the_trial(paths: SweepPaths) -> None:
    reader = SweepReader(paths)
    trial_id = reader.read().record.trials[0].trial_id
    paths.history(trial_id).write_text("no row\n")
    assert reader.history(trial_id) == ()
    assert len(reader.read().record.trials) == 28


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("spec", "version: 1\nname: [", r"sweep 'quickstart' cannot be read: .*spec\.yaml"),
        ("provenance", "{}", "sweep 'quickstart' cannot be read: .*Field required"),
        ("outcome", "{}", "sweep 'quickstart' cannot be read: .*Field required"),
    ],
)
def test_a_sweep_that_cannot_be_read_says_why_and_comes_back(
    paths: SweepPaths, name: str, text: str, match: str
) -> None:
    path: Path = getattr(paths, name)
    whole = path.read_text()
    path.write_text(text)
    reader = SweepReader(paths)
    with pytest.raises(Unreadable, match=match):
        reader.read()
    path.write_text(whole + "\n")
    assert len(reader.read().record.trials) == 28


def test_reading_changes_nothing(paths: SweepPaths) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in paths.home.rglob("*")}

    before = files()
    reader = SweepReader(paths)
    reader.report(reader.read())
    Home(paths.home, {}).names()
    assert files() == before


def test_the_sweep_that_was_begun_last_comes_first(tmp_path: Path) -> None:
    for place, name in enumerate(("b", "a", "c")):
        record = sweep(change=lambda trial: None)
        spec = record.spec.model_copy(update={"name": name})
        paths = write_sweep(tmp_path, type(record)(spec, record.provenance, ()))
        os.utime(paths.spec, (place, place))
    assert Home(tmp_path, {}).names() == ["c", "a", "b"]
    assert Home(tmp_path / "nowhere", {}).names() == []


def test_a_failed_trial_is_as_it_was_written(tmp_path: Path) -> None:
    record = sweep(change=lambda trial: failing(trial, "crashed") if trial.config.number == 0 else trial)
    snapshot = SweepReader(write_sweep(tmp_path, record)).read()
    failed = [trial for trial in snapshot.record.trials if trial.result and trial.result.state is TrialState.FAIL]
    assert len(failed) == 2
