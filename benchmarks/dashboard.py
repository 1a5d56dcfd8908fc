"""What the live page costs: its first paint with 1,000 trials, and a refresh with 5,000 while they come in.

The first paint is timed in a browser, on a sweep that nobody has looked at, from opening the address until progress,
answers and tables are shown; the figure, for which the browser gets plotly.js, is timed apart. A refresh is timed on
the server, in the view that shows every trial, after a trial has ended.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from streamlit.testing.v1 import AppTest

from benchmarks.timing import row
from dashboards import app
from orchestrator.cli.servers import dashboard_server
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import Provenance, SeedResult, TrialConfig, TrialResult, TrialState
from orchestrator.spec import spec_from_text

FIRST = 1_000
MANY = 5_000
REPEATS = 3
NUM_REFRESHES = 5
PATIENCE = 60.0

SPEC = """
version: 1
name: bench
workloads:
  digits:
    model: {name: mlp, widths: [128, 128]}
    data: {name: digits, batch_size: 32}
    optimizer: {name: sgd, lr: {loguniform: [0.01, 0.5]}}
    epochs: 10
    target: {metric: train_loss, value: 0.1}
arms: {}
search: {trials: %d, seeds: [0]}
"""


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder) / "few", Path(folder) / "many"
        write_home(few, FIRST)
        paints, figures = zip(*(_first_paint(few) for _ in range(REPEATS)), strict=True)
        paths = write_home(many, MANY)
        first, refreshes = _refreshes(many, paths)
    return [
        row("first paint, 1,000 trials", statistics.median(paints), "s", 3.0),
        row("first paint with its figure, 1,000 trials", statistics.median(figures), "s"),
        row("refresh of the table after a trial ended, 5,000 trials", statistics.median(refreshes), "s", 2.0),
        row("first look at the table, 5,000 trials", first, "s"),
    ]


def write_home(home: Path, num_trials: int) -> SweepPaths:
    """Put a sweep on file whose trials have all ended but for the last few."""
    spec = spec_from_text(SPEC % num_trials, "bench")
    paths = SweepPaths(home, spec.name)
    provenance = Provenance(command="", versions={}, host="", started_at=1.0)
    paths.begin(spec, provenance)
    for number in range(num_trials):
        config = _config(number)
        folder = paths.config(config.trial_id).parent
        folder.mkdir(parents=True)
        paths.config(config.trial_id).write_text(config.model_dump_json(), encoding="utf-8")
        if number < num_trials - NUM_REFRESHES:
            paths.result(config.trial_id).write_text(_result(config).model_dump_json(), encoding="utf-8")
    return paths


def _config(number: int) -> TrialConfig:
    lr = 0.01 + 1e-5 * number
    training = spec_from_text(SPEC % 1, "bench").workloads["digits"].concretise({"optimizer.lr": lr})
    return TrialConfig.model_validate(
        {
            "workload": "digits",
            "arm": "baseline",
            "phase": "search",
            "seeds": (0,),
            "training": training,
            "method": {},
            "values": {"optimizer.lr": lr},
            "number": number,
        }
    )


def _result(config: TrialConfig) -> TrialResult:
    value = 0.1 + 1.0 / (1 + (config.number or 0))
    seeds = tuple(
        SeedResult(
            seed=seed,
            outcome="completed",
            num_steps=450,
            budget_steps=450,
            steps_to_target=200,
            seconds_to_target=1.0,
            gradient_evaluations_to_target=200.0,
            seconds=2.0,
            teleport_seconds=0.0,
            gradient_evaluations=450.0,
            metrics={"train_loss": value, "validation_loss": value, "validation_accuracy": 0.9},
        )
        for seed in config.seeds
    )
    state = TrialState.COMPLETE
    return TrialResult(trial_id=config.trial_id, state=state, value=value, seeds=seeds, started_at=1.0, ended_at=2.0)


def _first_paint(home: Path) -> tuple[float, float]:
    server = dashboard_server(home, f"sqlite:///{home}/mlflow.db", "http://127.0.0.1:5000", host="127.0.0.1", port=0)
    chromium = shutil.which("chromium")
    with server.running(), sync_playwright() as playwright:
        wait_for(f"{server.url}/_stcore/health")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        started = time.perf_counter()
        page.goto(server.url)
        page.wait_for_selector(".t-scroll td")
        painted = time.perf_counter() - started
        page.wait_for_selector(".js-plotly-plot .main-svg .trace")
        drawn = time.perf_counter() - started
        browser.close()
    return painted, drawn


def wait_for(url: str) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"{url} did not answer")


def _refreshes(home: Path, paths: SweepPaths) -> tuple[float, list[float]]:
    os.environ["TELEPORT_HOME"] = str(home)
    page = AppTest.from_file(str(app.__file__), default_timeout=PATIENCE)
    page.query_params["view"] = "Trials"
    first = _seconds(page)
    seconds = []
    for number in range(MANY - NUM_REFRESHES, MANY):
        paths.write_result(_result(_config(number)))
        seconds.append(_seconds(page))
    return first, seconds


def _seconds(page: AppTest) -> float:
    started = time.perf_counter()
    page.run()
    assert not page.exception
    return time.perf_counter() - started
