"""A store that is slow, gone, forgetful or stubborn costs the sweep nothing, and has every run in the end."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.home.records import Trial
from orchestrator.track import MlflowTracker, writer
from orchestrator.track.projection import TRIAL_ID
from tests.orchestrator.track.faulty_store import Fault, FaultyStore, Stored
from tests.orchestrator.track.stories import ended, on_file, put, rows_of, running, search_config
from tests.waiting import PATIENCE, wait_until

NOWHERE = "http://me:hunter2@127.0.0.1:9"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PAUSES", (0.001,))
    monkeypatch.setattr(writer, "LOOK_SECONDS", 0.001)


def tracker(store: FaultyStore, close_seconds: float = PATIENCE) -> MlflowTracker:
    return MlflowTracker(NOWHERE, store=store, close_seconds=close_seconds)


def check_whole(store: FaultyStore, trials: list[Trial]) -> None:
    """Each trial exactly once, all of it, under the one run of the sweep."""
    parents = [run_id for run_id, run in store.runs.items() if run.parent is None]
    assert len(parents) == 1
    children = [run for run in store.runs.values() if run.parent is not None]
    assert {run.parent for run in children} <= set(parents)
    assert Counter(run.tags[TRIAL_ID] for run in children) == Counter(trial.trial_id for trial in trials)
    for trial in trials:
        run = child(store, trial)
        steps = sorted(point.step for point in run.points if point.key == "train_loss")
        assert steps == [row.step for row in trial.history]
        assert run.status == "FINISHED"
    assert not [run for run in store.runs.values() if run.status == "RUNNING"]


def child(store: FaultyStore, trial: Trial) -> Stored:
    (run,) = [run for run in store.runs.values() if run.tags.get(TRIAL_ID) == trial.trial_id]
    return run


def told(caplog: pytest.LogCaptureFixture, text: str) -> Callable[[], bool]:
    return lambda: any(text in entry.getMessage() for entry in caplog.records)


faults: st.SearchStrategy[Fault] = st.sampled_from(["well", "well", "before", "after", "refused"])


@settings(max_examples=80, deadline=None)
@given(during=st.lists(faults, max_size=40), later=st.lists(faults, max_size=10))
def test_whatever_fails_each_trial_is_there_exactly_once_in_the_end(during: list[Fault], later: list[Fault]) -> None:
    store, trials = FaultyStore(during), [ended(number) for number in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        paths = on_file(Path(folder), running(trials[0]))
        first = tracker(store)
        first.follow(paths)
        for trial in trials:
            put(paths, trial)
        first.close("FINISHED")
        for plan in (later, ()):
            store.plan = iter(plan)
            left = tracker(store).sync(paths, "FINISHED")
    assert left == 0
    check_whole(store, trials)


def test_an_outage_is_waited_out_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, trials = FaultyStore(), [ended(number) for number in range(3)]
    store.is_down = True
    paths, first = on_file(tmp_path), tracker(store)
    with caplog.at_level(logging.INFO):
        first.follow(paths)
        put(paths, trials[0])
        for _ in range(2):
            store.failed.clear()
            assert store.failed.wait(PATIENCE)
        store.is_down = False
        for trial in trials[1:]:
            put(paths, trial)
        wait_until(told(caplog, "answers"))
        assert first.close("FINISHED") == 0
    check_whole(store, trials)
    messages = [entry.getMessage() for entry in caplog.records]
    assert [message for message in messages if "does not answer" in message] == [
        "tracking: http://***@127.0.0.1:9 does not answer (no answer from http://***@nowhere); trials go on, and what "
        f"it misses is sent when it is back, or by `teleport track sync {paths.arguments}`"
    ]
    assert messages.count("tracking: http://***@127.0.0.1:9 answers") == 1


def test_a_store_that_stays_away_is_named_with_what_it_lacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore()
    store.is_down = True
    paths, first = on_file(tmp_path, ended(7)), tracker(store)
    first.follow(paths)
    for number in range(2):
        put(paths, ended(number))
    assert first.close("FINISHED") == 4, "three trials and the sweep"
    assert caplog.records[-1].getMessage() == (
        "tracking: http://***@127.0.0.1:9 has not got 4 runs of this sweep; "
        f"`teleport track sync {paths.arguments}` sends them"
    )
    assert "hunter2" not in caplog.text


def test_following_does_not_wait_for_the_store(tmp_path: Path) -> None:
    store, trials = FaultyStore(), [ended(number) for number in range(5)]
    store.gate.clear()  # every call to the store hangs until the gate opens
    paths, first = on_file(tmp_path), tracker(store)
    first.follow(paths)
    for trial in trials:
        put(paths, trial)
    assert store.num_calls == 0, "the store had answered nothing by then"
    store.gate.set()
    assert first.close("FINISHED") == 0
    check_whole(store, trials)


def test_closing_waits_no_longer_than_it_was_told_to(tmp_path: Path) -> None:
    store = FaultyStore()
    store.gate.clear()
    paths, first = on_file(tmp_path, ended(0)), tracker(store, close_seconds=0.05)
    first.follow(paths)
    assert first.close("FINISHED") == 2
    store.gate.set()


def test_what_the_store_refuses_holds_nothing_else_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, trials = FaultyStore(), [ended(number) for number in range(3)]
    refused = trials[1].trial_id
    store.refuses = lambda run_id: run_id in store.runs and store.runs[run_id].tags.get(TRIAL_ID) == refused
    paths, first = on_file(tmp_path, *trials), tracker(store)
    first.follow(paths)
    assert first.close("FINISHED") == 1
    assert child(store, trials[0]).status == child(store, trials[2]).status == "FINISHED"
    assert caplog.text.count(f"refused trial {refused}: not this") == 1


def test_a_trial_whose_files_cannot_be_read_holds_nothing_else_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trials = [ended(number) for number in range(3)]
    paths, store = on_file(tmp_path, *trials), FaultyStore()
    file = paths.history(trials[1].trial_id)
    file.write_text("no row\n")
    first = tracker(store)
    first.follow(paths)
    assert first.close("FINISHED") == 1
    assert child(store, trials[0]).status == child(store, trials[2]).status == "FINISHED"
    assert f"trial {trials[1].trial_id} cannot be read from the files: {file}: Invalid JSON" in caplog.text
    assert [entry for entry in caplog.records if entry.exc_info] == []


def test_a_run_that_somebody_deleted_is_written_again(tmp_path: Path) -> None:
    store, trial = FaultyStore(), ended(0)
    paths = on_file(tmp_path, trial)
    assert tracker(store).sync(paths, "FINISHED") == 0
    store.runs = {run_id: run for run_id, run in store.runs.items() if run.parent is None}
    assert tracker(store).sync(paths, "FINISHED") == 0
    check_whole(store, [trial])


def test_a_run_that_is_whole_is_not_written_again(tmp_path: Path) -> None:
    store, trials = FaultyStore(), [ended(0), ended(1, fails=True)]
    paths = on_file(tmp_path, *trials, running(ended(2)))
    assert tracker(store).sync(paths) == 0
    before = set(store.runs)
    assert tracker(store).sync(paths) == 0
    assert set(store.runs) == before


def test_a_fault_of_ours_in_the_writer_is_logged_and_the_files_make_it_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, trials = FaultyStore(), [ended(0), ended(1)]
    broken = iter([True])
    create = store.create

    def create_badly(*args: object, **kwargs: object) -> str:
        if kwargs["parent"] is not None and next(broken, False):
            raise ZeroDivisionError("our own bug")
        return create(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "create", create_badly)
    paths, first = on_file(tmp_path, *trials), tracker(store)
    first.follow(paths)
    wait_until(told(caplog, "could not write trial"))
    assert first.close("FINISHED") == 0
    check_whole(store, trials)


def test_runs_that_a_slow_answer_doubled_are_one_again(tmp_path: Path) -> None:
    store, trial = FaultyStore(), ended(0)
    paths = on_file(tmp_path, trial)
    assert tracker(store).sync(paths, "FINISHED") == 0
    # A server that gave no answer in time may do what it was asked after it was asked again.
    for run_id, run in list(store.runs.items()):
        store.runs[f"late-{run_id}"] = Stored(run.facts, run.parent, run.started_at + 1, tags=dict(run.facts.tags))
    assert tracker(store).sync(paths, "FINISHED") == 0
    check_whole(store, [trial])


def test_a_trial_cut_off_by_ctrl_c_keeps_the_curves_it_had(tmp_path: Path) -> None:
    store, of = FaultyStore(), search_config(0)
    paths, first = on_file(tmp_path, Trial(config=of, history=tuple(rows_of(of)))), tracker(store)
    first.follow(paths)
    assert first.close("KILLED") == 0
    assert {run.status for run in store.runs.values()} == {"KILLED"}
    (run,) = [run for run in store.runs.values() if run.parent is not None]
    assert sum(point.key == "train_loss" for point in run.points) == 4


def test_a_trial_that_runs_comes_before_those_that_the_store_lacks(tmp_path: Path) -> None:
    store, late, trials = FaultyStore(), ended(9), [ended(number) for number in range(5)]
    paths = on_file(tmp_path, *trials)
    for trial in trials:
        os.utime(paths.config(trial.trial_id), (1, 1))
    store.gate.clear()
    first = tracker(store)
    first.follow(paths)
    put(paths, late)
    store.gate.set()
    assert first.close("FINISHED") == 0
    order = [run.tags[TRIAL_ID] for run in store.runs.values() if run.parent is not None]
    assert order[0] == late.trial_id
    check_whole(store, [*trials, late])
