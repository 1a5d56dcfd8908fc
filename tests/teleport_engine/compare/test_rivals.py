"""Other teleports: what each keeps, what it raises, and where it says that it is not exact."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from teleport_engine import Outcome, Schedule
from teleport_engine.compare import LevelSetTeleporter, SymmetryTeleporter
from tests.teleport_engine.cases import mlp
from tests.teleport_engine.dense import half_square_norm, half_square_norm_gradient

Rival = type[LevelSetTeleporter] | type[SymmetryTeleporter]
RIVALS: list[Rival] = [LevelSetTeleporter, SymmetryTeleporter]
cross_entropy = nn.functional.cross_entropy


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.1)


def problem(n: int = 6) -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    model = mlp(8, 12, 10, 4, activation=leaky).double()
    return model, torch.randn(n, 8, dtype=torch.float64), torch.arange(n) % 4


def weights_of(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("rival", RIVALS)
def test_the_loss_stays_and_the_gradient_grows(rival: Rival) -> None:
    model, inputs, targets = problem()
    before = half_square_norm(model, cross_entropy, inputs, targets)
    report = rival(model, cross_entropy, num_steps=4).teleport(inputs, targets)
    assert report.outcome is Outcome.MOVED, report
    assert report.num_steps == 4
    assert report.grad_norm_after > 1.01 * report.grad_norm_before
    assert abs(report.loss_drift) <= 1e-9
    assert report.grad_norm_before == pytest.approx(math.sqrt(2.0 * before), rel=1e-10)
    after = half_square_norm(model, cross_entropy, inputs, targets)
    assert report.grad_norm_after == pytest.approx(math.sqrt(2.0 * after), rel=1e-10)
    assert [step.grad_norm for step in report.trace] == sorted(step.grad_norm for step in report.trace)
    assert all(layer.moved for layer in report.layers)


@pytest.mark.parametrize("rival", RIVALS)
def test_nothing_else_is_touched(rival: Rival) -> None:
    model, inputs, targets = problem()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    random_state = torch.get_rng_state()
    rival(model, cross_entropy, num_steps=2).teleport(inputs, targets)
    assert torch.equal(torch.get_rng_state(), random_state)
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, torch.ones_like(parameter))
        assert parameter.requires_grad


@pytest.mark.parametrize("rival", RIVALS)
def test_what_raises_on_the_way_leaves_the_weights(rival: Rival) -> None:
    model, inputs, targets = problem()
    before, calls = weights_of(model), []

    def loss_fn(outputs: Tensor, wanted: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("out of memory")
        return cross_entropy(outputs, wanted)

    with pytest.raises(RuntimeError, match="out of memory"):
        rival(model, loss_fn).teleport(inputs, targets)
    assert all(map(torch.equal, before, weights_of(model)))


@pytest.mark.parametrize("rival", RIVALS)
def test_a_start_that_is_not_finite_moves_nothing(rival: Rival) -> None:
    model, inputs, targets = problem()
    inputs[0, 0] = math.nan
    before = weights_of(model)
    assert rival(model, cross_entropy).teleport(inputs, targets).outcome is Outcome.NON_FINITE
    assert all(map(torch.equal, before, weights_of(model)))


@pytest.mark.parametrize(("rival", "growth"), [(LevelSetTeleporter, 5.0), (SymmetryTeleporter, 1.03)])
def test_the_cap_holds(rival: Rival, growth: float) -> None:
    model, inputs, targets = problem()
    start = math.sqrt(2.0 * half_square_norm(model, cross_entropy, inputs, targets))
    report = rival(model, cross_entropy, step_size=0.1, num_steps=50, grad_norm_cap=growth * start).teleport(
        inputs, targets
    )
    assert report.outcome is Outcome.CAP_REACHED
    assert report.num_steps > 0
    assert report.grad_norm_after <= growth * start * (1.0 + 1e-6)


@pytest.mark.parametrize("rival", RIVALS)
def test_the_probe_is_watched_and_the_schedule_kept(rival: Rival) -> None:
    model, inputs, targets = problem()
    teleporter = rival(model, cross_entropy, num_steps=1, schedule=Schedule(every=2))
    probe = torch.randn(5, 8, dtype=torch.float64), torch.arange(5) % 4
    with torch.no_grad():
        before = float(cross_entropy(model(probe[0]), probe[1]))
    report = teleporter.step(0, inputs, targets, probe=probe)
    assert report is not None
    with torch.no_grad():
        after = float(cross_entropy(model(probe[0]), probe[1]))
    assert report.probe_drift == pytest.approx(after - before, rel=1e-9)
    assert teleporter.step(1, inputs, targets) is None
    with pytest.raises(ValueError, match=r"step needs a schedule: give schedule=Schedule\(\.\.\.\), got None"):
        rival(model, cross_entropy).step(0, inputs, targets)


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 0.0}, r"step_size must be finite and > 0, got 0\.0"),
        ({"num_steps": 0}, "num_steps must be a whole number >= 1, got 0"),
        ({"max_loss_drift": -1.0}, r"max_loss_drift must be > 0 or None, got -1\.0"),
    ],
)
def test_options_out_of_range_are_refused(rival: Rival, options: dict[str, float], message: str) -> None:
    model, _, _ = problem()
    with pytest.raises(ValueError, match=message):
        rival(model, cross_entropy, **options)  # type: ignore[arg-type]


def test_a_level_set_step_is_the_formula() -> None:
    """One short step, dense: w + rho q / ||g||^2 - v g, v = (rho g^T H g / ||g||^2) / ||g||^2 at the start."""
    model, inputs, targets = problem()
    parameters = list(model.parameters())
    ascent = half_square_norm_gradient(model, cross_entropy, inputs, targets, parameters)
    grads = torch.autograd.grad(cross_entropy(model(inputs), targets), parameters)
    g, q, rho = torch.cat([x.flatten() for x in grads]), torch.cat([x.flatten() for x in ascent]), 1e-6
    square = g @ g
    wanted = (rho / square) * q - (rho * (g @ q) / square) / square * g
    before = torch.cat([w.flatten() for w in weights_of(model)])
    LevelSetTeleporter(model, cross_entropy, step_size=rho, num_steps=1).teleport(inputs, targets)
    moved = torch.cat([w.flatten() for w in weights_of(model)]) - before
    torch.testing.assert_close(moved, wanted, rtol=1e-5, atol=1e-12)
    assert abs(float(moved @ g)) <= 1e-6 * float(moved.norm() * g.norm())


def test_a_level_set_walk_reaches_what_a_long_one_reaches_on_a_quadratic() -> None:
    """L = 1/2 w^T A w: the largest gradient on the level set lies along the top eigenvector."""
    torch.manual_seed(0)
    A = torch.diag(torch.tensor([1.0, 2.0, 8.0], dtype=torch.float64))
    model = nn.Linear(3, 1, bias=False).double()
    start = 0.5 * float((model.weight @ A @ model.weight.T).detach())

    def loss_fn(outputs: Tensor, root: Tensor) -> Tensor:
        return 0.5 * (outputs**2).sum()

    report = LevelSetTeleporter(model, loss_fn, num_steps=200).teleport(A.sqrt(), torch.zeros(1))
    assert report.loss_after == pytest.approx(start, rel=1e-9)
    assert report.grad_norm_after == pytest.approx(math.sqrt(2.0 * 8.0 * start), rel=1e-3)


def test_the_symmetry_keeps_the_outputs_not_only_the_loss() -> None:
    model, inputs, targets = problem()
    with torch.no_grad():
        before = model(inputs)
    report = SymmetryTeleporter(model, cross_entropy, step_size=1.0, num_steps=3).teleport(inputs, targets)
    assert report.messages == ()
    with torch.no_grad():
        torch.testing.assert_close(model(inputs), before, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("activation", [leaky, nn.Tanh, nn.Sigmoid, nn.Identity])
def test_the_symmetry_climbs_the_true_slope(activation: type[nn.Module]) -> None:
    """Against finite differences: the growth of 1/2 ||g||^2 for a short step is ||T||^2 per unit of length."""
    torch.manual_seed(1)
    model = mlp(8, 12, 10, 4, activation=activation).double()
    inputs, targets = torch.randn(6, 8, dtype=torch.float64), torch.arange(6) % 4
    values, eta = [], 1e-5
    for factor in (1.0, 2.0):
        moved = copy.deepcopy(model)
        SymmetryTeleporter(moved, cross_entropy, step_size=factor * eta, num_steps=1).teleport(inputs, targets)
        values.append(half_square_norm(moved, cross_entropy, inputs, targets))
    start = half_square_norm(model, cross_entropy, inputs, targets)
    assert values[1] - start == pytest.approx(2.0 * (values[0] - start), rel=1e-2)
    assert values[0] > start


def test_the_symmetry_says_where_it_is_not_exact() -> None:
    model, inputs, targets = problem(n=11)
    report = SymmetryTeleporter(model, cross_entropy, num_steps=1).teleport(inputs, targets)
    assert report.messages == ("not exact, the batch is larger than the width of: '0' (11 samples, 8 inputs)",)
    assert abs(report.loss_drift) > 1e-9
    model, inputs, targets = problem(n=11)
    before = weights_of(model)
    report = SymmetryTeleporter(model, cross_entropy, max_loss_drift=1e-12).teleport(inputs, targets)
    assert report.outcome is Outcome.DRIFT
    assert all(map(torch.equal, before, weights_of(model)))


def test_the_symmetry_needs_a_bijective_activation() -> None:
    model = mlp(8, 12, 4)
    report = SymmetryTeleporter(model, cross_entropy).teleport(torch.randn(4, 8), torch.arange(4))
    assert report.outcome is Outcome.NO_MOVABLE_LAYER
    assert report.messages == (
        "no pair of Linear layers with a bijective activation between them (ReLU has no inverse)",
    )
    shared = nn.Linear(8, 8)
    twice = nn.Sequential(shared, nn.Tanh(), shared)
    report = SymmetryTeleporter(twice, cross_entropy).teleport(torch.randn(4, 8), torch.arange(4))
    assert report.messages == ("every pair has a layer that is used more than once",)
