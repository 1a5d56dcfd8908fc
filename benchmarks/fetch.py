"""A report of 1,000 trials of 200 points where there is an MLflow server and no home, against asking it point by point.

The sweep is fetched as one archive and reported from it. The other way is a loop over ``get_metric_history``, run by
run and metric by metric, which gives curves but neither configurations nor verdicts. The loop is timed over a few runs
and scaled to all of them.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import SIZES, fill, report_in_process
from benchmarks.timing import row
from benchmarks.tracking import server
from orchestrator.home.archive import pack
from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.track import Destination, MlflowTracker
from orchestrator.track.address import Address
from orchestrator.track.fetch import fetch
from orchestrator.track.mlflow_store import open_client

NUM_ASKED = 20
GOAL = 0.1


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        there, here = Path(folder) / "there", Path(folder) / "here"
        fill(there, *SIZES["mostly search"])
        paths = SweepPaths(there, "bench")
        whole = read_record(paths)
        started = time.perf_counter()
        archive = pack(paths)
        packing, num_bytes = time.perf_counter() - started, archive.stat().st_size
        open_client(Address.parse(f"sqlite:///{there}/mlflow.db"))
        with server(there / "mlflow.db") as url:
            asked = _with_trials(paths, Path(folder) / "asked", NUM_ASKED)
            assert MlflowTracker(url).sync(asked, "FINISHED", artifacts=[archive]) == 0
            started = time.perf_counter()
            fetched = fetch("bench", Destination(url), here)
            fetching = time.perf_counter() - started
            assert fetched.num_trials == len(whole.trials)
            asking = _ask(url) * len(whole.trials) / NUM_ASKED
        reporting = report_in_process(str(here), "html")["seconds"]
    ratio = (fetching + reporting) / asking
    return [
        row("report of 1,000 trials from MLflow against a loop of get_metric_history", ratio, "ratio", GOAL),
        row("the same without the report: the fetch alone", fetching / asking, "ratio"),
        row("fetching 1,000 trials x 200 points", fetching, "s"),
        row(f"asking for them by get_metric_history (scaled from {NUM_ASKED} trials)", asking, "s"),
        row("packing them at the end of a sweep", packing, "s"),
        row("size of that archive", num_bytes / 1e6, "MB"),
    ]


def _with_trials(paths: SweepPaths, home: Path, num_trials: int) -> SweepPaths:
    """Copy a sweep with so many of its trials."""
    some = SweepPaths(home, paths.name)
    shutil.copytree(paths.root, some.root, ignore=shutil.ignore_patterns("trials"))
    for trial in sorted(paths.trials.iterdir())[:num_trials]:
        shutil.copytree(trial, some.trials / trial.name)
    return some


def _ask(url: str) -> float:
    """Seconds for the curves of the runs that are there."""
    client = open_client(Address.parse(url))
    experiment = client.get_experiment_by_name("teleport")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.phase != 'sweep'")
    assert len(runs) == NUM_ASKED
    started = time.perf_counter()
    num_points = sum(len(client.get_metric_history(run.info.run_id, key)) for run in runs for key in run.data.metrics)
    assert num_points > 200 * NUM_ASKED
    return time.perf_counter() - started
