"""The loss is a function of the whole call: what the forward leaves on the model, and what the loss calls again."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from teleport_engine import GrowthStep, Limits, Options, Outcome, Schedule, Teleporter
from tests.teleport_engine import dense

Loss = Callable[[Any, Any], Tensor]


class Leaves(nn.Module):
    """Leaves parts of its loss on itself: in an attribute, in a list that it fills, and in a dict of lists."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mid, self.last = nn.Linear(6, 24), nn.Linear(24, 24), nn.Linear(24, 4)
        self.listed: list[Tensor] = []
        self.by_kind: dict[str, list[Tensor]] = {"entropy": []}

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        h = torch.tanh(self.mid(h))
        self.losses = [0.3 * h.square().mean()]
        self.listed.append(0.1 * h.mean(0).square().sum())
        self.by_kind["entropy"].append(0.2 * h.exp().mean())
        logits: Tensor = self.last(h)
        return logits


def with_what_is_left(model: Leaves) -> Loss:
    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        left = [*model.losses, *model.listed, *model.by_kind["entropy"]]
        return nn.functional.cross_entropy(outputs, targets) + torch.stack(left).sum()

    return loss_fn


class CallsAgain(nn.Module):
    """Has a head that the loss alone calls; the loss also calls the model on other inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.head = nn.Linear(6, 24), nn.Linear(24, 4), nn.Linear(24, 2)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.first(x))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.hidden(x))
        return logits


def that_calls_again(model: CallsAgain) -> Loss:
    other = torch.linspace(-1.0, 1.0, 30, dtype=torch.float64).reshape(5, 6)

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        consistency = (model(other) - outputs[:5].detach().mean()).square().mean()
        rotation = nn.functional.cross_entropy(model.head(model.hidden(other)), torch.arange(5) % 2)
        total: Tensor = nn.functional.cross_entropy(outputs, targets) + 0.5 * consistency + rotation
        return total

    return loss_fn


class Whole(NamedTuple):
    model: Any
    loss_fn: Loss
    moving: dict[str, Callable[[Any, Tensor], list[Tensor]]]
    """Layer to the inputs of all its uses in model and loss, for the dense twin."""


def _leaves() -> Whole:
    model = Leaves().double()

    def inside(twin: Leaves, x: Tensor) -> list[Tensor]:
        return [torch.tanh(twin.first(x))]

    return Whole(
        model,
        with_what_is_left(model),
        {"mid": inside, "last": lambda twin, x: [torch.tanh(twin.mid(*inside(twin, x)))]},
    )


def _calls_again() -> Whole:
    model = CallsAgain().double()
    other = torch.linspace(-1.0, 1.0, 30, dtype=torch.float64).reshape(5, 6)
    return Whole(
        model,
        that_calls_again(model),
        {
            "last": lambda twin, x: [twin.hidden(x), twin.hidden(other)],
            "head": lambda twin, x: [twin.hidden(other)],
        },
    )


KINDS: dict[str, Callable[[], Whole]] = {"leaves parts behind": _leaves, "calls again": _calls_again}


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 6, generator=generator).double(), torch.arange(8) % 4


def fresh_loss(kind: str, model: Any, inputs: Tensor, targets: Tensor) -> float:
    """By a copy that nothing was left on, with a loss function of its own."""
    twin = copy.deepcopy(model)
    loss_fn = with_what_is_left(twin) if kind == "leaves parts behind" else that_calls_again(twin)
    return float(loss_fn(twin(inputs), targets).detach())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("route", ["auto", "double_backward"])
@pytest.mark.parametrize("tau", [1.0, 0.99])
def test_the_direction_is_that_of_the_dense_twin(kind: str, route: Any, tau: float) -> None:
    torch.manual_seed(0)
    model, loss_fn, moving = KINDS[kind]()
    inputs, targets = batch()
    found = Teleporter(model, loss_fn, Options(tau=tau, route=route)).direction(inputs, targets)
    twin = copy.deepcopy(model)
    own = with_what_is_left(twin) if kind == "leaves parts behind" else that_calls_again(twin)
    weights = [twin.get_parameter(f"{name}.weight") for name in moving]
    full = dense.half_square_norm_gradient(twin, own, inputs, targets, weights)
    assert tau < 1.0 or found.keys() == {f"{name}.weight" for name in moving}
    for (name, rows), part in zip(moving.items(), full, strict=True):
        expected = dense.projected(part, [torch.cat(rows(twin, inputs))], tau)
        assert float(expected.norm()) > 1e-6 * float(part.norm())
        assert float((found[f"{name}.weight"] - expected).norm()) <= 1e-10 * float(part.norm()), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options", [{}, {"route": "double_backward"}, {"tau": 0.99, "limits": Limits(max_probe_drift=1.0)}], ids=str
)
def test_it_climbs_the_whole_loss_and_keeps_it(kind: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model, loss_fn, _ = KINDS[kind]()
    inputs, targets = batch()
    probe = batch(1)
    start, probe_start = (fresh_loss(kind, model, *data) for data in ((inputs, targets), probe))
    teleporter = Teleporter(model, loss_fn, Options(step=GrowthStep(1.3), num_steps=3, **options))
    report = teleporter.teleport(inputs, targets, probe=probe, subspace=[batch(2)[0], inputs])
    assert report.outcome is Outcome.MOVED
    assert report.loss_before == pytest.approx(start, rel=1e-12)
    assert report.loss_after == pytest.approx(fresh_loss(kind, model, inputs, targets), rel=1e-12)
    assert report.probe_drift == pytest.approx(fresh_loss(kind, model, *probe) - probe_start, rel=1e-9)
    assert (abs(report.loss_drift) <= 1e-12) == ("tau" not in options)
    if kind == "leaves parts behind":
        assert (model.listed, model.by_kind, hasattr(model, "losses")) == ([], {"entropy": []}, False)


def test_the_loop_of_the_readme_survives_its_second_teleport() -> None:
    torch.manual_seed(0)
    model = Leaves()
    inputs, targets = batch()

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets) + torch.stack(model.losses).sum()

    model.double()
    teleporter = Teleporter(model, loss_fn, step=GrowthStep(1.1), num_steps=2, schedule=Schedule(every=1))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for step_index in range(3):
        report = teleporter.step(step_index, inputs, targets)
        assert report is not None
        assert report.outcome is Outcome.MOVED
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        assert report.loss_after == pytest.approx(float(loss.detach()), rel=1e-12)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def test_hooks_that_fill_a_list_for_the_loss() -> None:
    model = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 4)).double()
    seen: list[Tensor] = []
    model[2].register_forward_hook(lambda *given: seen.append(given[2]))

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets) + seen.pop().square().mean() + 0.0 * len(seen)

    inputs, targets = batch()
    expected = float(loss_fn(model(inputs), targets).detach())
    teleporter = Teleporter(model, loss_fn, step=GrowthStep(1.2), num_steps=2)
    report = teleporter.teleport(inputs, targets, subspace=[batch(1)[0], inputs])
    assert (report.outcome, report.route, seen) == (Outcome.MOVED, "jvp", [])
    assert report.loss_before == pytest.approx(expected, rel=1e-12)
    teleporter.spectrum(inputs)
    assert seen == []


def test_a_checkpointed_part_finds_in_the_backward_what_the_forward_left() -> None:
    class Masks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.mid, self.last = nn.Linear(6, 24), nn.Linear(24, 24), nn.Linear(24, 4)

        def inside(self, h: Tensor) -> Tensor:
            return torch.tanh(self.mid(h)) * self.mask

        def forward(self, x: Tensor) -> Tensor:
            self.mask = (x.sum(1, keepdim=True) > 0.0).to(x.dtype)
            logits: Tensor = self.last(checkpoint(self.inside, torch.tanh(self.first(x)), use_reentrant=False))
            return logits

    model = Masks().double()
    inputs, targets = batch()
    routes: tuple[Any, ...] = ("auto", "double_backward")
    for route in routes:
        options = Options(step=GrowthStep(1.2), num_steps=2, route=route)
        report = Teleporter(model, nn.functional.cross_entropy, options).teleport(inputs, targets)
        assert report.outcome is Outcome.MOVED
        assert abs(report.loss_drift) <= 1e-12
        assert not hasattr(model, "mask")


def test_modules_that_a_loss_function_refers_to_leave_no_trace() -> None:
    class Centres(nn.Module):
        centre: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("centre", torch.zeros(4).double())

        def forward(self, outputs: Tensor) -> Tensor:
            self.centre += 0.1 * outputs.detach().mean(0)
            return (outputs - self.centre.clone()).square().mean()

    model = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 4)).double()
    criterion = Centres()
    inputs, targets = batch()
    teleporter = Teleporter(model, lambda outputs, _: criterion(outputs), step=GrowthStep(1.2), num_steps=2)
    report = teleporter.teleport(inputs, targets)
    assert report.outcome is Outcome.MOVED
    assert abs(report.loss_drift) <= 1e-12
    assert torch.equal(criterion.centre, torch.zeros(4).double())
