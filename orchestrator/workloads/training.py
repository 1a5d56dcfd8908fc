"""The training loop: one seed of a workload, under a treatment or none, on the optimizer clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from orchestrator.catalog import MODELS, OPTIMIZERS
from orchestrator.results import HistoryRow, SeedResult, TeleportSummary
from orchestrator.spec import Phase, Target, Workload
from orchestrator.workloads.batches import Draws, batches
from orchestrator.workloads.budget import Budget
from orchestrator.workloads.clock import OptimizerClock
from orchestrator.workloads.data.dataset import DataSet, load_cached
from orchestrator.workloads.evaluate import Evaluator, LossFn
from orchestrator.workloads.isolation import seed_everything, stream_seed
from orchestrator.workloads.loss import cross_entropy
from orchestrator.workloads.lr_schedules import scheduler_of


@final
@dataclass(frozen=True)
class Move:
    """What one application of a treatment did.

    Args:
        has_moved: whether weights changed.
        gradient_evaluations: its cost, in gradients of the training batch.
        loss_drift: change of the loss on the batch.
        gain: ratio of ‖g‖² after to before.
        probe_drift: change of the loss on data outside the batch; None: not measured.
        around: what the optimizer step that follows is taken inside of; None: nothing.
    """

    has_moved: bool
    gradient_evaluations: float
    loss_drift: float = 0.0
    gain: float = 1.0
    probe_drift: float | None = None
    around: AbstractContextManager[None] | None = None


class Treatment(Protocol):
    """What an arm does to the weights before an optimizer step.

    It draws from no generator but its own, and leaves gradients and optimizer state alone unless that is what
    it is for.
    """

    def is_due(self, step_index: int) -> bool:
        """Tell whether it acts before optimizer step ``step_index``, counted from 0."""
        ...

    def apply(self, step_index: int, inputs: Tensor, targets: Tensor) -> Move:
        """Act, on the batch that the optimizer step is about to use."""
        ...

    def summary(self) -> TeleportSummary:
        """Sum up all applications."""
        ...


@final
@dataclass(frozen=True)
class Site:
    """What a treatment may build on.

    Args:
        model: with its initial weights, on its device.
        loss_fn: ``loss_fn(outputs, targets)``, the primary loss.
        optimizer: that trains it.
        budget: of the seed.
        seed: of the seed.
        draws: gives it samples of the training split, without moving the data order.
    """

    model: nn.Module
    loss_fn: LossFn
    optimizer: torch.optim.Optimizer
    budget: Budget
    seed: int
    draws: Draws


Treat = Callable[[Site], Treatment | None]


@final
@dataclass(frozen=True)
class SeedTask:
    """One seed to train.

    Args:
        workload: what is trained, every value fixed.
        phase: the test split is measured in confirm alone.
        seed: from which initial weights and data order follow.
        device: where.
    """

    workload: Workload
    phase: Phase
    seed: int
    device: torch.device


def train_seed(
    task: SeedTask,
    treat: Treat,
    emit: Callable[[HistoryRow], None],
    now: Callable[[], float] = time.perf_counter,
) -> SeedResult:
    """Train one seed from its initial weights to the end of its budget, or until its loss is not finite.

    Initial weights and data order follow from the seed alone, whatever the treatment.

    Args:
        task: what to train.
        treat: makes the arm's treatment; gives None where nothing is to be done during training.
        emit: takes each row of the curves as it is measured: at step 0, at every ``evaluate.every``-th step and
            at the last.
        now: the clock's source of seconds.

    Returns:
        How it ended.
    """
    data_set = load_cached(task.workload.data, task.device)
    budget = Budget.of(task.workload, len(data_set.train))
    model = initial_model(task, data_set)
    optimizer = _optimizer(task.workload, model)
    scheduler = scheduler_of(task.workload.lr_schedule, optimizer, budget.num_steps)
    seed_everything(stream_seed(task.seed, "training"))
    draws = Draws(data_set.train, task.workload.data.batch_size, task.seed)
    treatment = treat(Site(model, cross_entropy, optimizer, budget, task.seed, draws))
    loop = _Loop(task, data_set, model, optimizer, scheduler, treatment, OptimizerClock(task.device, now))
    curve = _Curve(task, budget, loop, Evaluator(model, data_set), emit)
    is_finite = curve.record()
    for first, last in budget.stretches():
        if not is_finite:
            break
        is_finite = loop.advance(first, last) and curve.record()
    return curve.result("completed" if is_finite else "diverged")


def initial_model(task: SeedTask, data_set: DataSet) -> nn.Module:
    """Build a workload's model with the initial weights of a seed, drawn on the CPU whatever the device.

    Args:
        task: which model, seed and device.
        data_set: for the shapes.

    Returns:
        The model in training mode; the global random state is as the weights' draws left it.
    """
    options = task.workload.model
    seed_everything(stream_seed(task.seed, "weights"))
    model: nn.Module = MODELS[options.name].load()(options, data_set.input_shape, data_set.num_classes)
    return model.to(task.device).train()


def _optimizer(workload: Workload, model: nn.Module) -> torch.optim.Optimizer:
    options = workload.optimizer
    settings = options.model_dump(exclude={"name"})
    optimizer: torch.optim.Optimizer = OPTIMIZERS[options.name].load()(model.parameters(), **settings)
    return optimizer


@final
class _Loop:
    """The hot loop; it keeps no curve, so that nothing but training runs between two evaluations."""

    def __init__(
        self,
        task: SeedTask,
        data_set: DataSet,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: LambdaLR | None,
        treatment: Treatment | None,
        clock: OptimizerClock,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._batches = batches(data_set.train, task.workload.data.batch_size, task.seed)
        self._device = task.device
        self.treatment = treatment
        self.clock = clock
        self.num_steps = 0
        self.gradient_evaluations = 0.0
        self.moves: list[Move] = []

    def advance(self, first: int, last: int) -> bool:
        """Take the optimizer steps ``first .. last - 1``.

        Returns:
            False where a loss was not finite: on the CPU the step is not taken; on CUDA, where reading each
            loss would stall the device, it shows at the end of the stretch.
        """
        model, optimizer, draw, treatment = self._model, self._optimizer, self._batches, self.treatment
        scheduler = self._scheduler
        is_cpu = self._device.type == "cpu"
        watched = torch.zeros((), device=self._device)
        with self.clock.running():
            for step in range(first, last):
                inputs, targets = next(draw)
                around = None
                if treatment is not None and treatment.is_due(step):
                    around = self._treat(treatment, step, inputs, targets)
                optimizer.zero_grad()
                loss = cross_entropy(model(inputs), targets)
                if is_cpu:
                    if not math.isfinite(loss.item()):
                        return False
                else:
                    watched += loss.detach()
                loss.backward()  # type: ignore[no-untyped-call]
                if around is None:
                    optimizer.step()
                else:
                    with around:
                        optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                self.num_steps += 1
                self.gradient_evaluations += 1.0
            return math.isfinite(watched.item())

    def _treat(
        self, treatment: Treatment, step: int, inputs: Tensor, targets: Tensor
    ) -> AbstractContextManager[None] | None:
        with self.clock.teleporting():
            move = treatment.apply(step, inputs, targets)
        self.gradient_evaluations += move.gradient_evaluations
        self.moves.append(move)
        return move.around


@final
class _Curve:
    """Turns the state of the loop into rows, and watches for the target."""

    def __init__(
        self,
        task: SeedTask,
        budget: Budget,
        loop: _Loop,
        evaluator: Evaluator,
        emit: Callable[[HistoryRow], None],
    ) -> None:
        self._task = task
        self._budget = budget
        self._loop = loop
        self._evaluator = evaluator
        self._emit = emit
        self._num_moves_seen = 0
        self._last: HistoryRow | None = None
        self._reached: HistoryRow | None = None

    def record(self) -> bool:
        """Measure and emit a row; False, and no row, where a metric is not finite."""
        loop = self._loop
        metrics = self._evaluator.curves()
        if self._task.phase == "confirm" and loop.num_steps == self._budget.num_steps:
            metrics |= self._evaluator.test()
        if not all(map(math.isfinite, metrics.values())):
            return False
        metrics |= _of_moves(loop.moves[self._num_moves_seen :])
        self._num_moves_seen = len(loop.moves)
        row = HistoryRow(
            seed=self._task.seed,
            step=loop.num_steps,
            epoch=loop.num_steps / self._budget.batches_per_epoch,
            seconds=loop.clock.seconds,
            teleport_seconds=loop.clock.teleport_seconds,
            gradient_evaluations=loop.gradient_evaluations,
            num_teleports=sum(move.has_moved for move in loop.moves),
            metrics=metrics,
        )
        self._last = row
        target: Target = self._task.workload.target
        if self._reached is None and target.is_reached(metrics[target.metric]):
            self._reached = row
        self._emit(row)
        return True

    def result(self, outcome: str) -> SeedResult:
        """Sum up the seed."""
        loop, reached = self._loop, self._reached
        return SeedResult.model_validate(
            {
                "seed": self._task.seed,
                "outcome": outcome,
                "num_steps": loop.num_steps,
                "budget_steps": self._budget.num_steps,
                "steps_to_target": None if reached is None else reached.step,
                "seconds_to_target": None if reached is None else reached.seconds,
                "gradient_evaluations_to_target": None if reached is None else reached.gradient_evaluations,
                "seconds": loop.clock.seconds,
                "teleport_seconds": loop.clock.teleport_seconds,
                "gradient_evaluations": loop.gradient_evaluations,
                "metrics": {} if self._last is None else self._last.metrics,
                "teleports": None if loop.treatment is None else loop.treatment.summary(),
            }
        )


def _of_moves(moves: list[Move]) -> dict[str, float]:
    """The teleports since the last row that moved the weights, in two or three figures."""
    moved = [move for move in moves if move.has_moved]
    if not moved:
        return {}
    figures = {
        "teleport_loss_drift": max(abs(move.loss_drift) for move in moved),
        "teleport_gain": sum(move.gain for move in moved) / len(moved),
    }
    probed = [abs(move.probe_drift) for move in moved if move.probe_drift is not None]
    if probed:
        figures["teleport_probe_drift"] = max(probed)
    return {name: value for name, value in figures.items() if math.isfinite(value)}
