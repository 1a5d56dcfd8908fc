from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from orchestrator.home.records import HistoryRow, TrialConfig, TrialResult, TrialState
from orchestrator.spec import Objective
from orchestrator.spec.options import MODELS, Entry
from orchestrator.trial import arms
from orchestrator.trial import run as module
from orchestrator.trial.evaluate import Evaluator
from orchestrator.trial.run import run_trial
from teleport_engine import FixedStep, Options, Schedule, Teleporter
from tests.orchestrator.trial.tasks import TELEPORT, config

TIMES = {"seconds", "teleport_seconds", "seconds_to_target", "started_at", "ended_at"}


def run(of: TrialConfig) -> tuple[TrialResult, list[HistoryRow]]:
    rows: list[HistoryRow] = []
    return run_trial(of, rows.extend), rows


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if key not in TIMES}
    return [without_times(part) for part in value] if isinstance(value, (list, tuple)) else value


def metrics_of(of: TrialConfig) -> Any:
    result, rows = run(of)
    assert result.state is TrialState.COMPLETE
    return without_times([result.model_dump(), [row.model_dump() for row in rows]])


def build_rubbish(options: Any, input_shape: Any, num_classes: int) -> nn.Module:
    raise LookupError("no such layer\nsecond line")


def build_interrupted(options: Any, input_shape: Any, num_classes: int) -> nn.Module:
    raise KeyboardInterrupt("Ctrl-C")


@pytest.fixture
def replace_mlp(monkeypatch: pytest.MonkeyPatch) -> Any:
    def replace(builder: str) -> None:
        entry = Entry(MODELS["mlp"].options, f"{__name__}:{builder}")
        monkeypatch.setattr(Entry, "load", lambda self: globals()[builder] if self == MODELS["mlp"] else load(self))
        monkeypatch.setitem(MODELS, "mlp", entry)

    load = Entry.load
    return replace


@pytest.mark.parametrize("method", [{}, TELEPORT], ids=["baseline", "teleport"])
def test_the_same_configuration_and_seeds_give_the_same_metrics_bit_for_bit(method: dict[str, Any]) -> None:
    first = metrics_of(config(method))
    other = config(TELEPORT, seeds=(7,), training={"data": {"name": "digits", "batch_size": 50}})
    metrics_of(other)
    torch.set_default_dtype(torch.float64)
    torch.rand(3)
    try:
        assert metrics_of(config(method)) == first
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_complete_trial_has_the_result_and_the_value_of_its_seed() -> None:
    result, rows = run(config(TELEPORT))
    assert result.trial_id == config(TELEPORT).trial_id
    assert [seed.seed for seed in result.seeds] == [0]
    assert result.value == result.seeds[0].metrics["train_loss"] == rows[-1].metrics["train_loss"]
    assert [(row.seed, row.step) for row in rows] == [(0, n) for n in (0, 4, 8, 12, 16, 18)]
    assert result.failure is None
    assert result.started_at <= result.ended_at
    assert TrialResult.model_validate_json(result.model_dump_json()) == result


def test_the_machine_is_on_record() -> None:
    machine = run(config(share={"cpu": 2.5}))[0].machine
    assert machine is not None
    assert (machine.device, machine.num_threads) == ("cpu", 2)
    assert machine.versions.keys() == {"python", "torch", "platform"}
    assert machine.versions["torch"] == str(torch.__version__)


def test_a_trial_uses_the_threads_it_was_given_and_gives_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []
    curves = Evaluator.curves

    def watching(self: Evaluator) -> dict[str, float]:
        seen.append(torch.get_num_threads())
        return curves(self)

    monkeypatch.setattr(Evaluator, "curves", watching)
    run(config(share={"cpu": 0.5}))
    run(config(share={"cpu": 2}))
    assert (set(seen[:6]), set(seen[6:])) == ({1}, {2})
    assert torch.get_num_threads() == before


def test_a_trial_of_several_seeds_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"a trial trains one seed, and this one has \(0, 1\)"):
        run(config(seeds=(0, 1)))


def test_both_arms_of_a_seed_start_from_the_same_weights_and_another_seed_from_others() -> None:
    (baseline, *_), (teleport, *_), (other, *_) = (
        run(of)[1] for of in (config({}), config(TELEPORT), config({}, seeds=(1,)))
    )
    assert baseline.metrics == teleport.metrics != other.metrics


def test_teleports_that_cannot_move_leave_the_baselines_metrics_bit_for_bit() -> None:
    """Batch 128 fills a layer of 16: at tau = 1 nothing moves, so only the cost may differ."""
    narrow = {"model": {"name": "mlp", "widths": [16]}}
    stuck = {"teleport": TELEPORT["teleport"] | {"tau": 1.0}}
    baseline, rows = run(config({}, training=narrow))
    teleport, teleport_rows = run(config(stuck, training=narrow))
    assert [row.metrics for row in rows] == [row.metrics for row in teleport_rows]
    summary = teleport.seeds[0].teleports
    assert summary is not None
    assert (summary.count, summary.mean_gain, summary.max_loss_drift) == (2, None, None)
    assert sum(summary.outcomes.values()) == 2
    assert teleport.seeds[0].gradient_evaluations > baseline.seeds[0].gradient_evaluations
    assert teleport_rows[-1].num_teleports == 0


def test_the_teleport_arm_follows_its_schedule_and_sums_up_its_layers() -> None:
    result, rows = run(config(TELEPORT, training={"evaluate": {"every": 1}}))
    seed = result.seeds[0]
    summary = seed.teleports
    assert summary is not None
    assert (summary.count, summary.outcomes) == (2, {"moved": 2})
    assert [row.num_teleports for row in rows[:4]] == [0, 1, 2, 2]
    # Two steps of growth 1.2 within 5 % of the growth asked for, before the first and before the second batch.
    assert [row.metrics.get("teleport_gain") for row in rows[:4]] == [
        None,
        pytest.approx(1.2, abs=0.02),
        pytest.approx(1.2, abs=0.02),
        None,
    ]
    assert summary.mean_gain == pytest.approx(1.2, abs=0.02)
    assert summary.max_loss_drift == max(row.metrics.get("teleport_loss_drift", 0.0) for row in rows[:19])
    assert [(layer.name, layer.d_in) for layer in summary.layers] == [("hidden1", 64), ("output", 160)]
    assert summary.layers[1].moved == 2
    assert summary.layers[1].mean_rank is not None
    assert summary.layers[1].mean_null_dim == 160 - summary.layers[1].mean_rank
    dims = [row.metrics["teleport_null_dim"] for row in rows[:19] if "teleport_null_dim" in row.metrics]
    expected = [layer.mean_null_dim for layer in summary.layers if layer.mean_null_dim is not None]
    assert sum(dims) / 2 == sum(expected) / len(expected), "a row's figure is the mean over the layers that moved"
    assert 0.0 < seed.teleport_seconds < seed.seconds
    assert seed.gradient_evaluations > seed.num_steps + 2


def test_the_options_reach_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class Recorder:
        def __init__(self, model: nn.Module, loss_fn: Any, options: Options) -> None:
            seen.append(options)
            self.real = Teleporter(model, loss_fn, options)

        def teleport(self, *arguments: Any, **more: Any) -> Any:
            return self.real.teleport(*arguments, **more)

        def reuse_gradient(self, *batch: Any) -> Any:
            return self.real.reuse_gradient(*batch)

    def schedule_of(**settings: Any) -> Schedule:
        seen.append(settings)
        return Schedule(**settings)

    monkeypatch.setattr(arms, "Teleporter", Recorder)
    monkeypatch.setattr(arms, "Schedule", schedule_of)
    schedule = {"epochs": 2, "batches": 3, "steps": 5, "warmup": 4, "every": 2}
    step = {"rule": "fixed", "lr": 0.01}
    result, _ = run(
        config(
            {
                "teleport": {
                    "tau": 0.99,
                    "step": step,
                    "schedule": schedule,
                    "grad_norm_cap": 3e4,
                    "max_loss_drift": 0.5,
                }
            },
        )
    )
    assert result.state is TrialState.COMPLETE, result.failure
    settings, when = seen
    assert (settings.tau, settings.step, settings.num_steps) == (0.99, FixedStep(0.01), 5)
    assert settings.limits.grad_norm_cap == 3e4
    assert settings.limits.max_loss_drift == 0.5
    assert when == {"epochs": 2, "batches": 3, "batches_per_epoch": 9, "warmup": 4, "every": 2}


def test_a_diverging_trial_fails_and_keeps_what_its_seed_came_to() -> None:
    result, rows = run(config(training={"optimizer": {"name": "sgd", "lr": 1e30}}))
    assert (result.state, result.value) == (TrialState.FAIL, None)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.traceback) == ("diverged", "")
    assert result.failure.message == "seed 0: the loss was not finite after 1 of 18 steps"
    assert [(seed.seed, seed.outcome) for seed in result.seeds] == [(0, "diverged")]
    assert all(math.isfinite(value) for row in rows for value in row.metrics.values())


def test_a_crashing_builder_fails_the_trial_with_its_traceback(replace_mlp: Any) -> None:
    replace_mlp("build_rubbish")
    result, rows = run(config())
    assert (result.state, result.value, result.seeds, rows) == (TrialState.FAIL, None, (), [])
    assert result.failure is not None
    assert (result.failure.kind, result.failure.message) == ("crashed", "LookupError: no such layer")
    assert "in build_rubbish" in result.failure.traceback
    assert result.machine is not None


def test_a_crash_keeps_the_rows_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, curves = iter(range(100)), Evaluator.curves

    def crashing(self: Evaluator) -> dict[str, float]:
        if next(calls) == 2:
            raise LookupError("gone")
        return curves(self)

    monkeypatch.setattr(Evaluator, "curves", crashing)
    result, rows = run(config())
    assert result.failure is not None
    assert (result.failure.kind, result.failure.message) == ("crashed", "LookupError: gone")
    assert result.seeds == ()
    assert [(row.seed, row.step) for row in rows] == [(0, 0), (0, 4)]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
    ids=["python", "gpu", "cpu"],
)
def test_want_of_memory_is_told_apart_from_a_crash(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def greedy(self: Evaluator) -> dict[str, float]:
        raise error

    monkeypatch.setattr(Evaluator, "curves", greedy)
    result, _ = run(config())
    assert result.failure is not None
    assert result.failure.kind == "memory"
    assert type(error).__name__ in result.failure.message


def test_missing_data_is_a_crash_of_the_trial_alone(tmp_path: Any) -> None:
    data = {"name": "fashion_mnist", "batch_size": 8, "root": str(tmp_path / "missing")}
    failure = run(config(training={"data": data}))[0].failure
    assert failure is not None
    assert failure.message.startswith("DataNotFound: fashion_mnist: data.root ")
    assert failure.message.endswith("missing does not exist")


def test_an_interrupt_is_no_result_and_leaves_torch_as_it_was(replace_mlp: Any) -> None:
    replace_mlp("build_interrupted")
    before = torch.get_num_threads(), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
        run(config(share={"cpu": 3}))
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_rows_come_in_bunches_in_order_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    bunches: list[list[tuple[int, int]]] = []

    def report(rows: Sequence[HistoryRow]) -> None:
        bunches.append([(row.seed, row.step) for row in rows])

    monkeypatch.setattr(module, "SECONDS_BETWEEN_REPORTS", 3600.0)
    run_trial(config(), report)
    steps = [0, 4, 8, 12, 16, 18]
    assert bunches == [[(0, step) for step in steps]]
    bunches.clear()
    monkeypatch.setattr(module, "SECONDS_BETWEEN_REPORTS", 0.0)
    run_trial(config(), report)
    assert bunches == [[(0, step)] for step in steps]


def test_time_to_target_can_be_the_objective() -> None:
    missed = {"target": {"metric": "train_loss", "value": 1e-9}}
    objective = {"metric": "steps_to_target", "mode": "min"}
    assert run(config(objective=objective, training=missed))[0].value == 36.0
    reached = run(config(objective=objective))[0]
    assert reached.value is not None
    assert reached.value == reached.seeds[0].steps_to_target
    assert reached.value < 18


def test_several_objectives_have_a_value_each() -> None:
    metrics = ("seconds", "gradient_evaluations", "gradient_evaluations_to_target", "validation_accuracy")
    result, _ = run(config(objective=Objective(), also=tuple(Objective.model_validate({"metric": m}) for m in metrics)))
    [seed] = result.seeds
    assert result.values == (
        seed.metrics["train_loss"],
        seed.seconds,
        seed.gradient_evaluations,
        seed.gradient_evaluations_to_target or 2 * seed.gradient_evaluations,
        seed.metrics["validation_accuracy"],
    )
    assert result.value == result.values[0]
    assert run(config())[0].values == ()


def test_without_a_gpu_the_cpu_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    machine = run(config(share={"gpu": 1}))[0].machine
    assert machine is not None
    assert machine.device == "cpu"
