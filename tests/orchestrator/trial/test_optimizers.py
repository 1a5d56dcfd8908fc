"""Optimizers and learning-rate schedules: torch's own, stepped as torch steps them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, StepLR

from orchestrator.home.records import HistoryRow
from orchestrator.spec.options import LR_SCHEDULES, OPTIMIZERS
from orchestrator.spec.options.lr_schedules import LrScheduleOptions
from orchestrator.trial import loop as training
from orchestrator.trial.loop import train_seed
from orchestrator.trial.optimizers import scheduler_of
from orchestrator.trial.running_arm import RunningArm, TrainingContext
from teleport_engine.compare.controls import scaled_lr
from tests.orchestrator.trial.tasks import task


def optimizer_of(name: str, parameter: torch.nn.Parameter, **more: Any) -> torch.optim.Optimizer:
    options = OPTIMIZERS[name].options.model_validate({"name": name, "lr": 0.1, **more})
    made: torch.optim.Optimizer = OPTIMIZERS[name].load()([parameter], **options.model_dump(exclude={"name"}))
    return made


def path_of(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> Iterator[torch.Tensor]:
    for _ in range(5):
        parameter.grad = 2.0 * parameter.detach()
        optimizer.step()
        yield parameter.detach().clone()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("momentum", {"momentum": 0.9}),
        ("nesterov", {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_momentum_and_nesterov_are_sgd_with_momentum(name: str, expected: dict[str, Any]) -> None:
    paths = []
    for which, more in ((name, {}), ("sgd", expected)):
        parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        paths.append(torch.stack(list(path_of(optimizer_of(which, parameter, **more), parameter))))
    assert torch.equal(*paths)


def test_betas_are_written_as_a_list() -> None:
    optimizer = optimizer_of("adam", torch.nn.Parameter(torch.ones(1)), betas=[0.5, 0.9])
    assert optimizer.defaults["betas"] == (0.5, 0.9)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adam", {"betas": [0.9]}, "Field required"),
        ("adam", {"betas": [0.9, 1.0]}, "less than 1"),
        ("adam", {"betas": 0.9}, "valid tuple"),
        ("adamw", {"momentum": 0.9}, "Extra inputs are not permitted"),
        ("momentum", {"momentum": 0.0}, "greater than 0"),
        ("nesterov", {"dampening": 0.1}, "Extra inputs are not permitted"),
        ("rmsprop", {"alpha": 1.0}, "less than 1"),
        ("adagrad", {"lr_decay": -1.0}, "greater than or equal to 0"),
    ],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OPTIMIZERS[name].options.model_validate({"name": name, "lr": 0.1, **options})


def schedule(**options: Any) -> LrScheduleOptions:
    found = LR_SCHEDULES[options["name"]].options.model_validate(options)
    assert isinstance(found, LrScheduleOptions)
    return found


def rates_of(scheduler: Any, optimizer: torch.optim.Optimizer, num_steps: int) -> list[float]:
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("options", "twin"),
    [
        ({"name": "cosine"}, lambda optimizer: CosineAnnealingLR(optimizer, 12)),
        ({"name": "cosine", "final": 0.25}, lambda optimizer: CosineAnnealingLR(optimizer, 12, eta_min=0.25)),
        ({"name": "step", "every": 5}, lambda optimizer: StepLR(optimizer, 5)),
        ({"name": "step", "every": 2, "factor": 0.5}, lambda optimizer: StepLR(optimizer, 2, 0.5)),
    ],
)
def test_without_warm_up_a_schedule_is_torchs(options: dict[str, Any], twin: Any) -> None:
    mine, torchs = (torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0) for _ in range(2))
    expected = rates_of(twin(torchs), torchs, 12)
    assert rates_of(scheduler_of(schedule(**options), mine, 12), mine, 12) == pytest.approx(expected)


def test_a_constant_rate_has_no_scheduler_unless_it_is_warmed_up() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    assert scheduler_of(schedule(name="constant"), optimizer, 10) is None
    scheduler = scheduler_of(schedule(name="constant", warmup=1), optimizer, 10)
    assert rates_of(scheduler, optimizer, 4) == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["cosine", "step"])
def test_a_warm_up_longer_than_the_run_is_cut_off(name: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    options = schedule(name=name, warmup=9, **({"every": 2} if name == "step" else {}))
    assert rates_of(scheduler_of(options, optimizer, 4), optimizer, 4) == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "step"}, "Field required"),
        ({"name": "step", "every": 0}, "greater than 0"),
        ({"name": "step", "every": 1, "factor": 2.0}, "less than or equal to 1"),
        ({"name": "cosine", "final": -0.1}, "greater than or equal to 0"),
        ({"name": "constant", "warmup": 1.5}, "valid integer"),
    ],
)
def test_bad_schedules_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        schedule(**options)


def rates_in_training(make_arm: Any = lambda context: None, **more: Any) -> list[float]:
    """The learning rate of every optimizer step of a run."""
    rates: list[float] = []

    def watch(context: TrainingContext) -> RunningArm | None:
        context.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
        made: RunningArm | None = make_arm(context)
        return made

    rows: list[HistoryRow] = []
    train_seed(task(**more), watch, rows.append)
    return rates


def test_training_steps_the_schedule_once_a_step_over_the_whole_run() -> None:
    """18 steps in stretches of 4."""
    rates = rates_in_training(lr_schedule={"name": "cosine", "warmup": 2})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.2)
    expected = rates_of(CosineAnnealingLR(optimizer, 16), optimizer, 16)
    assert rates == pytest.approx([0.2 / 3, 0.4 / 3, *expected])


def test_training_at_a_constant_rate_makes_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rates_in_training() == [0.2] * 18
    monkeypatch.setattr(LambdaLR, "step", lambda *_: pytest.fail("a scheduler stepped"))
    assert rates_in_training() == [0.2] * 18


def test_a_rate_that_is_scaled_for_a_step_is_the_schedules_scaled() -> None:
    """A scaled step and the scheduler's after it: neither forgets the other."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = scheduler_of(schedule(name="step", every=1, factor=0.5), optimizer, 4)
    assert scheduler is not None
    rates = []
    for index in range(4):
        with scaled_lr(optimizer, 10.0 if index == 1 else 1.0):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
        scheduler.step()
    assert rates == [1.0, 5.0, 0.25, 0.125]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains(name: str) -> None:
    rows: list[HistoryRow] = []
    rate = {"sgd": 0.3, "momentum": 0.05, "nesterov": 0.05}.get(name, 0.01)
    result = training.train_seed(
        task(optimizer={"name": name, "lr": rate}, lr_schedule={"name": "cosine", "warmup": 3}),
        lambda context: None,
        rows.append,
    )
    assert result.outcome == "completed"
    assert rows[-1].metrics["train_loss"] < 0.8 * rows[0].metrics["train_loss"]
