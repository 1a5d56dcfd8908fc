"""Low precision and compiled training: the same weights to begin with, the same measure, float32 where it matters."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orchestrator.home.records import HistoryRow, SeedResult, TrialState
from orchestrator.search.lints import spec_lints
from orchestrator.trial import arithmetic
from orchestrator.trial import loop as training
from orchestrator.trial.arithmetic import scaler_of, training_loss
from orchestrator.trial.data.dataset import Split
from orchestrator.trial.run import run_trial
from orchestrator.trial.tasks import cross_entropy
from teleport_engine import Teleporter, TeleportReport
from tests.orchestrator.home.test_checkpoint import goes_on_anywhere, often
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trial.tasks import TELEPORT, config, workload

LOW = ("bfloat16", "float16")

# Tracing looks at `.grad` of every input of a graph, and torch warns of that where one is no leaf.
compiling = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


@pytest.fixture
def _light_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ahead-of-time autograd without the C++ compiler that "inductor" needs, and that takes a minute."""
    monkeypatch.setattr(arithmetic, "COMPILE_BACKEND", "aot_eager")
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def run(method: dict[str, Any], **options: Any) -> tuple[SeedResult, list[HistoryRow]]:
    rows: list[HistoryRow] = []
    result = run_trial(config(method, seeds=(0,), training=options), rows.extend)
    assert result.state is TrialState.COMPLETE, result.failure
    return result.seeds[0], rows


@pytest.mark.parametrize("precision", LOW)
def test_low_precision_trains_as_float32_does_to_its_own_rounding(precision: str) -> None:
    _, rows = run({}, precision=precision)
    _, plain = run({})
    assert rows[0].metrics == plain[0].metrics, "evaluation is float32"
    assert rows[-1].metrics == pytest.approx(plain[-1].metrics, rel=1e-2)
    assert rows[-1].metrics["train_loss"] != plain[-1].metrics["train_loss"]


@pytest.mark.parametrize("precision", LOW)
def test_only_the_forward_of_a_step_is_low_and_weights_and_teleports_are_float32(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drifts: list[float] = []
    seen: set[torch.dtype] = set()
    teleport, loss_through = Teleporter.teleport, arithmetic._loss_through

    def teleporting(self: Teleporter, *arguments: Any, **more: Any) -> TeleportReport:
        report = teleport(self, *arguments, **more)
        assert {parameter.dtype for parameter in self.model.parameters()} == {torch.float32}
        drifts.append(abs(report.loss_drift))
        return report

    def watching(forward: Any, *arguments: Any) -> Any:
        def watched(inputs: Tensor) -> Tensor:
            outputs: Tensor = forward(inputs)
            seen.add(outputs.dtype)
            return outputs

        return loss_through(watched, *arguments)

    monkeypatch.setattr(Teleporter, "teleport", teleporting)
    monkeypatch.setattr(arithmetic, "_loss_through", watching)
    exact = {"teleport": {**TELEPORT["teleport"], "tau": 1.0}}
    result, _ = run(exact, precision=precision, data={"name": "digits", "batch_size": 32})
    assert seen == {getattr(torch, precision)}
    assert result.teleports is not None
    assert result.teleports.outcomes == {"moved": 2}
    assert max(drifts) < 1e-5, "a drift of bfloat16 would be 1e-2"


def test_gradients_that_float16_cannot_hold_are_skipped_and_are_no_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*arguments: Any) -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", init_scale=1e38, growth_interval=1000, backoff_factor=0.01)

    monkeypatch.setattr(training, "scaler_of", too_large)
    result, rows = run({}, precision="float16", evaluate={"every": 1})
    assert (result.outcome, result.num_steps) == ("completed", 18)
    assert rows[1].metrics == rows[0].metrics, "nothing moved, and the gradients of it are not told"
    assert rows[-1].metrics["train_loss"] < rows[0].metrics["train_loss"]
    assert 0.0 < rows[-1].metrics["grad_norm"] < 10.0, "unscaled"


def test_only_float16_is_scaled() -> None:
    cpu = torch.device("cpu")
    found = {precision: scaler_of(workload(precision=precision), cpu) for precision in ("float32", *LOW)}
    assert [name for name, scaler in found.items() if scaler is not None] == ["float16"]


@pytest.mark.parametrize("precision", LOW)
def test_low_precision_goes_on_as_if_never_stopped(precision: str) -> None:
    goes_on_anywhere(often(TELEPORT, precision=precision), at=slice(1, 6, 4))


@compiling
@pytest.mark.usefixtures("_light_compiler")
def test_a_compiled_trial_is_the_plain_one_with_teleports_and_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[bool] = []
    real = torch.compile

    def watching(model: nn.Module, **options: Any) -> Any:
        compiled.append(True)
        return real(model, **options)

    monkeypatch.setattr(torch, "compile", watching)
    rows = goes_on_anywhere(often(TELEPORT, compile=True), at=slice(1, 2))
    assert compiled
    compiled.clear()
    plain = goes_on_anywhere(often(TELEPORT), at=slice(1, 2))
    assert not compiled
    for mine, theirs in zip(rows, plain, strict=True):
        assert mine.metrics == pytest.approx(theirs.metrics, rel=1e-4, abs=1e-6)


@compiling
@pytest.mark.usefixtures("_light_compiler")
def test_compiling_leaves_everything_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    before = copy.deepcopy(model.state_dict())
    split = Split(torch.randn(20, 4), torch.arange(20) % 3)
    state = torch.get_rng_state()
    training_loss(workload(compile=True), model, cross_entropy, split)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_float16_without_a_gpu_is_told() -> None:
    def told(*overrides: str) -> list[str]:
        spec = tiny_spec("search.trials=16", *overrides)
        return [lint for lint in spec_lints(spec) if "float16" in lint]

    choice = "workloads.digits.precision={choice: [float32, float16]}"
    for override in ("workloads.digits.precision=float16", choice):
        assert told(override) == [
            "digits: a CPU emulates float16, so its seconds say nothing; give trials a GPU "
            "(resources.gpu), or take bfloat16 or float32"
        ]
        assert told(override, "resources={gpu: 1}") == []
    assert told("workloads.digits.precision=bfloat16") == []


def test_the_defaults_leave_ids_as_they_were() -> None:
    assert config(training={"precision": "float32", "compile": False}).trial_id == config().trial_id
    assert config(training={"precision": "bfloat16"}).trial_id != config().trial_id
