"""The training loop: it trains one seed of a workload under an arm, and times all but the evaluations."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from orchestrator.home import HistoryRow, SeedResult, TimesToTarget, times_to_target
from orchestrator.spec import Phase, Workload
from orchestrator.spec.options import MODELS, OPTIMIZERS
from orchestrator.trial.arithmetic import scaler_of, training_loss
from orchestrator.trial.batches import Batches, ExtraBatches
from orchestrator.trial.clock import Budget, OptimizerClock
from orchestrator.trial.data.dataset import DataSet, load_cached
from orchestrator.trial.evaluate import Evaluator
from orchestrator.trial.isolation import random_state, seed_everything, set_random_state, stream_seed
from orchestrator.trial.optimizers import scheduler_of
from orchestrator.trial.running_arm import ArmEffect, MakeArm, RunningArm, TrainingContext
from orchestrator.trial.tasks import LossFn, Task, checked, task_of

# Only tensors and plain values, because torch can read a pickle of these without running code.
State = dict[str, Any]


@final
@dataclass(frozen=True)
class SeedTask:
    """One seed to train.

    Args:
        workload: what is trained, every value fixed.
        phase: only the confirm phase measures the test split.
        seed: initial weights and data order follow from it.
        device: where the model is trained.
    """

    workload: Workload
    phase: Phase
    seed: int
    device: torch.device


def train_seed(
    task: SeedTask,
    make_arm: MakeArm,
    emit: Callable[[HistoryRow], None],
    now: Callable[[], float] = time.perf_counter,
    *,
    start: State | None = None,
    keep: Callable[[Callable[[], State]], None] = lambda state: None,
) -> SeedResult:
    """Train one seed from its initial weights until its budget is spent or its loss is not finite.

    Initial weights and data order follow from the seed alone, whatever the arm does.

    Args:
        task: what to train.
        make_arm: makes the arm.
        emit: takes each row of the curves as it is measured: at step 0, at every ``evaluate.every``-th step and
            at the last.
        now: the clock's source of seconds.
        start: a state of the same task to continue from; on the CPU, every metric is then bit for bit as if training
            had not stopped.
        keep: is called after each row but the last, off the clock, with a function that returns the state at that row.
    """
    data_set = load_cached(task.workload.data, task.device)
    budget = Budget.of(task.workload, len(data_set.train))
    goal = task_of(task.workload.task)
    parts, loss_of = _prepared(task, data_set, goal, budget, make_arm, now)
    loop = _Loop(parts, loss_of, task.workload, task.device)
    curve = _Curve(
        task, budget, loop, Evaluator(parts.model, data_set, goal, task.workload.evaluate.num_validation), emit
    )
    state = _SeedState(parts, loop, curve, task.device)
    if start is None:
        is_finite = curve.record()
    else:
        is_finite = True
        state.restore(start)
    for first, last in budget.stretches():
        if not is_finite:
            break
        if last <= loop.num_steps:
            continue
        is_finite = loop.advance(first, last) and curve.record()
        if is_finite and last < budget.num_steps:
            keep(state.take)
    return curve.result("completed" if is_finite else "diverged", chance_loss=goal.chance_loss(data_set.num_classes))


def initial_model(task: SeedTask, data_set: DataSet) -> nn.Module:
    """Build a workload's model in training mode; a seed's initial weights are drawn on the CPU whatever the device."""
    options = task.workload.model
    seed_everything(stream_seed(task.seed, "weights"))
    model: nn.Module = MODELS[options.name].load()(options, data_set.input_shape, data_set.num_classes)
    return model.to(task.device).train()


def _prepared(
    task: SeedTask, data_set: DataSet, goal: Task, budget: Budget, make_arm: MakeArm, now: Callable[[], float]
) -> tuple[_Parts, LossFn]:
    workload = task.workload
    model = initial_model(task, data_set)
    checked(workload, goal, model, data_set.train)
    options = workload.optimizer
    optimizer: torch.optim.Optimizer = OPTIMIZERS[options.name].load()(
        model.parameters(), **options.model_dump(exclude={"name"})
    )
    scheduler = scheduler_of(workload.lr_schedule, optimizer, budget.num_steps)
    loss_of = training_loss(workload, model, goal.loss, data_set.train)
    # Models draw different numbers of initial weights, so the generators are seeded anew.
    seed_everything(stream_seed(task.seed, "training"))
    extra = ExtraBatches(data_set.train, workload.data.batch_size, task.seed)
    parts = _Parts(
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        scaler=scaler_of(workload, task.device),
        batches=Batches(data_set.train, workload.data.batch_size, task.seed),
        extra_batches=extra,
        arm=make_arm(TrainingContext(model, goal.loss, optimizer, budget, task.seed, extra)),
        clock=OptimizerClock(task.device, now),
    )
    return parts, loss_of


@final
@dataclass(frozen=True)
class _Parts:
    """The parts of a seed's training whose state a checkpoint holds; one that the training lacks is None."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LambdaLR | None
    scaler: torch.amp.GradScaler | None
    batches: Batches
    extra_batches: ExtraBatches
    arm: RunningArm | None
    clock: OptimizerClock

    def state_dict(self) -> State:
        return {name: part.state_dict() for name, part in self._present()}

    def load_state_dict(self, state_dict: State) -> None:
        for name, part in self._present():
            part.load_state_dict(state_dict[name])

    def _present(self) -> Iterator[tuple[str, Any]]:
        found = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ((name, part) for name, part in found if part is not None)


@final
class _Loop:
    """Takes optimizer steps; between two evaluations nothing but training runs."""

    def __init__(self, parts: _Parts, loss_of: LossFn, workload: Workload, device: torch.device) -> None:
        self._parts = parts
        self._loss_of = loss_of
        # Arms compute in float32 with the model itself, so only then is their gradient the step's.
        self._is_plain = workload.precision == "float32" and not workload.compile
        self._device = device
        self.arm = parts.arm
        self.clock = parts.clock
        self.num_steps = 0
        self.gradient_evaluations = 0.0
        self.num_moved = 0
        self._effects: list[ArmEffect] = []

    @property
    def skips_steps(self) -> bool:
        """Whether a step is left out where its gradients overflow; float16 does so."""
        return self._parts.scaler is not None

    def advance(self, first: int, last: int) -> bool:
        """Take the optimizer steps ``first .. last - 1``, and tell whether every loss was finite.

        On the CPU a step with a loss that is not finite is not taken. Reading each loss would stall a CUDA device, so
        there all steps are taken first.
        """
        optimizer, scheduler, scaler = self._parts.optimizer, self._parts.scheduler, self._parts.scaler
        draw, arm, loss_of = self._parts.batches, self.arm, self._loss_of
        update = optimizer.step if scaler is None else self._scaled_step
        is_cpu = self._device.type == "cpu"
        watched = torch.zeros((), device=self._device)
        with self.clock.running():
            for step in range(first, last):
                inputs, targets = next(draw)
                effect = None
                if arm is not None and arm.is_due(step):
                    effect = self._apply(arm, step, inputs, targets)
                optimizer.zero_grad()
                known = effect.step_gradient() if effect is not None and self._is_plain else None
                if known is not None:
                    if not math.isfinite(known):
                        return False
                else:
                    loss = loss_of(inputs, targets)
                    if is_cpu:
                        if not math.isfinite(loss.item()):
                            return False
                    else:
                        watched += loss.detach()
                    if scaler is not None:
                        loss = scaler.scale(loss)
                    loss.backward()  # type: ignore[no-untyped-call]
                    self.gradient_evaluations += 1.0
                if effect is None or effect.around is None:
                    update()
                else:
                    with effect.around:
                        update()
                if scheduler is not None:
                    scheduler.step()
                self.num_steps += 1
            return math.isfinite(watched.item())

    def take_effects(self) -> list[ArmEffect]:
        """Return what the arm did since the last call."""
        effects, self._effects = self._effects, []
        return effects

    def state_dict(self) -> State:
        """Return the counts; effects that nobody has taken yet are not part of the state."""
        return {
            "num_steps": self.num_steps,
            "gradient_evaluations": self.gradient_evaluations,
            "num_moved": self.num_moved,
        }

    def load_state_dict(self, state_dict: State) -> None:
        """Continue from a state."""
        self.num_steps = state_dict["num_steps"]
        self.gradient_evaluations = state_dict["gradient_evaluations"]
        self.num_moved = state_dict["num_moved"]

    def _scaled_step(self) -> None:
        scaler = self._parts.scaler
        assert scaler is not None
        scaler.step(self._parts.optimizer)
        scaler.update()

    def _apply(self, arm: RunningArm, step: int, inputs: Any, targets: Tensor) -> ArmEffect:
        with self.clock.teleporting():
            effect = arm.apply(step, inputs, targets)
        self.gradient_evaluations += effect.gradient_evaluations
        self.num_moved += effect.has_moved
        self._effects.append(effect)
        return effect


@final
class _Curve:
    """Evaluates the model, writes the rows of the curves, and remembers when the target was reached."""

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
        self._to_target: TimesToTarget = times_to_target(task.workload.target, ())

    def record(self) -> bool:
        """Measure and emit a row; where a metric is not finite, emit none and return False."""
        loop = self._loop
        metrics = self._evaluator.curves()
        if self._task.phase == "confirm" and loop.num_steps == self._budget.num_steps:
            metrics |= self._evaluator.test()
        if loop.skips_steps and not math.isfinite(metrics.get("grad_norm", 0.0)):
            del metrics["grad_norm"]
        if not all(map(math.isfinite, metrics.values())):
            return False
        metrics |= _metrics_of(loop.take_effects())
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
        if self._to_target["steps_to_target"] is None:
            self._to_target = times_to_target(self._task.workload.target, filter(None, (self._last, row)))
        self._last = row
        self._emit(row)
        return True

    def state_dict(self) -> State:
        """Return the last row, and when the target was reached."""
        return {"last": None if self._last is None else self._last.model_dump(), "to_target": self._to_target}

    def load_state_dict(self, state_dict: State) -> None:
        """Continue from a state."""
        self._last = None if state_dict["last"] is None else HistoryRow(**state_dict["last"])
        self._to_target = state_dict["to_target"]

    def result(self, outcome: str, *, chance_loss: float | None) -> SeedResult:
        """Sum up the seed."""
        loop = self._loop
        return SeedResult.model_validate(
            {
                "seed": self._task.seed,
                "outcome": outcome,
                "num_steps": loop.num_steps,
                "budget_steps": self._budget.num_steps,
                **self._to_target,
                "seconds": loop.clock.seconds,
                "teleport_seconds": loop.clock.teleport_seconds,
                "gradient_evaluations": loop.gradient_evaluations,
                "metrics": {} if self._last is None else self._last.metrics,
                "teleports": None if loop.arm is None else loop.arm.summary(),
                "chance_loss": chance_loss,
            }
        )


@final
@dataclass(frozen=True)
class _SeedState:
    """Takes and restores all of a seed's state at a row of its curves."""

    parts: _Parts
    loop: _Loop
    curve: _Curve
    device: torch.device

    def take(self) -> State:
        return {
            "parts": self.parts.state_dict(),
            "loop": self.loop.state_dict(),
            "curve": self.curve.state_dict(),
            "random": random_state(self.device),
        }

    def restore(self, state: State) -> None:
        self.parts.load_state_dict(state["parts"])
        self.loop.load_state_dict(state["loop"])
        self.curve.load_state_dict(state["curve"])
        set_random_state(state["random"], self.device)


def _metrics_of(effects: list[ArmEffect]) -> dict[str, float]:
    """Sum up what the arm did since the last row, over the times that it moved weights."""
    moved = [effect for effect in effects if effect.has_moved]
    if not moved:
        return {}
    metrics = {
        "teleport_loss_drift": max(abs(effect.loss_drift) for effect in moved),
        "teleport_gain": sum(effect.gain for effect in moved) / len(moved),
    }
    probed = [abs(effect.probe_drift) for effect in moved if effect.probe_drift is not None]
    if probed:
        metrics["teleport_probe_drift"] = max(probed)
    null_dims = [effect.null_dim for effect in moved if effect.null_dim is not None]
    if null_dims:
        metrics["teleport_null_dim"] = sum(null_dims) / len(null_dims)
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
