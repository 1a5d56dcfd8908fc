"""Other people's tools open what a real sweep has left."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from orchestrator.cli.servers import mlflow_server
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.search.candidates import stored_id
from tests.dashboards.conftest import PATIENCE, Open, answering, dashboard

pytestmark = pytest.mark.slow

PROGRAMS = Path(sys.executable).parent


@contextmanager
def optuna_dashboard(journal: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(PROGRAMS / "optuna-dashboard"), "--host", "127.0.0.1", "--port", str(port), str(journal)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def ask(url: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, f"{url} did not answer"
            time.sleep(0.1)


def test_optuna_dashboard_shows_every_study(tiny_home: Path) -> None:
    with optuna_dashboard(tiny_home / "tiny" / "study.journal") as url:
        studies = ask(f"{url}/api/studies")["study_summaries"]
        assert sorted(study["study_name"] for study in studies) == ["digits/baseline", "digits/teleport"]
        for study in studies:
            trials = ask(f"{url}/api/studies/{study['study_id']}?after=0")["trials"]
            assert [trial["state"] for trial in trials] == ["Complete"] * 3


def test_the_mlflow_program_lists_the_runs(tiny_home: Path) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tiny_home}/mlflow.db", "PYTHONWARNINGS": ""}
    command = [str(PROGRAMS / "mlflow"), "runs", "list", "--experiment-id", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    names = ["tiny", *(f"digits/{arm} #{number}" for arm in ("baseline", "teleport") for number in range(3))]
    assert not [name for name in names if name not in done.stdout]


def test_a_notebook_finds_the_runs_with_parameters_metrics_and_tags(
    tiny_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    # As a shell would: set_tracking_uri puts it into the environment, where every later test would find it.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tiny_home}/mlflow.db")
    runs = mlflow.search_runs(experiment_names=["teleport"], filter_string="tags.phase = 'search'")
    record = read_record(SweepPaths(tiny_home, "tiny"), with_history=False)
    values = {
        stored_id(trial): trial.result.value
        for trial in record.trials
        if trial.result and trial.config.phase == "search"
    }
    assert dict(zip(runs["tags.trial_id"], runs["metrics.value"], strict=True)) == pytest.approx(values)
    assert set(runs["params.optimizer.name"]) == {"sgd"}
    assert set(runs["tags.arm"]) == {"baseline", "teleport"}


def test_pandas_reads_a_history_in_one_call(tiny_home: Path) -> None:
    import pandas as pd

    paths = SweepPaths(tiny_home, "tiny")
    for trial in read_record(paths).trials:
        rows = pd.read_json(paths.history(stored_id(trial)), lines=True)
        assert list(rows["step"]) == [row.step for row in trial.history]
        assert [metrics["train_loss"] for metrics in rows["metrics"]] == pytest.approx(
            [row.metrics["train_loss"] for row in trial.history]
        )


def test_mlflow_shows_the_sweep_its_trials_and_its_report_and_the_live_page_leads_there(
    tiny_home: Path, open_page: Open
) -> None:
    store = mlflow_server(f"sqlite:///{tiny_home}/mlflow.db", port=0)
    with answering(store, "/health") as ui, answering(dashboard(tiny_home, ui), "/_stcore/health") as live:
        trial = next(t for t in read_record(SweepPaths(tiny_home, "tiny")).trials if t.config.phase == "confirm")
        page = open_page(f"{live}/?trial={stored_id(trial)}").page
        link = page.get_by_role("link", name="Open in MLflow")
        expect(link).to_be_visible()
        run = open_page(str(link.get_attribute("href")))
        seed = trial.config.seeds[0]
        expect(run.page.get_by_text(f"{trial.config.study} confirm seed {seed}").first).to_be_visible()
        expect(run.page.get_by_text(stored_id(trial)).first).to_be_visible()
        table = open_page(f"{ui}/#/experiments/1/runs", 1600)
        table.page.get_by_role("gridcell", name="tiny").get_by_role("button").first.click()  # its children
        for name in ("tiny", "digits/baseline #0", "digits/teleport #2"):
            expect(table.page.get_by_text(name, exact=True).first).to_be_visible()
        table.page.get_by_text("tiny", exact=True).first.click()
        expect(table.page.get_by_text("Does it run?").first).to_be_visible()
        table.page.get_by_text("Artifacts", exact=True).first.click()
        for name in ("report", "best", "spec.yaml"):
            expect(table.page.get_by_text(name, exact=True).first).to_be_visible()
        asked = [*run.asked, *table.asked]
        assert [url for url in asked if not url.startswith((ui, "data:", "blob:"))] == []


def test_with_mlflow_down_the_live_page_says_so_and_the_rest_goes_on(
    tiny_home: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.cli.servers import dashboard_server as make_dashboard

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = f"http://me:hunter2@127.0.0.1:{probe.getsockname()[1]}"
    server = make_dashboard(tiny_home, dead, "http://127.0.0.1:5000", host="127.0.0.1", port=0)
    assert not [word for word in server.arguments if "hunter2" in word]
    trial = read_record(SweepPaths(tiny_home, "tiny")).trials[0]
    with answering(server, "/_stcore/health") as url:
        page = open_page(f"{url}/?trial={stored_id(trial)}").page
        expect(page.get_by_text("does not answer (Connection refused)")).to_be_visible()
        expect(page.get_by_text("teleport track sync tiny")).to_be_visible()
        expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
        assert "hunter2" not in page.content()
