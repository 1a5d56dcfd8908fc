"""A link leads to a trial's run, or to a search for it, or says why it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.home.reading import read_record
from orchestrator.track import MlflowTracker
from orchestrator.track.links import page_of, run_link
from tests.orchestrator.track.stories import ended, new_record, on_file

UI = "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("sqlite:////home/mlflow.db", UI),
        ("http://me:hunter2@host:5001/", "http://host:5001"),
        ("https://host/mlflow", "https://host/mlflow"),
    ],
)
def test_the_page_of_a_store_has_no_credentials(uri: str, page: str) -> None:
    assert page_of(uri, f"{UI}/") == page


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    link = run_link(uri, UI, new_record(), "0" * 12)
    assert (link.url, link.note) == ("", f"nothing is tracked in {tmp_path}/mlflow.db yet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_is_found_and_one_that_is_not_there_is_searched_for(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    trial = ended(0)
    paths = on_file(tmp_path, trial)
    record = read_record(paths)
    assert MlflowTracker(uri).sync(paths, "FINISHED") == 0
    from mlflow import MlflowClient

    [run] = MlflowClient(uri).search_runs(["1"], f"tags.trial_id = '{trial.trial_id}'")
    found = run_link(uri, UI, record, trial.trial_id)
    assert (found.url, found.note) == (f"{UI}/#/experiments/1/runs/{run.info.run_id}", "")
    late = run_link(uri, UI, record, "0" * 12)
    assert late.url == f"{UI}/#/experiments/1/runs?searchFilter=tags.trial_id%20%3D%20%27{'0' * 12}%27"
    assert "teleport track sync tiny" in late.note
