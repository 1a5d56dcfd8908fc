from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import numpy as np
import pytest
import torch
from torch import Tensor

from orchestrator.home.records import HistoryRow, SeedResult, TeleportSummary
from orchestrator.spec.options import ClassificationOptions
from orchestrator.trial import evaluate
from orchestrator.trial.batches import Batches
from orchestrator.trial.data.dataset import Split, load_cached
from orchestrator.trial.evaluate import Evaluator
from orchestrator.trial.loop import SeedTask, initial_model, train_seed
from orchestrator.trial.running_arm import ArmEffect, MakeArm, RunningArm, TrainingContext
from orchestrator.trial.tasks import classification
from tests.orchestrator.trial.tasks import task

CPU = torch.device("cpu")
CLASSES = classification(ClassificationOptions(name="classification"))


@final
class Noise:
    """An arm that draws from every global generator and shakes the weights."""

    def __init__(self, context: TrainingContext, size: float = 0.0) -> None:
        self.model = context.model
        self.size = size
        self.seen: list[tuple[int, Tensor, Tensor]] = []

    def is_due(self, step_index: int) -> bool:
        return step_index % 3 == 1

    def apply(self, step_index: int, inputs: Tensor, targets: Tensor) -> ArmEffect:
        self.seen.append((step_index, inputs.clone(), targets.clone()))
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=self.size)
        return ArmEffect(has_moved=True, gradient_evaluations=2.5, loss_drift=-0.25, gain=1.5, null_dim=step_index)

    def summary(self) -> TeleportSummary:
        return TeleportSummary(count=len(self.seen), outcomes={}, mean_gain=1.5, max_loss_drift=0.25, layers=())

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def run(
    of: SeedTask,
    make_arm: MakeArm = lambda context: None,
    now: Callable[[], float] | None = None,
) -> tuple[SeedResult, list[HistoryRow]]:
    rows: list[HistoryRow] = []
    clock: dict[str, Any] = {} if now is None else {"now": now}
    return train_seed(of, make_arm, rows.append, **clock), rows


def test_evaluates_at_step_0_at_every_nth_and_at_the_last() -> None:
    result, rows = run(task())
    assert [row.step for row in rows] == [0, 4, 8, 12, 16, 18]
    assert [row.epoch for row in rows] == pytest.approx([step / 9 for step in (0, 4, 8, 12, 16, 18)])
    assert [row.gradient_evaluations for row in rows] == [row.step for row in rows]
    assert (result.num_steps, result.budget_steps, result.outcome) == (18, 18, "completed")
    assert result.metrics == rows[-1].metrics
    assert result.teleports is None
    assert result.chance_loss == pytest.approx(math.log(10))


def test_curves_in_search_leave_the_test_split_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evaluator, "test", lambda self: pytest.fail("the test split was touched"))
    _, rows = run(task())
    assert rows[0].metrics.keys() == {"train_loss", "validation_loss", "validation_accuracy"}
    assert rows[-1].metrics.keys() == {"train_loss", "validation_loss", "validation_accuracy", "grad_norm"}


def test_confirm_measures_the_test_split_in_the_last_row_alone() -> None:
    _, rows = run(task(phase="confirm"))
    has_test = [{"test_loss", "test_accuracy"} <= row.metrics.keys() for row in rows]
    assert has_test == [False] * 5 + [True]
    assert rows[-1].metrics["test_accuracy"] > 0.5


def test_metrics_are_what_a_plain_loop_gives() -> None:
    """The same numbers from the obvious code: no clock, no chunks, no stretches."""
    of = task()
    _, rows = run(of)
    data = load_cached(of.workload.data, CPU)
    model = initial_model(of, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    draw = Batches(data.train, 128, 0)
    for _ in range(18):
        inputs, targets = next(draw)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    outputs = model(data.validation.inputs)
    loss = torch.nn.functional.cross_entropy(outputs, data.validation.targets).item()
    accuracy = (outputs.argmax(1) == data.validation.targets).double().mean().item()
    norm = math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in model.parameters() if p.grad is not None))
    assert rows[-1].metrics["validation_loss"] == pytest.approx(loss, rel=1e-6)
    assert rows[-1].metrics["validation_accuracy"] == pytest.approx(accuracy)
    assert rows[-1].metrics["grad_norm"] == pytest.approx(norm, rel=1e-6)


def test_train_loss_is_on_a_fixed_subset_in_evaluation_mode() -> None:
    of = task()
    data = load_cached(of.workload.data, CPU)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9), torch.nn.Linear(64, 10))
    first = Evaluator(model, data, CLASSES).curves()
    assert Evaluator(model, data, CLASSES).curves() == first
    assert model.training
    outputs = model.eval()(data.train.inputs)
    losses = torch.nn.functional.cross_entropy(outputs, data.train.targets, reduction="none")
    assert first["train_loss"] == pytest.approx(losses.mean().item(), rel=0.02)
    assert first["train_loss"] != pytest.approx(losses.mean().item(), rel=1e-6)


def test_a_validation_subset_is_the_same_each_time_and_all_of_it_where_it_is_as_large_as_the_split() -> None:
    of = task()
    data = load_cached(of.workload.data, CPU)
    model = initial_model(of, data)
    whole, part = Evaluator(model, data, CLASSES).curves(), Evaluator(model, data, CLASSES, 100).curves()
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(data.validation))[:100])
    outputs = model.eval()(data.validation.inputs[order])
    loss = torch.nn.functional.cross_entropy(outputs, data.validation.targets[order]).item()
    assert part["validation_loss"] == pytest.approx(loss, rel=1e-6)
    assert part["validation_loss"] != whole["validation_loss"]
    assert part["train_loss"] == whole["train_loss"]
    assert Evaluator(model, data, CLASSES, 10**6).curves() == pytest.approx(whole, rel=1e-6)


def test_evaluating_in_chunks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    of = task()
    data = load_cached(of.workload.data, CPU)
    model = initial_model(of, data)
    whole = Evaluator(model, data, CLASSES)
    expected = whole.curves() | whole.test()
    monkeypatch.setattr(evaluate, "CHUNK", 100)
    assert whole.curves() | whole.test() == pytest.approx(expected, rel=1e-6)


def test_weights_and_data_order_follow_from_the_seed_whatever_the_arm_draws() -> None:
    made: list[Noise] = []

    def make(context: TrainingContext) -> RunningArm:
        made.append(Noise(context))
        return made[-1]

    result, rows = run(task(), make)
    plain, plain_rows = run(task())
    assert [row.metrics["train_loss"] for row in rows] == [row.metrics["train_loss"] for row in plain_rows]
    assert result.metrics["validation_loss"] == plain.metrics["validation_loss"]
    draw = Batches(load_cached(task().workload.data, CPU).train, 128, 0)
    order = [next(draw) for _ in range(18)]
    for step, inputs, targets in made[0].seen:
        assert torch.equal(inputs, order[step][0])
        assert torch.equal(targets, order[step][1])
    assert run(task(seed=1))[1][0].metrics != rows[0].metrics


def test_randomness_in_training_has_a_stream_of_its_own() -> None:
    """Dropout and the like draw the same whatever the weights drew before: a wider layer must not shift them."""
    seen: list[float] = []

    def make(context: TrainingContext) -> None:
        seen.append(torch.rand(()).item())

    for width in (8, 16):
        run(task(model={"name": "mlp", "widths": [width]}, epochs=1), make)
    assert seen[0] == seen[1]


def test_what_an_arm_does_shows_in_the_rows_where_it_did_it() -> None:
    result, rows = run(task(), Noise)
    # Due at 1, 4, 7, 10, 13, 16; rows at 0, 4, 8, 12, 16, 18.
    assert [row.num_teleports for row in rows] == [0, 1, 3, 4, 5, 6]
    assert [row.gradient_evaluations for row in rows] == [r.step + 2.5 * r.num_teleports for r in rows]
    assert ["teleport_gain" in row.metrics for row in rows] == [False, True, True, True, True, True]
    assert rows[1].metrics["teleport_loss_drift"] == 0.25
    assert rows[1].metrics["teleport_gain"] == 1.5
    assert [row.metrics.get("teleport_null_dim") for row in rows[:4]] == [None, 1.0, 5.5, 10.0]
    assert result.teleports is not None
    assert result.teleports.count == 6


def test_the_clock_counts_training_and_teleports_and_stands_during_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each thing takes its own time on an injected clock: a step 1, a teleport 100, an evaluation 10,000."""
    elapsed = 0.0

    def spend(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def spending(*arguments: Any) -> Any:
            nonlocal elapsed
            elapsed += seconds
            return function(*arguments)

        return spending

    def make(context: TrainingContext) -> RunningArm:
        monkeypatch.setattr(context.optimizer, "step", spend(1.0, context.optimizer.step))
        return Noise(context)

    monkeypatch.setattr(Noise, "apply", spend(100.0, Noise.apply))
    monkeypatch.setattr(Evaluator, "curves", spend(10_000.0, Evaluator.curves))
    result, rows = run(task(target={"metric": "train_loss", "value": 2.0}), make, now=lambda: elapsed)
    assert [row.seconds for row in rows] == [row.step + 100.0 * row.num_teleports for row in rows]
    assert [row.teleport_seconds for row in rows] == [100.0 * row.num_teleports for row in rows]
    assert (result.seconds, result.teleport_seconds) == (618.0, 600.0)
    place = next(place for place, row in enumerate(rows) if row.metrics["train_loss"] <= 2.0)
    before, reached = rows[place - 1], rows[place]
    assert result.steps_to_target is not None
    assert before.step < result.steps_to_target < reached.step
    share = (result.steps_to_target - before.step) / (reached.step - before.step)
    assert result.seconds_to_target == pytest.approx(before.seconds + share * (reached.seconds - before.seconds))
    assert result.gradient_evaluations_to_target == pytest.approx(
        before.gradient_evaluations + share * (reached.gradient_evaluations - before.gradient_evaluations)
    )


def test_the_target_is_reached_between_two_evaluations() -> None:
    _, rows = run(task())
    above, below = (row.metrics["train_loss"] for row in rows[2:4])
    at, halfway = (
        run(task(target={"metric": "train_loss", "value": value}))[0] for value in (below, math.sqrt(above * below))
    )
    assert at.steps_to_target == rows[3].step
    assert halfway.steps_to_target == pytest.approx((rows[2].step + rows[3].step) / 2)


def test_a_miss_is_none_and_the_budget_says_where_it_is_censored() -> None:
    result, _ = run(task(target={"metric": "train_loss", "value": 1e-9}))
    assert (result.steps_to_target, result.seconds_to_target, result.gradient_evaluations_to_target) == (None,) * 3
    assert result.budget_steps == 18


def test_accuracy_targets_are_reached_from_below() -> None:
    result, rows = run(task(target={"metric": "validation_accuracy", "value": 0.5}))
    first = next(place for place, row in enumerate(rows) if row.metrics["validation_accuracy"] >= 0.5)
    assert result.steps_to_target is not None
    assert rows[first - 1].step < result.steps_to_target <= rows[first].step


def test_a_loss_that_is_not_finite_ends_the_seed_at_once() -> None:
    result, rows = run(task(optimizer={"name": "sgd", "lr": 1e30}, evaluate={"every": 100}))
    assert (result.outcome, result.num_steps) == ("diverged", 1)
    assert [row.step for row in rows] == [0]
    assert result.metrics == rows[0].metrics


def test_a_seed_that_starts_without_a_finite_loss_has_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = {"train_loss": math.nan, "validation_loss": 1.0, "validation_accuracy": 0.1}
    monkeypatch.setattr(Evaluator, "curves", lambda self: metrics)
    result, rows = run(task())
    assert (result.outcome, result.num_steps, result.metrics, rows) == ("diverged", 0, {}, [])


def test_weights_that_blow_up_at_the_last_step_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = run(task(optimizer={"name": "sgd", "lr": 1e38}, epochs=1, data={"name": "digits", "batch_size": 1257}))
    assert (result.outcome, result.num_steps) == ("diverged", 1)


def test_each_epoch_is_a_fresh_permutation_without_repetition() -> None:
    split = Split(torch.arange(10.0).unsqueeze(1), torch.arange(10))
    draw = Batches(split, 3, seed=0)
    epochs = [torch.cat([next(draw)[1] for _ in range(3)]).tolist() for _ in range(3)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    again = Batches(split, 3, seed=0)
    assert torch.cat([next(again)[1] for _ in range(3)]).tolist() == epochs[0]
    other = Batches(split, 3, seed=1)
    assert torch.cat([next(other)[1] for _ in range(3)]).tolist() != epochs[0]


def test_a_batch_larger_than_the_split_is_the_split() -> None:
    split = Split(torch.arange(10.0).unsqueeze(1), torch.arange(10))
    assert sorted(next(Batches(split, 64, seed=0))[1].tolist()) == list(range(10))


def test_a_data_set_is_loaded_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_cached(task().workload.data, CPU)
    assert load_cached(task(data={"name": "digits", "batch_size": 7}).workload.data, CPU) is data
