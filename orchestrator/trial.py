"""One trial: every seed of a configuration under its arm's treatment."""

from __future__ import annotations

import functools
import platform
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from typing import final

import torch

from orchestrator.results import (
    HistoryRow,
    Machine,
    SeedResult,
    TrialConfig,
    TrialFailure,
    TrialResult,
    TrialState,
    objective_value,
)
from orchestrator.spec import Share
from orchestrator.treatments import treatment_of
from orchestrator.workloads.isolation import isolated
from orchestrator.workloads.training import SeedTask, train_seed

SECONDS_BETWEEN_REPORTS = 0.5

Report = Callable[[Sequence[HistoryRow]], None]


def run_trial(config: TrialConfig, report: Report) -> TrialResult:
    """Train every seed of a trial in this process.

    A seed that diverges ends the trial as FAIL with the seeds that ran, itself the last. Whatever else goes
    wrong, be it the user's data, a plug-in or out of memory, ends it as FAIL too: the sweep goes on.

    Args:
        config: what to run.
        report: is handed new rows of the curves in order, about twice a second and at the end of each seed.

    Returns:
        How it ended.
    """
    started_at = time.time()
    num_threads = max(1, int(config.share.cpu))
    seeds: list[SeedResult] = []
    failure: TrialFailure | None = None
    value: float | None = None
    machine: Machine | None = None
    try:
        device = _device(config.share)
        machine = _machine(device, num_threads)
        with isolated(num_threads):
            failure = _run_seeds(config, device, report, seeds)
        if failure is None:
            value = objective_value(config.objective, seeds)
    except Exception as error:  # noqa: BLE001 - a trial's crash is a result, not the sweep's end
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        failure = TrialFailure(kind="crashed", message=message, traceback=traceback.format_exc())
    return TrialResult(
        trial_id=config.trial_id,
        state=TrialState.COMPLETE if failure is None else TrialState.FAIL,
        value=value,
        seeds=tuple(seeds),
        failure=failure,
        started_at=started_at,
        ended_at=time.time(),
        machine=machine,
    )


def _run_seeds(
    config: TrialConfig, device: torch.device, report: Report, seeds: list[SeedResult]
) -> TrialFailure | None:
    treat = treatment_of(config.method)
    for seed in config.seeds:
        buffer = _Buffer(report)
        try:
            result = train_seed(SeedTask(config.training, config.phase, seed, device), treat, buffer.add)
        except Exception:
            buffer.flush()
            raise
        buffer.flush()
        seeds.append(result)
        if result.outcome == "diverged":
            message = f"seed {seed}: the loss was not finite after {result.num_steps} of {result.budget_steps} steps"
            return TrialFailure(kind="diverged", message=message)
    return None


@final
class _Buffer:
    """Passes rows on in bunches: a report costs milliseconds where it crosses to another process."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._rows: list[HistoryRow] = []
        self._flushed_at = time.monotonic()

    def add(self, row: HistoryRow) -> None:
        self._rows.append(row)
        if time.monotonic() - self._flushed_at >= SECONDS_BETWEEN_REPORTS:
            self.flush()

    def flush(self) -> None:
        rows, self._rows = self._rows, []
        self._flushed_at = time.monotonic()
        if rows:
            self._report(rows)


def _device(share: Share) -> torch.device:
    return torch.device("cuda") if share.gpu > 0 and torch.cuda.is_available() else torch.device("cpu")


@functools.cache
def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
    }


def _machine(device: torch.device, num_threads: int) -> Machine:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return Machine(host=socket.gethostname(), device=name, num_threads=num_threads, versions=_versions())
