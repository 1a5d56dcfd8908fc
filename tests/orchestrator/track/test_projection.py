"""A sweep is shown under the right names, and the same fact is always the same text."""

from __future__ import annotations

import pytest

from orchestrator.home.records import LayerSummary, Machine, TeleportSummary
from orchestrator.search.early_stopping import pruned_result
from orchestrator.track.points import Point, history_points
from orchestrator.track.projection import (
    COMPLETE,
    NOTE,
    fingerprint,
    run_end,
    sweep_facts,
    sweep_id,
    trial_facts,
)
from orchestrator.track.text import MAX_PARAM
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.track.stories import new_record, search_config
from tests.orchestrator.trials import complete, config, failed, row


def test_a_sweep_is_told_from_its_namesakes_by_when_it_began_and_stays_itself_when_it_is_extended() -> None:
    record = new_record()
    again = new_record(started_at=record.provenance.started_at)
    assert sweep_id(record) == sweep_id(again)
    assert sweep_id(new_record()) != sweep_id(record), "another home"
    other = new_record(started_at=record.provenance.started_at, spec=tiny_spec("search.trials=4"))
    assert sweep_id(other) == sweep_id(record)


def test_an_ending_is_told_from_every_other() -> None:
    of = search_config(0)
    marks = {
        fingerprint(complete(of)),
        fingerprint(complete(of, value=0.25)),
        fingerprint(failed(of)),
        fingerprint(None, 0),
        fingerprint(None, 4),
    }
    assert len(marks) == 5
    assert fingerprint(complete(of)) == fingerprint(complete(of))


@pytest.mark.parametrize(
    ("changes", "override", "name"),
    [
        ({"number": 7}, "search.seeds=[0]", "digits/baseline #7"),
        ({"number": 7, "seeds": (1,)}, "search.seeds=[0, 1]", "digits/baseline #7 seed 1"),
        (
            {"phase": "confirm", "seeds": (1003,), "number": None},
            "search.seeds=[0]",
            "digits/baseline confirm seed 1003",
        ),
    ],
)
def test_names_are_for_people(changes: dict[str, object], override: str, name: str) -> None:
    record = new_record(spec=tiny_spec(override))
    assert trial_facts(record, config(**changes)).name == name  # type: ignore[arg-type]


def test_the_best_k_of_an_arm_have_names_that_differ() -> None:
    record = new_record(spec=tiny_spec("confirm.top_k=2"))
    names = {trial_facts(record, config(phase="confirm", number=None, lr=lr)).name for lr in (0.1, 0.2)}
    assert len(names) == 2


def test_a_value_that_is_too_long_says_how_long_it_was() -> None:
    plain = config().training.model_dump(mode="json", exclude_none=True)
    wide = config(training={**plain, "data": {**plain["data"], "root": "/data" * 2_000}})
    shown = trial_facts(new_record(), wide).params["data.root"]
    assert len(shown) < MAX_PARAM + 50
    assert shown.endswith("… (10000 characters)")


def test_the_sweep_shows_its_question_until_it_has_an_answer() -> None:
    facts = sweep_facts(new_record())
    assert facts.tags[NOTE] == "Does it run?"
    assert facts.params["arms.teleport.teleport.tau.choice"] == "[1.0, 0.99]"
    assert facts.tags["command"] == "teleport run tiny.yaml"


def test_without_git_there_is_no_commit_to_show() -> None:
    tags = sweep_facts(new_record(codes=[{"commit": None, "changes": None, "source": "89ef"}])).tags
    assert not [key for key in tags if "git" in key]


def test_the_same_row_is_always_the_same_point() -> None:
    record = new_record(started_at=1_000.5)
    (loss,) = [point for point in history_points(record, [row(3)]) if point.key == "train_loss"]
    assert loss == Point("train_loss", 2.3 / 4, 1_000_530, 3)


def test_a_stopped_trial_is_finished_and_no_miss() -> None:
    record, of = new_record(), search_config(0)
    rows = [row(step) for step in range(0, 9, 2)]
    ending = run_end(record, pruned_result(of, rows, started_at=1.0, ended_at=2.0))
    assert ending.status == "FINISHED"
    assert ending.tags["state"] == "PRUNED"
    assert ending.tags["target"] == "reached before it was stopped"
    keys = {point.key for point in ending.points}
    assert not {"value", "target_reached", "train_loss"} & keys
    assert "steps_to_target" in keys


def test_teleports_show_their_price_once_there_are_any() -> None:
    record = new_record()
    moved = row(3).model_copy(update={"num_teleports": 2, "teleport_seconds": 0.5})
    keys = {point.key for point in history_points(record, [moved])}
    assert {"teleport_seconds", "num_teleports"} <= keys
    assert not {"teleport_seconds", "num_teleports"} & {p.key for p in history_points(record, [row(3)])}


def test_system_metrics_are_named_so_that_the_page_groups_them() -> None:
    measured = row(3).model_copy(update={"system": {"cpu_utilization_percentage": 50.0}})
    keys = {point.key for point in history_points(new_record(), [measured])}
    assert "system/cpu_utilization_percentage" in keys


def test_what_teleports_did_by_layer_stands_at_the_end() -> None:
    record, of = new_record(), search_config(0)
    layers = (
        LayerSummary(name="a b/c[0]", d_in=4, mean_rank=1.0, mean_null_dim=3.0, moved=1, reason=None),
        LayerSummary(name="head", d_in=4, mean_rank=None, mean_null_dim=None, moved=0, reason="its input is fixed"),
    )
    summary = TeleportSummary(count=1, outcomes={"moved": 1}, mean_gain=1.5, max_loss_drift=1e-6, layers=layers)
    seed = complete(of).seeds[0].model_copy(update={"teleports": summary})
    ending = run_end(record, complete(of).model_copy(update={"seeds": (seed,)}))
    values = {point.key: point.value for point in ending.points}
    assert values["teleport_mean_gain"] == 1.5
    assert values["null_dim/a b/c_0_"] == 3.0
    assert "null_dim/head" not in values


def test_where_it_ran_is_known_at_the_end() -> None:
    record, of = new_record(), search_config(0)
    machine = Machine(host="node7", device="NVIDIA H100", num_threads=2, versions={"torch": "2.14.1+cu130"})
    tags = run_end(record, complete(of).model_copy(update={"machine": machine})).tags
    expected = {"device": "NVIDIA H100", "host": "node7", "num_threads": "2", "version.torch": "2.14.1+cu130"}
    assert expected.items() <= tags.items()


def test_a_traceback_is_shown_as_code_whatever_it_holds() -> None:
    record, of = new_record(), search_config(0)
    failure = {"kind": "crashed", "message": "boom", "traceback": "```\n<script>\n```"}
    result = failed(of).model_validate({**failed(of).model_dump(), "failure": failure})
    shown = run_end(record, result).tags[NOTE].splitlines()
    assert shown[0] == "The trial failed: crashed"
    assert all(line.startswith("    ") for line in shown[2:])


def test_a_trial_that_was_cut_off_is_whole_with_the_rows_it_had() -> None:
    record = new_record()
    end = run_end(record, None, num_rows=4)
    assert (end.status, end.tags["state"]) == ("KILLED", "cut off")
    assert end.tags[COMPLETE] != run_end(record, None, num_rows=0).tags[COMPLETE]


def test_what_is_not_finite_is_no_point() -> None:
    # The files refuse it; a tracker holds the line even where something slips past.
    broken = row(0).model_copy(update={"metrics": {"train_loss": float("nan"), "x": float("inf"), "y": 1.0}})
    keys = {point.key for point in history_points(new_record(), [broken])}
    assert "y" in keys
    assert not {"train_loss", "x"} & keys
