"""A compiled model is teleported through the module inside, and goes on as compiled as before."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from teleport_engine import GrowthStep, Outcome, Schedule, Teleporter, TeleportOptimizer
from tests.teleport_engine.cases import mlp

# Ahead-of-time autograd, whose graphs have no second derivative, without the C++ compiler that "inductor" needs.
BACKEND = "aot_eager"

# Tracing looks at `.grad` of every input of a graph, and torch warns of that where one is no leaf.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


@pytest.fixture(autouse=True)
def _no_graphs_of_other_tests() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled_whole(model: nn.Sequential) -> nn.Module:
    found: nn.Module = torch.compile(model, backend=BACKEND)  # type: ignore[assignment]
    return found


def compiled_in_place(model: nn.Sequential) -> nn.Module:
    model.compile(backend=BACKEND)
    return model


def compiled_part(model: nn.Sequential) -> nn.Module:
    model[2].compile(backend=BACKEND)
    return model


def twice_wrapped(model: nn.Sequential) -> nn.Module:
    return nn.DataParallel(compiled_whole(model))


WAYS: dict[str, Callable[[nn.Sequential], nn.Module]] = {
    "whole": compiled_whole,
    "in place": compiled_in_place,
    "one layer": compiled_part,
    "inside DataParallel": twice_wrapped,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("tau", [1.0, 0.99])
def test_the_move_is_that_of_the_plain_model(way: Callable[[nn.Sequential], nn.Module], tau: float) -> None:
    plain = mlp(5, 24, 24, 3).double()
    twin = copy.deepcopy(plain)
    model = way(twin)
    inputs, targets = torch.randn(8, 5).double(), torch.arange(8) % 3
    before = model(inputs).detach()  # traced once, so that there is a graph to go wrong with
    reports = [
        Teleporter(each, nn.functional.cross_entropy, tau=tau, step=GrowthStep(1.5), num_steps=2).teleport(
            inputs, targets
        )
        for each in (plain, model)
    ]
    assert [report.outcome for report in reports] == [Outcome.MOVED] * 2
    assert [[layer.name for layer in report.layers] for report in reports] == [["0", "2", "4"]] * 2
    for mine, theirs in zip(twin.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    after = model(inputs).detach()
    if tau == 1.0:
        assert float((after - before).abs().max()) <= 1e-10
    torch.testing.assert_close(after, plain(inputs).detach(), rtol=1e-12, atol=1e-12)


def test_a_compiled_loss_is_run_as_it_is_written() -> None:
    calls = []

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(torch.compiler.is_compiling())
        return nn.functional.cross_entropy(outputs, targets)

    model, inputs, targets = mlp(5, 24, 3), torch.randn(6, 5), torch.arange(6) % 3
    compiled = torch.compile(loss_fn, backend=BACKEND)
    assert Teleporter(model, compiled).teleport(inputs, targets).outcome is Outcome.MOVED
    assert calls
    assert not any(calls)
    calls.clear()
    compiled(model(inputs), targets)
    assert calls == [True], "compiled again after the teleport"


def test_training_a_compiled_model_with_teleports() -> None:
    plain = mlp(5, 24, 24, 3).double()
    twin = copy.deepcopy(plain)
    losses: list[list[float]] = []
    data = [(torch.randn(8, 5).double(), torch.arange(8) % 3) for _ in range(4)]
    for model in (plain, compiled_whole(twin)):
        teleporter = Teleporter(model, nn.functional.cross_entropy, step=GrowthStep(1.3), schedule=Schedule(every=2))
        optimizer = TeleportOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), teleporter)
        losses.append([])
        for inputs, targets in data:
            optimizer.zero_grad()
            optimizer.before_backward(inputs, targets)
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses[-1].append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)
