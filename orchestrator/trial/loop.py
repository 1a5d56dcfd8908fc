"""The training loop: one seed of a workload, under a treatment or none, on the optimizer clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from orchestrator.home import HistoryRow, SeedResult
from orchestrator.spec import Phase, Target, Workload
from orchestrator.spec.options import MODELS, OPTIMIZERS
from orchestrator.trial.arithmetic import scaler_of, training_loss
from orchestrator.trial.batches import Batches, Draws
from orchestrator.trial.clock import Budget, OptimizerClock
from orchestrator.trial.data.dataset import DataSet, load_cached
from orchestrator.trial.evaluate import Evaluator, LossFn, cross_entropy
from orchestrator.trial.isolation import random_state, seed_everything, set_random_state, stream_seed
from orchestrator.trial.optimizers import scheduler_of
from orchestrator.trial.treatment import Move, Site, Treat, Treatment

# Tensors and plain values alone, so that it can be read without running what is in it.
State = dict[str, Any]


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
    *,
    start: State | None = None,
    keep: Callable[[Callable[[], State]], None] = lambda state: None,
) -> SeedResult:
    """Train one seed from its initial weights to the end of its budget, or until its loss is not finite.

    Initial weights and data order follow from the seed alone, whatever the treatment.

    Args:
        task: what to train.
        treat: makes the arm's treatment; gives None where nothing is to be done during training.
        emit: takes each row of the curves as it is measured: at step 0, at every ``evaluate.every``-th step and
            at the last.
        now: the clock's source of seconds.
        start: of the same task, to go on from: on the CPU, every metric is bit for bit as if it had not stopped.
        keep: called after each row but the last, off the clock, with what gives the state at that row.

    Returns:
        How it ended.
    """
    data_set = load_cached(task.workload.data, task.device)
    budget = Budget.of(task.workload, len(data_set.train))
    model = initial_model(task, data_set)
    optimizer = _optimizer(task.workload, model)
    scheduler = scheduler_of(task.workload.lr_schedule, optimizer, budget.num_steps)
    loss_of = training_loss(task.workload, model, data_set.train)
    seed_everything(stream_seed(task.seed, "training"))
    draws = Draws(data_set.train, task.workload.data.batch_size, task.seed)
    parts = _Parts(
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        scaler=scaler_of(task.workload, task.device),
        batches=Batches(data_set.train, task.workload.data.batch_size, task.seed),
        draws=draws,
        treatment=treat(Site(model, cross_entropy, optimizer, budget, task.seed, draws)),
        clock=OptimizerClock(task.device, now),
    )
    loop = _Loop(parts, loss_of, task.device)
    curve = _Curve(task, budget, loop, Evaluator(model, data_set, task.workload.evaluate.num_validation), emit)

    def state() -> State:
        own = {"loop": loop.state_dict(), "curve": curve.state_dict(), "random": random_state(task.device)}
        return {**own, "parts": parts.state_dict()}

    if start is None:
        is_finite = curve.record()
    else:
        is_finite = True
        parts.load_state_dict(start["parts"])
        loop.load_state_dict(start["loop"])
        curve.load_state_dict(start["curve"])
        set_random_state(start["random"], task.device)
    for first, last in budget.stretches():
        if not is_finite:
            break
        if last <= loop.num_steps:
            continue
        is_finite = loop.advance(first, last) and curve.record()
        if is_finite and last < budget.num_steps:
            keep(state)
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
@dataclass(frozen=True)
class _Parts:
    """All that has a state of its own; what is None has none."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LambdaLR | None
    scaler: torch.amp.GradScaler | None
    batches: Batches
    draws: Draws
    treatment: Treatment | None
    clock: OptimizerClock

    def state_dict(self) -> State:
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state_dict: State) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state_dict[name])

    def _parts(self) -> dict[str, Any]:
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in found.items() if part is not None}


@final
class _Loop:
    """The hot loop; it keeps no curve, so that nothing but training runs between two evaluations."""

    def __init__(self, parts: _Parts, loss_of: LossFn, device: torch.device) -> None:
        self._parts = parts
        self._loss_of = loss_of
        self._device = device
        self.treatment = parts.treatment
        self.clock = parts.clock
        self.num_steps = 0
        self.gradient_evaluations = 0.0
        self.num_moved = 0
        self._moves: list[Move] = []

    @property
    def skips_steps(self) -> bool:
        """Whether steps whose gradients overflow are left out, which float16 does."""
        return self._parts.scaler is not None

    def advance(self, first: int, last: int) -> bool:
        """Take the optimizer steps ``first .. last - 1``.

        Returns:
            False where a loss was not finite: on the CPU the step is not taken; on CUDA, where reading each
            loss would stall the device, it shows at the end of the stretch.
        """
        optimizer, scheduler, scaler = self._parts.optimizer, self._parts.scheduler, self._parts.scaler
        draw, treatment, loss_of = self._parts.batches, self.treatment, self._loss_of
        update = optimizer.step if scaler is None else self._scaled_step
        is_cpu = self._device.type == "cpu"
        watched = torch.zeros((), device=self._device)
        with self.clock.running():
            for step in range(first, last):
                inputs, targets = next(draw)
                around = None
                if treatment is not None and treatment.is_due(step):
                    around = self._treat(treatment, step, inputs, targets)
                optimizer.zero_grad()
                loss = loss_of(inputs, targets)
                if is_cpu:
                    if not math.isfinite(loss.item()):
                        return False
                else:
                    watched += loss.detach()
                if scaler is not None:
                    loss = scaler.scale(loss)
                loss.backward()  # type: ignore[no-untyped-call]
                if around is None:
                    update()
                else:
                    with around:
                        update()
                if scheduler is not None:
                    scheduler.step()
                self.num_steps += 1
                self.gradient_evaluations += 1.0
            return math.isfinite(watched.item())

    def take_moves(self) -> list[Move]:
        """Give what the treatment did since the last call."""
        moves, self._moves = self._moves, []
        return moves

    def state_dict(self) -> State:
        """Count; moves that were not taken are no part of it."""
        return {
            "num_steps": self.num_steps,
            "gradient_evaluations": self.gradient_evaluations,
            "num_moved": self.num_moved,
        }

    def load_state_dict(self, state_dict: State) -> None:
        """Go on from a count."""
        self.num_steps = state_dict["num_steps"]
        self.gradient_evaluations = state_dict["gradient_evaluations"]
        self.num_moved = state_dict["num_moved"]

    def _scaled_step(self) -> None:
        scaler = self._parts.scaler
        assert scaler is not None
        scaler.step(self._parts.optimizer)
        scaler.update()

    def _treat(
        self, treatment: Treatment, step: int, inputs: Tensor, targets: Tensor
    ) -> AbstractContextManager[None] | None:
        with self.clock.teleporting():
            move = treatment.apply(step, inputs, targets)
        self.gradient_evaluations += move.gradient_evaluations
        self.num_moved += move.has_moved
        self._moves.append(move)
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
        self._last: HistoryRow | None = None
        self._reached: HistoryRow | None = None

    def record(self) -> bool:
        """Measure and emit a row; False, and no row, where a metric is not finite."""
        loop = self._loop
        metrics = self._evaluator.curves()
        if self._task.phase == "confirm" and loop.num_steps == self._budget.num_steps:
            metrics |= self._evaluator.test()
        if loop.skips_steps and not math.isfinite(metrics.get("grad_norm", 0.0)):
            del metrics["grad_norm"]
        if not all(map(math.isfinite, metrics.values())):
            return False
        metrics |= _of_moves(loop.take_moves())
        row = HistoryRow(
            seed=self._task.seed,
            step=loop.num_steps,
            epoch=loop.num_steps / self._budget.batches_per_epoch,
            seconds=loop.clock.seconds,
            teleport_seconds=loop.clock.teleport_seconds,
            gradient_evaluations=loop.gradient_evaluations,
            num_teleports=loop.num_moved,
            metrics=metrics,
        )
        self._last = row
        target: Target = self._task.workload.target
        if self._reached is None and target.is_reached(metrics[target.metric]):
            self._reached = row
        self._emit(row)
        return True

    def state_dict(self) -> State:
        """Tell the last row, and the one that reached the target."""
        rows = {"last": self._last, "reached": self._reached}
        return {name: None if row is None else row.model_dump() for name, row in rows.items()}

    def load_state_dict(self, state_dict: State) -> None:
        """Go on from there."""
        rows = {name: None if row is None else HistoryRow(**row) for name, row in state_dict.items()}
        self._last, self._reached = rows["last"], rows["reached"]

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
    """The teleports since the last row that moved the weights, in a few figures."""
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
    null_dims = [move.null_dim for move in moved if move.null_dim is not None]
    if null_dims:
        figures["teleport_null_dim"] = sum(null_dims) / len(null_dims)
    return {name: value for name, value in figures.items() if math.isfinite(value)}


__all__ = ["Move", "SeedTask", "Site", "State", "Treat", "Treatment", "initial_model", "train_seed"]
