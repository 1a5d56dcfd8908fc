"""What a store that is slow, gone, forgetful or stubborn costs the sweep: nothing; and what it then lacks: nothing."""

from __future__ import annotations

import logging
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import FileUnreadable
from orchestrator.home.records import SweepRecord, Trial
from orchestrator.track import MlflowTracker, outbox, writer
from orchestrator.track.projection import TRIAL_ID
from tests.orchestrator.track.faulty_store import Fault, FaultyStore, Stored
from tests.orchestrator.track.stories import ended, new_record, rows_of, search_config, tell

NOWHERE = "http://me:hunter2@127.0.0.1:9"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PAUSES", (0.001,))
    monkeypatch.setattr(outbox, "FLUSH_SECONDS", 0.001)


def tracker(store: FaultyStore) -> MlflowTracker:
    return MlflowTracker(NOWHERE, store=store, close_seconds=60)


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


faults: st.SearchStrategy[Fault] = st.sampled_from(["well", "well", "before", "after", "refused"])


@settings(max_examples=80, deadline=None)
@given(during=st.lists(faults, max_size=40), later=st.lists(faults, max_size=10))
def test_whatever_fails_each_trial_is_there_exactly_once_in_the_end(during: list[Fault], later: list[Fault]) -> None:
    store, trials = FaultyStore(during), [ended(number) for number in range(3)]
    record = new_record()
    first = tracker(store)
    first.begin_sweep(record, {trial.trial_id: trial for trial in trials}.__getitem__)
    tell(first, trials)
    first.end_sweep("FINISHED")
    first.close()
    on_file = SweepRecord(record.spec, record.provenance, tuple(trials))
    for plan in (later, ()):
        store.plan = iter(plan)
        second = tracker(store)
        second.sync(on_file, "FINISHED")
        left = second.close()
    assert left == 0
    check_whole(store, trials)


def test_an_outage_is_waited_out_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    store, trials = FaultyStore(), [ended(number) for number in range(3)]
    store.is_down = True
    record = new_record()
    first = tracker(store)
    with caplog.at_level(logging.INFO):
        first.begin_sweep(record)
        tell(first, trials[:2])
        for _ in range(2):  # the second failure is of a try that had these trials in hand
            store.failed.clear()
            assert store.failed.wait(60)
        store.is_down = False
        tell(first, trials[2:])
        first.end_sweep("FINISHED")
        assert first.close() == 0
    check_whole(store, trials)
    told = [entry.getMessage() for entry in caplog.records]
    assert [message for message in told if "does not answer" in message] == [
        "tracking: http://***@127.0.0.1:9 does not answer (no answer from http://***@nowhere); trials go on, and what "
        "it misses is sent when it is back, or by `teleport track sync tiny`"
    ]
    assert told.count("tracking: http://***@127.0.0.1:9 answers") == 1


def test_a_store_that_stays_away_is_named_with_what_it_lacks(caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore()
    store.is_down = True
    first = tracker(store)
    first.begin_sweep(new_record(ended(7).model_copy(update={"history": ()})))
    tell(first, [ended(0), ended(1)])
    first.end_sweep("FINISHED")
    assert first.close() == 4, "three trials and the sweep"
    assert caplog.records[-1].getMessage() == (
        "tracking: http://***@127.0.0.1:9 has not got 4 runs of this sweep; `teleport track sync tiny` sends them"
    )
    assert "hunter2" not in caplog.text


def test_no_call_of_a_trial_waits_for_the_store() -> None:
    store, trials = FaultyStore(), [ended(number) for number in range(5)]
    store.gate.clear()  # every call to the store hangs until the gate opens
    record = new_record()
    first = tracker(store)
    first.begin_sweep(record)
    tell(first, trials)
    first.end_sweep("FINISHED")
    assert store.num_calls == 0, "all was told before the store had answered anything"
    store.gate.set()
    assert first.close() == 0
    check_whole(store, trials)


def test_closing_waits_no_longer_than_it_was_told_to() -> None:
    store = FaultyStore()
    store.gate.clear()
    first = MlflowTracker(NOWHERE, store=store, close_seconds=0.05)
    first.begin_sweep(new_record())
    tell(first, [ended(0)])
    first.end_sweep("FINISHED")
    assert first.close() == 2
    store.gate.set()


def test_what_does_not_fit_into_memory_comes_from_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_ROWS", 5)
    store, trials = FaultyStore(), [ended(number) for number in range(4)]
    store.gate.clear()
    record = new_record()
    first = tracker(store)
    first.begin_sweep(record, {trial.trial_id: trial for trial in trials}.__getitem__)
    tell(first, trials)
    first.end_sweep("FINISHED")
    store.gate.set()
    assert first.close() == 0
    check_whole(store, trials)


def test_what_the_store_refuses_holds_nothing_else_up(caplog: pytest.LogCaptureFixture) -> None:
    store, trials = FaultyStore(), [ended(number) for number in range(3)]
    refused = trials[1].trial_id
    store.refuses = lambda run_id: run_id in store.runs and store.runs[run_id].tags.get(TRIAL_ID) == refused
    record = new_record()
    first = tracker(store)
    first.begin_sweep(record, {trial.trial_id: trial for trial in trials}.__getitem__)
    tell(first, trials)
    first.end_sweep("FINISHED")
    assert first.close() == 1
    assert child(store, trials[0]).status == child(store, trials[2]).status == "FINISHED"
    assert f"refused trial {refused}: not this" in caplog.text


def test_a_trial_whose_files_cannot_be_read_holds_nothing_else_up(caplog: pytest.LogCaptureFixture) -> None:
    trials = [ended(number) for number in range(3)]
    record = new_record(*trials)
    by_id = {trial.trial_id: trial for trial in trials}

    def read(trial_id: str) -> Trial:
        if trial_id == trials[1].trial_id:
            raise FileUnreadable("history.jsonl: it is damaged")
        return by_id[trial_id]

    store = FaultyStore()
    first = tracker(store)
    first.begin_sweep(record, read)
    first.end_sweep("FINISHED")
    assert first.close() == 1
    assert child(store, trials[0]).status == child(store, trials[2]).status == "FINISHED"
    assert f"trial {trials[1].trial_id} cannot be read from the files: history.jsonl: it is damaged" in caplog.text
    assert [entry for entry in caplog.records if entry.exc_info] == []


def test_a_run_that_somebody_deleted_is_written_again() -> None:
    store, trial = FaultyStore(), ended(0)
    record = new_record()
    first = tracker(store)
    first.begin_sweep(record)
    tell(first, [trial])
    first.end_sweep("FINISHED")
    assert first.close() == 0
    store.runs = {run_id: run for run_id, run in store.runs.items() if run.parent is None}
    second = tracker(store)
    second.sync(SweepRecord(record.spec, record.provenance, (trial,)), "FINISHED")
    assert second.close() == 0
    check_whole(store, [trial])


def test_a_fault_of_ours_in_the_writer_is_logged_and_the_files_make_it_good(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, trials = FaultyStore(), [ended(0), ended(1)]
    broken = iter([True])
    create = store.create

    def create_badly(*args: object, **kwargs: object) -> str:
        if kwargs["parent"] is not None and next(broken, False):
            raise ZeroDivisionError("our own bug")
        return create(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "create", create_badly)
    record = new_record()
    first = tracker(store)
    first.begin_sweep(record, {trial.trial_id: trial for trial in trials}.__getitem__)
    tell(first, trials)
    for _ in range(60_000):
        if any("could not write" in entry.getMessage() for entry in caplog.records):
            break
        time.sleep(0.001)
    first.end_sweep("FINISHED")
    assert first.close() == 0
    check_whole(store, trials)


def test_runs_that_a_slow_answer_doubled_are_one_again() -> None:
    store, trial = FaultyStore(), ended(0)
    record = new_record()
    first = tracker(store)
    first.begin_sweep(record)
    tell(first, [trial])
    first.end_sweep("FINISHED")
    assert first.close() == 0
    # A server that gave no answer in time may do what it was asked after it was asked again.
    for run_id, run in list(store.runs.items()):
        store.runs[f"late-{run_id}"] = Stored(run.facts, run.parent, run.started_at + 1, tags=dict(run.facts.tags))
    second = tracker(store)
    second.sync(SweepRecord(record.spec, record.provenance, (trial,)), "FINISHED")
    assert second.close() == 0
    check_whole(store, [trial])


def test_a_trial_cut_off_by_ctrl_c_keeps_the_curves_it_had() -> None:
    store, of = FaultyStore(), search_config(0)
    first = tracker(store)
    first.begin_sweep(new_record())
    tell(first, [Trial(config=of, history=tuple(rows_of(of)))])
    first.end_sweep("KILLED")
    assert first.close() == 0
    assert {run.status for run in store.runs.values()} == {"KILLED"}
    (run,) = [run for run in store.runs.values() if run.parent is not None]
    assert sum(point.key == "train_loss" for point in run.points) == 4
