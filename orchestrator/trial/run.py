"""Runs one trial: it trains one candidate on one seed, and reports the curves on the way."""

from __future__ import annotations

import functools
import platform
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from typing import final

import torch

from orchestrator.home import (
    Checkpoint,
    Checkpoints,
    FailureKind,
    HistoryRow,
    Machine,
    SeedResult,
    TrialConfig,
    TrialFailure,
    TrialResult,
    TrialState,
    code_here,
    objective_value,
)
from orchestrator.spec import ExpressionError, Share
from orchestrator.trial.arms import make_arm
from orchestrator.trial.isolation import isolated
from orchestrator.trial.loop import SeedTask, State, train_seed
from orchestrator.trial.machine import SystemMetrics

SECONDS_BETWEEN_REPORTS = 0.5

Report = Callable[[Sequence[HistoryRow]], None]


def run_trial(config: TrialConfig, report: Report, checkpoints: Checkpoints | None = None) -> TrialResult:
    """Train a trial, which has one seed, in this process.

    The trial ends as FAIL if its loss is not finite, and if anything else goes wrong: the data, a plug-in, memory. The
    sweep continues.

    Args:
        config: what to run.
        report: takes new rows of the curves in order, about twice a second and at the end. A trial that continues from
            a checkpoint reports the rows after it.
        checkpoints: the checkpoint to continue from, and where to save further ones; None: there are none.
    """
    assert len(config.seeds) == 1, f"a trial trains one seed, and this one has {config.seeds}"
    started_at = time.time()
    seeds: tuple[SeedResult, ...] = ()
    values: tuple[float, ...] = ()
    machine: Machine | None = None
    try:
        start = _start_of(config, checkpoints)
        if start is not None:
            # The trial is timed as if it had begun later and had run without a break.
            started_at -= start.seconds
        device, num_threads = _device(config.share), max(1, int(config.share.cpu))
        machine = _machine(device, num_threads)
        system = SystemMetrics(device, config.system_metrics_every)
        diary = _Diary(config, report, checkpoints, started_at, 0 if start is None else start.num_rows, system)
        with isolated(num_threads):
            seeds = (_train(config, device, diary, start),)
        failure = _divergence_of(seeds[0])
        if failure is None:
            values = tuple(objective_value(objective, seeds) for objective in (config.objective, *config.also))
    except Exception as error:  # noqa: BLE001 - a trial's crash is a result, not the sweep's end
        failure = _failure_of(error)
    return TrialResult(
        trial_id=config.trial_id,
        state=TrialState.COMPLETE if failure is None else TrialState.FAIL,
        value=values[0] if values else None,
        values=values if config.also else (),
        seeds=seeds,
        failure=failure,
        started_at=started_at,
        ended_at=time.time(),
        machine=machine,
        code=code_here(config.training.plugins),
    )


def _start_of(config: TrialConfig, checkpoints: Checkpoints | None) -> Checkpoint | None:
    if checkpoints is None or checkpoints.start is None:
        return None
    return Checkpoint.from_bytes(checkpoints.start, config.trial_id)


def _train(config: TrialConfig, device: torch.device, diary: _Diary, start: Checkpoint | None) -> SeedResult:
    task = SeedTask(config.training, config.phase, config.seeds[0], device)
    make = functools.partial(make_arm, config.method)
    try:
        result = train_seed(task, make, diary.add, start=None if start is None else start.seed, keep=diary.keep)
    except Exception:
        diary.flush()
        raise
    diary.flush()
    return result


def _divergence_of(seed: SeedResult) -> TrialFailure | None:
    if seed.outcome != "diverged":
        return None
    message = f"seed {seed.seed}: the loss was not finite after {seed.num_steps} of {seed.budget_steps} steps"
    return TrialFailure(kind="diverged", message=message)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that a GPU or the machine had too little memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        # Torch raises a plain RuntimeError if the machine's own memory is used up.
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _failure_of(error: Exception) -> TrialFailure:
    if isinstance(error, ExpressionError):
        return TrialFailure(kind="expression", message=" ".join(str(error).split()))
    message = f"{type(error).__name__}: {error}".splitlines()[0]
    kind: FailureKind = "memory" if is_out_of_memory(error) else "crashed"
    return TrialFailure(kind=kind, message=message, traceback="".join(traceback.format_exception(error)))


@final
class _Diary:
    """Passes on the rows of a trial in bunches, and saves a checkpoint now and then.

    A report to another process costs milliseconds; a checkpoint takes as long as the model is large.
    """

    def __init__(
        self,
        config: TrialConfig,
        report: Report,
        checkpoints: Checkpoints | None,
        started_at: float,
        num_rows: int,
        system: SystemMetrics,
    ) -> None:
        self._config = config
        self._report = report
        self._save = None if checkpoints is None or config.checkpoint_every is None else checkpoints.save
        self._started_at = started_at
        self._num_rows = num_rows
        self._system = system
        self._rows: list[HistoryRow] = []
        self._flushed_at = self._kept_at = time.monotonic()

    def add(self, row: HistoryRow) -> None:
        figures = self._system.take()
        self._rows.append(row.model_copy(update={"system": figures}) if figures else row)
        if time.monotonic() - self._flushed_at >= SECONDS_BETWEEN_REPORTS:
            self.flush()

    def flush(self) -> None:
        rows, self._rows = self._rows, []
        self._flushed_at = time.monotonic()
        self._num_rows += len(rows)
        if rows:
            self._report(rows)

    def keep(self, state: Callable[[], State]) -> None:
        """Save a checkpoint if one is due."""
        every = self._config.checkpoint_every
        if self._save is None or every is None or time.monotonic() - self._kept_at < every:
            return
        # A checkpoint can be used only when its rows are on file, so the rows go first.
        self.flush()
        checkpoint = Checkpoint(
            trial_id=self._config.trial_id,
            num_rows=self._num_rows,
            seconds=time.time() - self._started_at,
            seed=state(),
        )
        self._save(checkpoint.to_bytes())
        self._kept_at = time.monotonic()


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
