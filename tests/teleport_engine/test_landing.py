"""The gradient where a teleport landed is the next training step's own, or it is not given."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from teleport_engine import GrowthStep, IdentityMove, Limits, Options, Outcome, Schedule, Teleporter
from teleport_engine.model import Wrapped
from tests.teleport_engine.cases import CASES, make, mlp

loss_fn = nn.functional.cross_entropy


def batches(count: int = 6) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(8, 5), torch.arange(8) % 3) for _ in range(count)]


def keeping(model: nn.Module, loss: Any = loss_fn, **options: Any) -> Teleporter:
    chosen = {"step": GrowthStep(1.3), "num_steps": 2, "schedule": Schedule(every=2), "keep_gradient": True, **options}
    return Teleporter(model, loss, Options(**chosen))


def train(model: nn.Module, optimizer: Any, teleporter: Teleporter, data: Any, *, is_reused: bool) -> tuple[int, Any]:
    """Gives how many gradients were saved, and the losses."""
    num_saved, losses = 0, []
    for index, (inputs, targets) in enumerate(data):
        teleporter.step(index, inputs, targets)
        optimizer.zero_grad()
        known = teleporter.reuse_gradient(inputs, targets) if is_reused else None
        num_saved += known is not None
        if known is None:
            loss = loss_fn(model(inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            known = float(loss.detach())
        losses.append(known)
        optimizer.step()
    return num_saved, losses


# How each teleport ends, by the options that make it end so.
ENDS: dict[Outcome, dict[str, Any]] = {
    Outcome.MOVED: {},
    Outcome.PUT_BACK: {"move": IdentityMove()},
    Outcome.CAP_REACHED: {"limits": Limits(grad_norm_cap=1e-6)},
    Outcome.DRIFT: {"tau": 0.5, "limits": Limits(max_loss_drift=1e-9)},
}


@pytest.mark.parametrize("route", ["jvp", "double_backward"])
@pytest.mark.parametrize("outcome", ENDS)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_training_with_the_kept_gradient_is_training_without(kind: Any, outcome: Outcome, route: Any) -> None:
    options = ENDS[outcome] if "tau" in ENDS[outcome] else {"route": route, **ENDS[outcome]}
    model, data = mlp(5, 24, 24, 3), batches()
    twin = copy.deepcopy(model)
    first, second = keeping(model, **options), keeping(twin, **options)
    assert copy.deepcopy(first).teleport(*data[0]).outcome is outcome
    num_saved, losses = train(model, kind(model.parameters(), lr=0.05), first, data, is_reused=True)
    assert num_saved == 3
    assert train(twin, kind(twin.parameters(), lr=0.05), second, data, is_reused=False) == (0, losses)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)


def test_where_nothing_can_move_the_gradient_is_kept_all_the_same() -> None:
    model, (inputs, targets) = mlp(5, 4, 3), batches(1)[0]
    teleporter = keeping(model)
    assert teleporter.teleport(inputs, targets).outcome is Outcome.NO_NULL_SPACE
    assert teleporter.reuse_gradient(inputs, targets) == float(loss_fn(model(inputs), targets).detach())


@pytest.mark.parametrize("name", sorted(set(CASES) - {"batch_norm_in_train_mode", "convolutions"}))
def test_the_gradient_is_that_of_a_step_and_is_added(name: str) -> None:
    """Attention among them, whose fast kernels are others; the two left out have a batch norm in train mode."""
    case = make(name)
    teleporter = keeping(case.model, case.loss_fn)
    teleporter.teleport(case.inputs, case.targets)
    for parameter in case.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    loss = teleporter.reuse_gradient(case.inputs, case.targets)
    outputs = case.model(*case.inputs) if isinstance(case.inputs, tuple) else case.model(case.inputs)
    expected = case.loss_fn(outputs, case.targets)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-12)
    grads = torch.autograd.grad(expected, list(case.model.parameters()))
    for parameter, grad in zip(case.model.parameters(), grads, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, 1.0 + grad, rtol=1e-10, atol=1e-12)
        assert parameter.grad.stride() == parameter.stride()


def test_a_weight_that_the_loss_does_not_depend_on_has_no_gradient() -> None:
    model = mlp(5, 24, 3)
    model.register_parameter("spare", nn.Parameter(torch.ones(2)))
    teleporter, (inputs, targets) = keeping(model), batches(1)[0]
    teleporter.teleport(inputs, targets)
    assert teleporter.reuse_gradient(inputs, targets) is not None
    assert model.spare.grad is None
    assert model[0].weight.grad is not None


def _written(tensor: Tensor) -> None:
    with torch.no_grad():
        tensor.mul_(1.0)


CHANGES: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "weights written": lambda model, x, y: _written(model[0].weight),
    "frozen weights written": lambda model, x, y: _written(model[5].weight),
    "a buffer written": lambda model, x, y: _written(model[1].running_mean),
    "a weight's memory": lambda model, x, y: setattr(model[0].weight, "data", model[0].weight.data.clone()),
    "another weight": lambda model, x, y: setattr(model[0], "weight", nn.Parameter(model[0].weight.detach().clone())),
    "inputs written": lambda model, x, y: _written(x),
    "targets written": lambda model, x, y: y.add_(0),
    "another mode": lambda model, x, y: model[1].train(),
    "another weight is trained": lambda model, x, y: model[5].weight.requires_grad_(),
    "a hook of a module": lambda model, x, y: model[0].register_forward_hook(lambda *given: None),
    "a hook of a backward": lambda model, x, y: model[0].register_full_backward_hook(lambda *given: None),
    "a hook of a weight": lambda model, x, y: model[0].weight.register_hook(lambda grad: None),
    "a hook after a gradient": lambda model, x, y: model[0].weight.register_post_accumulate_grad_hook(lambda one: None),
}


def _landed() -> tuple[Teleporter, nn.Module, Tensor, Tensor]:
    """A model with a batch norm in evaluation mode and a frozen layer."""
    hidden = nn.Linear(24, 24).requires_grad_(False)
    model = nn.Sequential(
        nn.Linear(5, 24), nn.BatchNorm1d(24).eval(), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), hidden, nn.Linear(24, 3)
    )
    teleporter, (inputs, targets) = keeping(model), batches(1)[0]
    assert teleporter.teleport(inputs, targets).outcome is Outcome.MOVED
    return teleporter, model, inputs, targets


@pytest.mark.parametrize("name", ["nothing", *CHANGES])
def test_it_is_not_given_where_anything_has_changed(name: str) -> None:
    teleporter, model, inputs, targets = _landed()
    if name != "nothing":
        CHANGES[name](model, inputs, targets)
    found = teleporter.reuse_gradient(inputs, targets)
    assert (found is None) == (name != "nothing")
    assert all(
        (parameter.grad is None) == (found is None or not parameter.requires_grad) for parameter in model.parameters()
    )
    assert teleporter.reuse_gradient(inputs, targets) is None, "it is given once"


def test_it_is_of_these_very_objects_in_this_precision() -> None:
    for wanted in ("inputs", "targets", "autocast", "no_grad"):
        teleporter, _, inputs, targets = _landed()
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=wanted == "autocast"),
            torch.set_grad_enabled(wanted != "no_grad"),
        ):
            one = inputs.clone() if wanted == "inputs" else inputs
            other = targets.clone() if wanted == "targets" else targets
            assert teleporter.reuse_gradient(one, other) is None, wanted


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.num_calls += 1
        return x


class Replaces(nn.Module):
    """Writes a buffer anew in each call."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(24))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = x.detach().mean(0)
        return x


# A forward of each of these does more than give its outputs, or another thing than in a teleport.
WITHIN: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: nn.Dropout(0.2),
    "batch norm": lambda: nn.BatchNorm1d(24),
    "batch norm that counts nothing": lambda: nn.BatchNorm1d(24, momentum=None),
    "a counter": Counts,
    "a buffer": Replaces,
    "a substitute": nn.Hardsigmoid,
}


@pytest.mark.parametrize("name", WITHIN)
def test_it_is_not_given_where_a_step_would_do_more(name: str) -> None:
    model = nn.Sequential(nn.Linear(5, 24), WITHIN[name](), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 3))
    teleporter, (inputs, targets) = keeping(model), batches(1)[0]
    teleporter.teleport(inputs, targets)
    assert teleporter.reuse_gradient(inputs, targets) is None


def test_it_is_not_given_where_the_loss_has_weights_of_its_own() -> None:
    model, scale = mlp(5, 24, 3), torch.ones((), requires_grad=True)
    (inputs, targets) = batches(1)[0]
    for own in (scale, scale.detach()):

        def scaled(outputs: Tensor, targets: Tensor, own: Tensor = own) -> Tensor:
            return own * loss_fn(outputs, targets)

        teleporter = keeping(model, scaled)
        teleporter.teleport(inputs, targets)
        assert (teleporter.reuse_gradient(inputs, targets) is None) == own.requires_grad


def test_it_is_kept_where_it_is_asked_for() -> None:
    model, (inputs, targets) = mlp(5, 24, 3), batches(1)[0]
    with pytest.raises(
        ValueError, match=r"reuse_gradient needs Teleporter\(model, loss_fn, Options\(keep_gradient=True"
    ):
        keeping(model, keep_gradient=False).reuse_gradient(inputs, targets)
    assert keeping(model).reuse_gradient(inputs, targets) is None, "no teleport yet"
    teleporter = keeping(model)
    teleporter.teleport(inputs, targets)
    with pytest.raises(ValueError, match=r"inputs must not be an empty batch"):
        teleporter.teleport(inputs[:0], targets)
    assert teleporter.reuse_gradient(inputs, targets) is None, "of the latest teleport alone"


def test_it_is_not_kept_in_training_on_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wrapped, "is_alone", property(lambda wrapped: False))
    model, (inputs, targets) = mlp(5, 24, 3), batches(1)[0]
    teleporter = keeping(model)
    teleporter.teleport(inputs, targets)
    assert teleporter.reuse_gradient(inputs, targets) is None
