"""Forwards and losses that take derivatives of their own: the layers inside are named and stay, the others move."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from teleport_engine import GrowthStep, Options, Outcome, Teleporter, TeleportReport
from tests.teleport_engine import dense

INSIDE = "the forward or the loss takes a derivative through it, which a move would change: frozen"


class Potential(nn.Module):
    """`body` and `energy` are inside a derivative; `charge` reads the hidden layer, `top` what comes out."""

    def __init__(self, force: Callable[["Potential", Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.body, self.inner = nn.Linear(5, 32), nn.Linear(32, 32)
        self.energy, self.charge, self.top = nn.Linear(32, 1), nn.Linear(32, 12), nn.Linear(17, 3)
        self.force = force

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.inner(torch.tanh(self.body(x))))

    def field(self, x: Tensor) -> Tensor:
        energy: Tensor = self.energy(self.hidden(x)).sum()
        return energy

    def forward(self, x: Tensor) -> Tensor:
        force, x = self.force(self, x)
        outputs: Tensor = self.top(torch.tanh(torch.cat([self.charge(self.hidden(x)), force], 1)))
        return outputs


def _by_grad(model: Potential, x: Tensor) -> tuple[Tensor, Tensor]:
    x.requires_grad_(True)
    (grad,) = torch.autograd.grad(model.field(x), x, create_graph=True)
    return grad, x


def _by_grad_of_a_copy(model: Potential, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x = 1.0 * x.detach().requires_grad_(True)
        (grad,) = torch.autograd.grad(outputs=[model.field(x)], inputs=[x], create_graph=True)
    return grad, x


def _by_func(model: Potential, x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.func.grad(model.field)(x), x


def _per_sample(model: Potential, x: Tensor) -> tuple[Tensor, Tensor]:
    grad: Tensor = torch.func.vmap(torch.func.grad(model.field))(x)
    return grad, x


def _by_tangent(model: Potential, x: Tensor) -> tuple[Tensor, Tensor]:
    found: Any = torch.func.jvp(lambda y: model.energy(model.hidden(y)), (x,), (torch.ones_like(x),))
    return found[1].expand(-1, 5), x


def _by_dual_numbers(model: Potential, x: Tensor) -> tuple[Tensor, Tensor]:
    with forward_ad.dual_level():
        dual: Any = forward_ad.make_dual(x, torch.ones_like(x))  # type: ignore[no-untyped-call]
        tangent: Any = forward_ad.unpack_dual(model.energy(model.hidden(dual))).tangent  # type: ignore[no-untyped-call]
    return tangent.expand(-1, 5), x


def _attack(model: Potential, x: Tensor) -> tuple[Tensor, Tensor]:
    """The derivative is a number to what follows, as in adversarial training, but changes with the weights."""
    leaf = x.detach().requires_grad_(True)
    (grad,) = torch.autograd.grad(model.field(leaf), leaf)
    return 0.1 * grad, x


FORCES: dict[str, Callable[[Potential, Tensor], tuple[Tensor, Tensor]]] = {
    "autograd.grad": _by_grad,
    "autograd.grad of a copy": _by_grad_of_a_copy,
    "func.grad": _by_func,
    "vmap of func.grad": _per_sample,
    "func.jvp": _by_tangent,
    "forward_ad": _by_dual_numbers,
    "without a graph": _attack,
}


class Case(NamedTuple):
    model: Potential
    inputs: Tensor
    targets: Tensor


def make(name: str, dtype: torch.dtype = torch.float64) -> Case:
    torch.manual_seed(0)
    return Case(Potential(FORCES[name]).to(dtype), torch.randn(8, 5, dtype=dtype), torch.randn(8, 3, dtype=dtype))


def reasons(report: TeleportReport) -> dict[str, str]:
    return {layer.name: layer.reason for layer in report.layers}


@pytest.mark.parametrize("name", FORCES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_layers_inside_stay_and_the_others_move(name: str, dtype: torch.dtype) -> None:
    case = make(name, dtype)
    expected = float(nn.functional.mse_loss(copy.deepcopy(case.model)(case.inputs.clone()), case.targets).detach())
    teleporter = Teleporter(case.model, nn.functional.mse_loss, step=GrowthStep(1.3), num_steps=3)
    report = teleporter.teleport(case.inputs, case.targets)
    assert report.outcome is Outcome.MOVED
    assert reasons(report) == {"body": INSIDE, "inner": INSIDE, "energy": INSIDE, "charge": "", "top": ""}
    is_double = dtype == torch.float64
    assert report.loss_before == pytest.approx(expected, rel=1e-12 if is_double else 1e-6)
    assert abs(report.loss_drift) <= (1e-12 if is_double else 1e-6)
    assert not case.inputs.requires_grad


@pytest.mark.parametrize("name", FORCES)
@pytest.mark.parametrize("tau", [1.0, 0.99])
def test_directions_are_those_of_the_dense_twin(name: str, tau: float) -> None:
    case = make(name)
    found = Teleporter(case.model, nn.functional.mse_loss, tau=tau).direction(case.inputs, case.targets)
    twin = copy.deepcopy(case.model)
    rows: dict[str, Tensor] = {}
    for layer in ("charge", "top"):
        twin.get_submodule(layer).register_forward_pre_hook(
            lambda _, given, layer=layer: rows.update({layer: given[0].detach()})
        )
    weights: list[Any] = [twin.charge.weight, twin.top.weight]
    full = dense.half_square_norm_gradient(twin, nn.functional.mse_loss, case.inputs.clone(), case.targets, weights)
    assert found.keys() == {"charge.weight", "top.weight"}
    for layer, part in zip(("charge", "top"), full, strict=True):
        expected = dense.projected(part, [rows[layer]], tau)
        assert float((found[f"{layer}.weight"] - expected).norm()) <= 1e-10 * float(part.norm()), layer


@pytest.mark.parametrize("name", FORCES)
def test_probe_subspace_spectrum_and_adaptive_work(name: str) -> None:
    case = make(name)
    other = torch.randn(20, 5).double(), torch.randn(20, 3).double()
    before = float(nn.functional.mse_loss(copy.deepcopy(case.model)(other[0].clone()), other[1]).detach())
    teleporter = Teleporter(case.model, nn.functional.mse_loss, step=GrowthStep(1.1), num_steps=2)
    with torch.no_grad():
        report = teleporter.teleport(case.inputs, case.targets, probe=other, subspace=[other[0], case.inputs])
    after = float(nn.functional.mse_loss(copy.deepcopy(case.model)(other[0].clone()), other[1]).detach())
    assert report.outcome is Outcome.MOVED
    assert abs(report.loss_drift) <= 1e-12
    assert report.probe_drift == pytest.approx(after - before, rel=1e-6, abs=1e-14)
    assert {"charge.weight", "top.weight"} <= teleporter.spectrum([case.inputs, other[0]]).keys()
    adaptive = Teleporter.adaptive(case.model, nn.functional.mse_loss)
    report = adaptive.teleport(case.inputs, case.targets, probe=other)
    assert report.outcome in (Outcome.MOVED, Outcome.DRIFT), report
    assert abs(report.loss_drift) <= 0.01 * report.loss_before
    assert reasons(report)["inner"] == INSIDE


def test_a_derivative_by_inputs_that_the_caller_prepared() -> None:
    """As physics-informed losses take it: the loss differentiates what the model gave by what it got."""

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.last, self.side = nn.Linear(2, 16), nn.Linear(16, 1), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            h = torch.tanh(self.body(x))
            return x, self.last(h), self.side(h)

    def loss_fn(outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
        x, u, side = outputs
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        total: Tensor = (slope.sum(1) - u[:, 0]).square().mean() + nn.functional.mse_loss(side, targets)
        return total

    torch.manual_seed(0)
    model, inputs, targets = (
        Field().double(),
        torch.randn(8, 2).double().requires_grad_(True),
        torch.randn(8, 3).double(),
    )
    expected = float(loss_fn(model(inputs), targets).detach())
    report = Teleporter(model, loss_fn, step=GrowthStep(1.2), num_steps=2).teleport(
        inputs, targets, probe=(inputs, targets)
    )
    assert reasons(report) == {"body": INSIDE, "last": INSIDE, "side": ""}
    assert report.loss_before == pytest.approx(expected, rel=1e-12)
    assert abs(report.loss_drift) <= 1e-12
    assert inputs.grad is None


def test_a_layer_before_the_inputs_of_the_derivative_moves() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.before, self.inside = nn.Linear(5, 24), nn.Linear(24, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.before(torch.tanh(self.first(x)))
            u = torch.tanh(self.inside(h))
            (slope,) = torch.autograd.grad(u.square().sum(), h, create_graph=True)
            return torch.cat([u, slope], 1)

    torch.manual_seed(0)
    model, inputs, targets = Late().double(), torch.randn(8, 5).double(), torch.randn(8, 10).double()
    report = Teleporter(model, nn.functional.mse_loss, step=GrowthStep(1.2), num_steps=2).teleport(inputs, targets)
    assert reasons(report) == {"first": "input is fixed", "before": "", "inside": INSIDE}
    assert abs(report.loss_drift) <= 1e-12


@pytest.mark.parametrize("functional", [False, True])
def test_meta_gradients(functional: bool) -> None:
    """One inner step of SGD on the adapted layers, and the loss after it."""

    class Learner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.fast, self.last = nn.Linear(5, 24), nn.Linear(24, 24), nn.Linear(24, 3)
            self.side = nn.Linear(24, 3)

        def outputs(self, x: Tensor, fast: Tensor) -> Tensor:
            h = torch.tanh(nn.functional.linear(torch.tanh(self.first(x)), fast))
            found: Tensor = self.last(h)
            return found

        def forward(self, x: Tensor) -> Tensor:
            def inner(fast: Tensor) -> Tensor:
                return self.outputs(x, fast).square().mean()

            weight = self.fast.weight
            if functional:
                grad = torch.func.grad(inner)(weight)
            else:
                (grad,) = torch.autograd.grad(inner(weight), weight, create_graph=True)
            found: Tensor = self.outputs(x, weight - 0.1 * grad) + self.side(torch.tanh(self.first(x)))
            return found

    torch.manual_seed(0)
    model, inputs, targets = Learner().double(), torch.randn(8, 5).double(), torch.arange(8) % 3
    report = Teleporter(model, nn.functional.cross_entropy, step=GrowthStep(1.2), num_steps=2).teleport(inputs, targets)
    assert report.outcome is Outcome.MOVED
    found = reasons(report)
    assert (found["fast"], found["last"], found["side"]) == (INSIDE, INSIDE, "")
    assert abs(report.loss_drift) <= 1e-12


def test_a_gradient_penalty_calls_the_model_again() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1)).double()
    between = torch.randn(6, 5).double()

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        x = between.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        total: Tensor = (outputs[:, 0] * targets).mean() + 10.0 * (slope.norm(dim=1) - 1.0).square().mean()
        return total

    inputs, targets = torch.randn(8, 5).double(), torch.ones(8).double()
    before = float(loss_fn(model(inputs), targets).detach())
    options = Options(step=GrowthStep(1.2), num_steps=2)
    report = Teleporter(model, loss_fn, options).teleport(inputs, targets, probe=(inputs, targets))
    assert reasons(report) == dict.fromkeys(["0", "2", "4"], INSIDE)
    assert report.outcome is Outcome.NO_MOVABLE_LAYER
    assert report.loss_before == pytest.approx(before, rel=1e-12)
