"""A user's mistake is a ValueError that says rule and value, with the weights as they were."""

import copy
import math
from random import SystemRandom
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from teleport_engine import GradCurvature, GrowthStep, Outcome, RandomMove, Schedule, Teleporter
from tests.teleport_engine.cases import mlp, teleporter_of


def teleporter(model: nn.Module | None = None, **options: Any) -> Teleporter:
    return teleporter_of(mlp(5, 12, 3) if model is None else model, nn.functional.cross_entropy, **options)


INPUTS, TARGETS = torch.randn(6, 5), torch.arange(6) % 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0.0}, r"tau must lie in \(0, 1\], or be .auto., an AutoTau, a DriftTau or a LayerwiseTau, got 0.0"),
        ({"tau": 1.5}, r"tau must lie in \(0, 1\], or be .auto., an AutoTau, a DriftTau or a LayerwiseTau, got 1.5"),
        (
            {"tau": float("nan")},
            r"tau must lie in \(0, 1\], or be .auto., an AutoTau, a DriftTau or a LayerwiseTau, got nan",
        ),
        ({"num_steps": 0}, "num_steps must be a whole number >= 1, got 0"),
        ({"num_steps": -3}, "num_steps must be a whole number >= 1, got -3"),
        ({"num_steps": 1.5}, "num_steps must be a whole number >= 1, got 1.5"),
        ({"grad_norm_cap": 0.0}, "grad_norm_cap must be > 0 or None, got 0.0"),
        ({"max_loss_drift": -1.0}, "max_loss_drift must be > 0 or None, got -1.0"),
        ({"max_probe_drift": float("nan")}, "max_probe_drift must be > 0 or None, got nan"),
        ({"route": "magic"}, "route must be 'auto', 'jvp' or 'double_backward', got 'magic'"),
        ({"route": "jvp", "tau": 0.9}, "route 'jvp' needs tau = 1 .* got tau 0.9"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        teleporter(**options)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (torch.zeros(0, 5), torch.zeros(0).long(), r"inputs must not be an empty batch, got shape \(0, 5\)"),
        (INPUTS, torch.zeros(0).long(), r"targets must not be an empty batch, got shape \(0,\)"),
        (torch.zeros(6, 5, device="meta"), TARGETS, "inputs must be on the device of the model, cpu, got meta"),
        (INPUTS, TARGETS.to("meta"), "targets must be on the device of the model, cpu, got meta"),
        ([INPUTS], TARGETS, "inputs must be a tensor, a tuple or a dict of what the model takes, got list"),
        ("six", TARGETS, "inputs must be a tensor, a tuple or a dict of what the model takes, got str"),
    ],
)
def test_batches(inputs: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        teleporter().teleport(inputs, targets)
    with pytest.raises(ValueError, match=message):
        teleporter().direction(inputs, targets)


@pytest.mark.parametrize("probe", [(INPUTS,), INPUTS, (INPUTS, TARGETS, TARGETS)], ids=["one", "tensor", "three"])
def test_probe_must_be_a_pair(probe: Any) -> None:
    with pytest.raises(ValueError, match=r"probe must be a pair \(inputs, targets\), got"):
        teleporter().teleport(INPUTS, TARGETS, probe=probe)


def test_probe_and_sample_are_checked_too() -> None:
    with pytest.raises(ValueError, match="probe must not be an empty batch"):
        teleporter().teleport(INPUTS, TARGETS, probe=(torch.zeros(0, 5), TARGETS))
    with pytest.raises(ValueError, match="subspace must not be an empty batch"):
        teleporter().teleport(INPUTS, TARGETS, subspace=torch.zeros(0, 5))
    with pytest.raises(ValueError, match="max_probe_drift needs teleport"):
        teleporter(max_probe_drift=0.1).teleport(INPUTS, TARGETS)


def test_loss_must_be_a_scalar_tensor() -> None:
    model = mlp(5, 12, 3)
    for loss_fn, got in [
        (lambda outputs, targets: outputs, r"shape \(6, 3\)"),
        (lambda outputs, targets: outputs.sum().reshape(1), r"shape \(1,\)"),
        (lambda outputs, targets: float(outputs.detach().sum()), "float"),
    ]:
        message = rf"loss_fn must return a scalar tensor \(no dimensions\), got {got}"
        with pytest.raises(ValueError, match=message):
            Teleporter(model, loss_fn).teleport(INPUTS, TARGETS)
    with pytest.raises(ValueError, match="loss_fn must return a real number, got complex64"):
        Teleporter(model, lambda outputs, targets: outputs.sum() * 1j).teleport(INPUTS, TARGETS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_weights(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=f"must be float32 or float64 to teleport .* got {name} in '0.weight'"):
        teleporter(mlp(5, 12, 3).to(dtype)).teleport(INPUTS.to(dtype), TARGETS)


def test_parameters_on_two_devices() -> None:
    model = nn.Sequential(nn.Linear(5, 12), nn.Linear(12, 3, device="meta"))
    with pytest.raises(ValueError, match=r"all parameters must be on one device, got '1\.weight' on meta"):
        teleporter(model).teleport(INPUTS, TARGETS)


@pytest.mark.parametrize("where", ["inputs", "subspace"])
def test_a_random_forward_whose_numbers_cannot_be_held_fixed_is_refused_and_leaves_no_trace(where: str) -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + random_of_the_system.random()

    random_of_the_system = SystemRandom()
    model = nn.Sequential(nn.Linear(5, 12), Noise(), nn.Linear(12, 3))
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(ValueError, match="the forward must not be random, but it drew random numbers"):
        teleporter(model).teleport(INPUTS, TARGETS, subspace=INPUTS.clone() if where == "subspace" else None)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("quiet", ["eval", "p = 0"])
def test_dropout_that_does_nothing_is_welcome(quiet: str) -> None:
    model = nn.Sequential(nn.Linear(5, 12), nn.Dropout(0.0 if quiet == "p = 0" else 0.5), nn.Linear(12, 3))
    report = teleporter(model.train(quiet == "p = 0")).teleport(INPUTS, TARGETS)
    assert report.outcome is Outcome.MOVED


def test_step_without_a_schedule() -> None:
    with pytest.raises(ValueError, match=r"Teleporter.step needs a schedule: give Teleporter\(schedule="):
        teleporter().step(0, INPUTS, TARGETS)


def test_forced_tangent_route_needs_the_batch_in_the_sample() -> None:
    with pytest.raises(ValueError, match="route 'jvp' needs the objective batch inside the subspace sample"):
        teleporter(route="jvp").teleport(INPUTS, TARGETS, subspace=torch.randn(4, 5))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_random_move_of_no_length_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=f"scale must be finite and > 0, got {scale}"):
        RandomMove(0, scale)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": None}, "tau must lie in .* got None"),
        ({"grad_norm_cap": "1"}, "grad_norm_cap must be > 0 or None, got '1'"),
        ({"step": 0.1}, r"step must be an object such as GrowthStep\(1.1\), got 0.1"),
        ({"step": GrowthStep}, "step must be an object such as .* got <class .*GrowthStep"),
        ({"objective": "norm"}, r"objective must be an object such as GradNorm\(\), got 'norm'"),
        ({"move": "random"}, r"move must be an object such as RandomMove\(0\), got 'random'"),
        ({"schedule": 5}, r"schedule must be an object such as Schedule\(every=10\), got 5"),
        ({"batch_source": 3}, "batch_source must be callable, got 3"),
    ],
)
def test_parts_of_another_kind_are_refused_when_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        teleporter(**options)


def test_a_model_that_is_none_and_a_loss_that_cannot_be_called() -> None:
    with pytest.raises(ValueError, match=r"model must be a torch.nn.Module, got None"):
        Teleporter(None, nn.functional.cross_entropy)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="loss_fn must be callable, got None"):
        Teleporter(mlp(5, 12, 3), None)  # type: ignore[arg-type]


def test_a_batch_source_must_give_a_pair() -> None:
    source = teleporter(schedule=Schedule(), batch_source=lambda step_index: INPUTS)
    with pytest.raises(ValueError, match=r"batch_source must give a pair \(inputs, targets\), got Tensor"):
        source.step(0, INPUTS, TARGETS)


def test_one_of_several_tensors_may_be_empty() -> None:
    targets = [{"label": target, "boxes": torch.zeros(0, 4)} for target in TARGETS]

    def loss_fn(outputs: Tensor, targets: Any) -> Tensor:
        return nn.functional.cross_entropy(outputs, torch.stack([target["label"] for target in targets]))

    report = Teleporter(mlp(5, 12, 3), loss_fn, step=GrowthStep(1.1)).teleport(INPUTS, targets)
    assert report.outcome is Outcome.MOVED


class _Once(torch.autograd.Function):
    """x^3, with a backward that torch cannot differentiate and would leave out without a word."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        product: Tensor = 3.0 * ctx.saved_tensors[0] ** 2 * grads[0]
        return product


class _Cube(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        cubed: Tensor = _Once.apply(x)
        return cubed


@pytest.mark.parametrize("options", [{}, {"tau": 0.9}, {"objective": GradCurvature()}], ids=str)
def test_what_has_no_second_derivative_is_refused(options: dict[str, Any]) -> None:
    model = mlp(5, 12, 12, 3, activation=_Cube)
    with pytest.raises(ValueError, match=r"must be twice differentiable .* whose backward is once_differentiable"):
        teleporter(model, **options).teleport(INPUTS, TARGETS)
    with pytest.raises(ValueError, match=r"must be twice differentiable .*multi_margin_loss_backward"):
        teleporter_of(mlp(5, 12, 3), nn.functional.multi_margin_loss, **options).teleport(INPUTS, TARGETS)


def test_reentrant_checkpoints_are_refused() -> None:
    class Checkpointed(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self[2](checkpoint(self[1], self[0](x), use_reentrant=True))
            return logits

    with pytest.raises(ValueError, match=r"checkpointed model needs .*use_reentrant=False"):
        teleporter(Checkpointed(*mlp(5, 12, 3))).teleport(INPUTS, TARGETS)
