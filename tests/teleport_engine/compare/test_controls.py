"""Controls: each is what it says, so that a comparison with it says something."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from teleport_engine import (
    GrowthStep,
    IdentityMove,
    Move,
    Outcome,
    RandomMove,
    Schedule,
    Teleporter,
    TeleportOptimizer,
    TeleportReport,
    reset_state,
    scale_initial_weights,
    scaled_lr,
)
from teleport_engine.nullspace.projector import BlockProjector
from teleport_engine.nullspace.subspace import Subspace
from teleport_engine.step.moves import DirectedMove
from tests.teleport_engine import dense
from tests.teleport_engine.cases import CASES, Case, make, outputs_of, teleporter_of


def climb(case: Case, model: nn.Module, move: Move, **options: Any) -> TeleportReport:
    options = {"step": GrowthStep(1.3), "num_steps": 1, **options}
    return teleporter_of(model, case.loss_fn, move=move, **options).teleport(case.inputs, case.targets)


def lengths(report: TeleportReport) -> dict[str, float]:
    return {layer.name: layer.step_length for layer in report.layers}


class TestRandomMove:
    @pytest.mark.parametrize("name", CASES)
    @pytest.mark.parametrize("tau", [1.0, 0.9])
    def test_each_layer_moves_as_far_as_the_directed_move(self, name: str, tau: float) -> None:
        case = make(name)
        directed, drawn = copy.deepcopy(case.model), copy.deepcopy(case.model)
        first = climb(case, directed, DirectedMove(), tau=tau)
        second = climb(case, drawn, RandomMove(0), tau=tau)
        assert second.outcome is Outcome.MOVED
        assert second.trace[0].eta == first.trace[0].eta
        assert lengths(second) == pytest.approx(lengths(first), rel=1e-9)
        assert sum(lengths(first).values()) > 0.0
        for (key, one), other in zip(directed.named_parameters(), drawn.parameters(), strict=True):
            start = case.model.get_parameter(key)
            a, b = (one - start).flatten().detach(), (other - start).flatten().detach()
            assert float(a @ b) <= 0.5 * float(a.norm() * b.norm()), "another direction"

    @pytest.mark.parametrize("name", CASES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_batch_is_kept_exactly_at_tau_1(self, name: str, dtype: torch.dtype) -> None:
        case = make(name, dtype)
        before = outputs_of(case.model, case.inputs)
        report = climb(case, case.model, RandomMove(0), num_steps=8)
        assert (report.outcome, report.num_steps) == (Outcome.MOVED, 8)
        is_double = dtype == torch.float64
        assert float((outputs_of(case.model, case.inputs) - before).abs().max()) <= (1e-10 if is_double else 2e-5)
        assert abs(report.loss_drift) <= (1e-12 if is_double else 1e-5)

    @pytest.mark.parametrize("tau", [1.0, 0.9])
    def test_it_lies_in_the_null_space(self, tau: float) -> None:
        case = make("tanh")
        origin = copy.deepcopy(case.model)
        climb(case, case.model, RandomMove(0), tau=tau)
        for name, rows in dense.linear_rows(origin, case.inputs).items():
            key = f"{name}.weight"
            moved = (case.model.get_parameter(key) - origin.get_parameter(key)).detach()
            P = dense.projector(rows, tau)
            assert float((moved - moved @ P).norm()) <= 1e-10 * max(1.0, float(moved.norm()))

    def test_it_is_the_projected_gaussian_of_the_seed(self) -> None:
        """A dense twin of `along`, with an explicit P."""
        rows, directed = torch.randn(3, 6).double(), torch.randn(1, 2, 6).double()
        projector = BlockProjector([Subspace.from_rows(rows, 1.0)], torch.float64)
        (found,) = RandomMove(7).along([directed], [projector])
        drawn = torch.randn(1, 2, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        expected = drawn @ dense.projector(rows, 1.0)
        assert found is not None
        assert torch.allclose(found, expected * directed.norm() / expected.norm(), rtol=1e-10, atol=1e-12)

    def test_seeds_reproduce_and_draws_differ(self) -> None:
        case = make("tanh")
        models = [copy.deepcopy(case.model) for _ in range(3)]
        one, again, other = RandomMove(0), RandomMove(0), RandomMove(1)
        for model, move in zip(models, (one, again, other), strict=True):
            climb(case, model, move)
        weights = [model.get_parameter("2.weight").detach() for model in models]
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])
        kept = copy.deepcopy(case.model)
        climb(case, kept, one)
        assert not torch.equal(kept.get_parameter("2.weight"), weights[0]), "its second teleport is another draw"
        resumed = RandomMove(99)
        resumed.load_state_dict(again.state_dict())
        climb(case, case.model, resumed)
        assert torch.equal(case.model.get_parameter("2.weight"), kept.get_parameter("2.weight"))

    def test_the_global_random_state_is_not_touched(self) -> None:
        case = make("tanh")
        before = torch.get_rng_state()
        RandomMove(0).along(
            [torch.ones(1, 2, 3)], [BlockProjector([Subspace.from_rows(torch.ones(1, 3), 1.0)], torch.float32)]
        )
        climb(case, case.model, RandomMove(0))
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_same_guards_watch_it(self) -> None:
        case = make("tanh")
        before = copy.deepcopy(case.model.state_dict())
        report = climb(case, case.model, RandomMove(0), tau=0.5, max_loss_drift=1e-9)
        assert report.outcome is Outcome.DRIFT
        assert [event.action for event in report.events] == ["halved", "halved", "halved", "undone"]
        assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())
        report = climb(case, case.model, RandomMove(0), max_relative_step=1e-3)
        for layer in report.layers:
            assert layer.step_length <= 1e-3 * float(before[f"{layer.name}.weight"].norm()) * (1 + 1e-9)


class TestIdentityMove:
    @pytest.mark.parametrize("tau", [1.0, 0.9])
    def test_it_does_the_work_and_moves_nothing(self, tau: float) -> None:
        case = make("tanh")
        before = copy.deepcopy(case.model.state_dict())
        probe = torch.randn(8, 6).double(), torch.randn(8, 4).double()
        options: dict[str, Any] = {"step": GrowthStep(1.3), "num_steps": 4, "tau": tau, "max_probe_drift": 10.0}
        directed = teleporter_of(copy.deepcopy(case.model), case.loss_fn, **options)
        placebo = teleporter_of(case.model, case.loss_fn, move=IdentityMove(), **options)
        real = directed.teleport(case.inputs, case.targets, probe=probe)
        report = placebo.teleport(case.inputs, case.targets, probe=probe)
        assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())
        assert (report.outcome, report.num_steps) == (Outcome.PUT_BACK, 0)
        assert report.num_gradient_evaluations == real.num_gradient_evaluations
        assert [step.grad_norm for step in report.trace] == [step.grad_norm for step in real.trace]
        assert (report.loss_after, report.grad_norm_after) == (report.loss_before, report.grad_norm_before)
        assert report.probe_drift == 0.0
        assert not any(layer.moved for layer in report.layers)
        assert report.layers[-1].reason == "put back"
        assert report.grad_norm_ratio == real.grad_norm_ratio > 1.0
        json.dumps(report.to_dict(), allow_nan=False)


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, amsgrad=True),
    "adamw": torch.optim.AdamW,
    "adagrad": lambda p: torch.optim.Adagrad(p, initial_accumulator_value=0.3, lr_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, momentum=0.5, centered=True),
    "adadelta": torch.optim.Adadelta,
    "nadam": torch.optim.NAdam,
    "rprop": torch.optim.Rprop,
    "asgd": torch.optim.ASGD,
    "lbfgs": lambda p: torch.optim.LBFGS(p, max_iter=2),
}


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_after_a_reset_the_next_step_is_that_of_a_fresh_optimizer(
    make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
) -> None:
    torch.manual_seed(0)
    old = nn.Linear(4, 3)
    x, y = torch.randn(8, 4), torch.randn(8, 3)
    optimizer = make_optimizer(list(old.parameters()))

    def step(model: nn.Module, of: torch.optim.Optimizer) -> None:
        def closure() -> float:
            of.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())

        of.step(closure)

    for _ in range(5):
        step(old, optimizer)
    groups = [dict(group) for group in optimizer.param_groups]
    reset_state(optimizer)
    assert [dict(group) for group in optimizer.param_groups] == groups, "only the state is gone"
    fresh = copy.deepcopy(old)
    step(fresh, make_optimizer(list(fresh.parameters())))
    step(old, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), fresh.parameters(), strict=True))


def test_a_wrapped_optimizer_is_reset_through_its_wrapper() -> None:
    case = make("tanh", torch.float32)
    inner = torch.optim.Adam(case.model.parameters())
    wrapped = TeleportOptimizer(inner, Teleporter(case.model, case.loss_fn, schedule=Schedule(at=())))
    case.loss_fn(case.model(case.inputs), case.targets).backward()  # type: ignore[no-untyped-call]
    wrapped.step()
    assert inner.state
    reset_state(wrapped)
    assert not inner.state


def test_the_measured_ratio_scales_the_steps_inside_and_no_others() -> None:
    case = make("tanh")
    ratio = climb(case, case.model, IdentityMove(), num_steps=4).grad_norm_ratio
    assert ratio == pytest.approx(1.3**2, rel=0.05)
    first, second = case.model.get_parameter("0.weight"), case.model.get_parameter("2.weight")
    groups: list[dict[str, Any]] = [{"params": [first]}, {"params": [second], "lr": 1.0}]
    optimizer = torch.optim.SGD(groups, lr=0.5)
    with scaled_lr(optimizer, ratio):
        assert [group["lr"] for group in optimizer.param_groups] == [0.5 * ratio, 1.0 * ratio]
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1.0]
    with pytest.raises(RuntimeError, match="inside"), scaled_lr(optimizer, ratio):
        raise RuntimeError("inside")
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1.0]
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="ratio must be finite and > 0, got"), scaled_lr(optimizer, wrong):
            pass


def test_initial_weights_are_scaled_where_a_teleport_could_move() -> None:
    case = make("called_several_times_and_tied")
    before = copy.deepcopy(dict(case.model.named_parameters()))
    names = scale_initial_weights(case.model, 2.0)
    assert names == ["first.weight", "again.weight", "head.weight"], "a tied weight once"
    for name, parameter in case.model.named_parameters():
        factor = 2.0 if name in names else 1.0
        assert torch.equal(parameter, factor * before[name])
    with pytest.raises(ValueError, match=r"factor must be finite and > 0, got 0\.0"):
        scale_initial_weights(case.model, 0.0)
