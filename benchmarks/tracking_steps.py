"""What a tracker takes from a trial that it shows: a step's time with the server up, slow and down, against none.

The trial runs in a process of its own, as under Ray. This process puts its rows on file, where the tracker's thread
reads them. The slow server is the same server behind a proxy that waits a second before each request. The server runs
on this machine too, and may take time from the trial if there are few cores. So every case is measured in turn with a
trial that nobody tracks.
"""

from __future__ import annotations

import http.client
import multiprocessing
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.timing import row
from benchmarks.tracking import new_sweep, server
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import HistoryRow, TrialConfig, TrialResult
from orchestrator.spec import spec_from_text
from orchestrator.track import MlflowTracker
from orchestrator.track.address import Address
from orchestrator.track.mlflow_store import open_client

REPEATS = 15
SLOW_SECONDS = 1.0
CLOSE_SECONDS = 5.0
GOAL = 1.02

SPEC = """
version: 1
name: bench
workloads:
  digits:
    model: {name: mlp, widths: [128, 128]}
    data: {name: digits, batch_size: 32}
    optimizer: {name: sgd, lr: 0.1}
    epochs: 60
    evaluate: {every: 9}
    target: {metric: train_loss, value: 0.1}
arms: {}
"""


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder, _worker() as trials:
        file = Path(folder) / "mlflow.db"
        open_client(Address.parse(f"sqlite:///{file}"))
        with server(file) as url, _slow(url) as slow, _nobody() as down:
            servers = {"up": url, "slow": slow, "down": down}
            trackers = {name: _followed(uri, Path(folder) / name) for name, uri in servers.items()}
            homes = {"none": new_sweep(Path(folder) / "none"), **{name: paths for name, (_, paths) in trackers.items()}}
            _run(trials, homes["none"], 0)
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in homes}
            for repeat in range(REPEATS):
                for number, (name, paths) in enumerate(homes.items()):
                    taken[name].append(_run(trials, paths, 1 + repeat * len(homes) + number))
            for tracker, _ in trackers.values():
                tracker.close("FINISHED")
    table = []
    for name in trackers:
        step, whole = (_ratio(taken[name], taken["none"], place) for place in (0, 1))
        server_is = f"MLflow server {name}" if name != "slow" else f"MLflow server slow ({SLOW_SECONDS:g} s a request)"
        table += [
            row(f"a trial's step with the {server_is} against none", step, "ratio", GOAL),
            row(f"a whole trial with the {server_is} against none", whole, "ratio"),
        ]
    table.append(row("a trial's step without tracking", statistics.median(s for s, _ in taken["none"]) * 1e6, "µs"))
    return table


def _ratio(ours: list[tuple[float, float]], bare: list[tuple[float, float]], place: int) -> float:
    """The least of each: what other programs on the machine disturb least."""
    return min(one[place] for one in ours) / min(one[place] for one in bare)


def _followed(uri: str, home: Path) -> tuple[MlflowTracker, SweepPaths]:
    tracker, paths = MlflowTracker(uri, close_seconds=CLOSE_SECONDS), new_sweep(home)
    tracker.follow(paths)
    return tracker, paths


def _run(trials: Connection, paths: SweepPaths, number: int) -> tuple[float, float]:
    """Run a trial in the worker and put it on file here: seconds a step on its own clock, and of the whole trial."""
    training = spec_from_text(SPEC).workloads["digits"].concretise({})
    plain = {"workload": "digits", "arm": "baseline", "phase": "search", "training": training, "method": {}}
    config = TrialConfig.model_validate({**plain, "seeds": (number,), "number": number})
    paths.write_config(config)
    paths.start_history(config.trial_id)
    trials.send(config.model_dump_json())
    while isinstance(told := trials.recv(), list):
        paths.append_history(config.trial_id, [HistoryRow.model_validate_json(one) for one in told])
    result = TrialResult.model_validate_json(told)
    assert result.failure is None, result.failure
    paths.write_result(result)
    (seed,) = result.seeds
    return seed.seconds / seed.num_steps, result.ended_at - result.started_at


@contextmanager
def _worker() -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()


def _work(orders: Connection) -> None:
    from orchestrator.trial.run import run_trial

    while True:
        config = TrialConfig.model_validate_json(orders.recv())
        result = run_trial(config, lambda rows: orders.send([one.model_dump_json() for one in rows]))
        orders.send(result.model_dump_json())


@contextmanager
def _nobody() -> Iterator[str]:
    """An address where nothing listens, and nothing else can begin to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def _slow(url: str) -> Iterator[str]:
    """The server behind a proxy that waits before each request."""
    target = url.removeprefix("http://")

    class Proxy(BaseHTTPRequestHandler):
        def _forward(self) -> None:
            time.sleep(SLOW_SECONDS)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            there = http.client.HTTPConnection(target)
            there.request(self.command, self.path, body, headers)
            answer = there.getresponse()
            content = answer.read()
            there.close()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    for method in ("GET", "POST", "PATCH", "PUT", "DELETE"):
        setattr(Proxy, f"do_{method}", Proxy._forward)
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = False  # so that what is under way is answered before the server goes
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        proxy.server_close()
