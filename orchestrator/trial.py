"""One trial: the one place where the engine and the orchestrator meet."""

from __future__ import annotations

import functools
import math
import platform
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor

from orchestrator.catalog import FixedStepOptions, GrowthStepOptions, TeleportOptions
from orchestrator.results import (
    HistoryRow,
    LayerSummary,
    Machine,
    SeedResult,
    TeleportSummary,
    TrialConfig,
    TrialFailure,
    TrialResult,
    TrialState,
    objective_value,
)
from orchestrator.spec import Arm, Share
from orchestrator.workloads.isolation import isolated
from orchestrator.workloads.training import Move, SeedTask, Site, Treat, Treatment, train_seed
from teleport_engine import FixedStep, GrowthStep, Schedule, Teleporter, TeleportReport

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


def treatment_of(arm: Arm) -> Treat:
    """Look up what an arm does.

    Args:
        arm: with at most one kind of treatment.

    Returns:
        What makes its treatment once the model is there; gives None for the baseline.
    """
    if arm.kind == "baseline":
        return lambda site: None
    return functools.partial(TREATMENTS[arm.kind], getattr(arm, arm.kind))


@final
class TeleportTreatment:
    """Teleports on the training batch before the optimizer step; the optimizer's state stays as it is.

    Args:
        options: of the arm.
        site: the model and its training.
    """

    def __init__(self, options: TeleportOptions, site: Site) -> None:
        when = options.schedule
        self._schedule = Schedule(
            epochs=when.epochs,
            batches=when.batches,
            batches_per_epoch=site.budget.batches_per_epoch,
            warmup=when.warmup,
            every=when.every,
        )
        self._teleporter = Teleporter(
            site.model,
            site.loss_fn,
            tau=options.tau,
            step=_step_rule(options.step),
            num_steps=when.steps,
            schedule=self._schedule,
            grad_norm_cap=options.grad_norm_cap,
            max_loss_drift=options.max_loss_drift,
        )
        self._reports: list[TeleportReport] = []

    def is_due(self, step_index: int) -> bool:
        """Tell what the schedule says; without it each step would pay for a reading of the clock."""
        return self._schedule.is_due(step_index)

    def apply(self, step_index: int, inputs: Tensor, targets: Tensor) -> Move:
        """Teleport, and tell what it cost and did."""
        report = self._teleporter.step(step_index, inputs, targets)
        assert report is not None, "apply is called where is_due said so, by the same schedule"
        self._reports.append(report)
        return Move(
            has_moved=_has_moved(report),
            gradient_evaluations=report.num_gradient_evaluations,
            loss_drift=report.loss_after - report.loss_before,
            gain=_gain(report),
        )

    def summary(self) -> TeleportSummary:
        """Sum up all teleports of the seed."""
        moved = [report for report in self._reports if _has_moved(report)]
        gains = [gain for gain in map(_gain, moved) if 0.0 < gain < math.inf]
        return TeleportSummary(
            count=len(self._reports),
            outcomes=dict(Counter(report.outcome.value for report in self._reports)),
            mean_gain=math.exp(sum(map(math.log, gains)) / len(gains)) if gains else None,
            max_loss_drift=max((abs(r.loss_after - r.loss_before) for r in moved), default=None),
            layers=_layers(self._reports),
        )


TREATMENTS: dict[str, Callable[[Any, Site], Treatment]] = {
    "teleport": TeleportTreatment,
}


def _step_rule(options: FixedStepOptions | GrowthStepOptions) -> FixedStep | GrowthStep:
    return FixedStep(options.lr) if isinstance(options, FixedStepOptions) else GrowthStep(options.factor)


def _has_moved(report: TeleportReport) -> bool:
    return any(layer.moved for layer in report.layers)


def _gain(report: TeleportReport) -> float:
    """‖g‖² after over before; 1 where there is nothing to divide by."""
    before, after = report.grad_norm_before, report.grad_norm_after
    if not (before > 0.0 and math.isfinite(after)):
        return 1.0
    ratio = after / before
    return ratio * ratio


def _layers(reports: Sequence[TeleportReport]) -> tuple[LayerSummary, ...]:
    """Average each linear map over the teleports; norms and the like, which have no inputs, are left out."""
    summaries = []
    for parts in zip(*(report.layers for report in reports), strict=True):
        first = parts[0]
        if first.d_in is None:
            continue
        ranks = [part.rank for part in parts if part.rank is not None]
        null_dims = [part.null_dim for part in parts if part.null_dim is not None]
        reasons = [part.reason for part in parts if not part.moved]
        summaries.append(
            LayerSummary(
                name=first.name,
                d_in=first.d_in,
                mean_rank=sum(ranks) / len(ranks) if ranks else None,
                mean_null_dim=sum(null_dims) / len(null_dims) if null_dims else None,
                moved=sum(part.moved for part in parts),
                reason=reasons[-1] if reasons else None,
            )
        )
    return tuple(summaries)
