"""TeleportOptimizer is the optimizer inside, but for the teleports; and nobody steps with stale gradients."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler

from teleport_engine import GrowthStep, Outcome, RandomMove, Schedule, Teleporter, TeleportOptimizer, WhileItPays
from tests.teleport_engine.cases import mlp, teleporter_of

loss_fn = nn.functional.cross_entropy


def build(name: str, parameters: Any, **options: Any) -> Optimizer:
    options = {"lr": 0.01, **options}
    if name == "SGD":
        options["momentum"] = 0.9
    found: Optimizer = getattr(torch.optim, name)(parameters, **options)
    return found


# SparseAdam takes sparse gradients alone, which a loss through a dense weight never has.
NAMES = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, Optimizer) and name not in {"Optimizer", "SparseAdam"}
)
NEEDS_CLOSURE = {"LBFGS"}


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(8, 5), torch.arange(8) % 3) for _ in range(count)]


def make(name: str = "Adam", schedule: Schedule | None = None, **options: Any) -> tuple[nn.Module, TeleportOptimizer]:
    model = mlp(5, 24, 24, 3)
    # Muon takes matrices alone.
    parameters = [parameter for parameter in model.parameters() if name != "Muon" or parameter.ndim == 2]
    schedule = Schedule(every=2) if schedule is None else schedule
    teleporter = Teleporter(model, loss_fn, step=GrowthStep(1.3), num_steps=1, schedule=schedule)
    return model, TeleportOptimizer(build(name, parameters, **options), teleporter)


def bits(value: Any) -> Any:
    """A copy to compare bit for bit with."""
    return pickle.dumps(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().numpy().tobytes(), str(value.dtype), tuple(value.shape)
    if isinstance(value, dict):
        return [(str(key), _plain(part)) for key, part in value.items()]
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else repr(value)


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def closure_for(model: nn.Module, optimizer: Optimizer, x: Tensor, y: Tensor) -> Callable[[], float]:
    def closure() -> float:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        backward(loss)
        return float(loss.detach())

    return closure


def train(model: nn.Module, optimizer: TeleportOptimizer, data: list[tuple[Tensor, Tensor]]) -> list[bool]:
    moved = []
    for x, y in data:
        optimizer.zero_grad()
        report = optimizer.before_backward(x, y)
        backward(loss_fn(model(x), y))
        optimizer.step()
        moved.append(report is not None and report.outcome is Outcome.MOVED)
    return moved


@pytest.mark.parametrize("name", NAMES)
def test_steps_as_by_hand_with_each_optimizer(name: str) -> None:
    model, optimizer = make(name)
    twin = copy.deepcopy(model)
    data = batches(5)
    chosen = [parameter for parameter in twin.parameters() if name != "Muon" or parameter.ndim == 2]
    plain = build(name, chosen)
    teleporter = Teleporter(twin, loss_fn, step=GrowthStep(1.3), num_steps=1, schedule=Schedule(every=2))
    for index, (x, y) in enumerate(data):
        before = bits(optimizer.optimizer.state_dict())
        teleporter.step(index, x, y)
        plain.step(closure_for(twin, plain, x, y))
        if index % 2 or name in NEEDS_CLOSURE:
            optimizer.step(closure_for(model, optimizer, x, y), batch=(x, y))
        else:
            optimizer.zero_grad()
            report = optimizer.before_backward(x, y)
            assert report is not None
            assert report.outcome is Outcome.MOVED
            assert bits(optimizer.optimizer.state_dict()) == before, "a teleport does not touch the state"
            backward(loss_fn(model(x), y))
            optimizer.step()
    assert optimizer.step_index == 5
    assert optimizer.last_report is not None
    assert bits(model.state_dict()) == bits(twin.state_dict())
    assert bits(optimizer.optimizer.state_dict()) == bits(plain.state_dict())


def test_without_a_due_teleport_it_is_the_optimizer_inside() -> None:
    model, optimizer = make("AdamW", Schedule(epochs=0, batches_per_epoch=1))
    twin = copy.deepcopy(model)
    plain = build("AdamW", twin.parameters())
    data = batches(3)
    assert train(model, optimizer, data) == [False] * 3
    for x, y in data:
        plain.step(closure_for(twin, plain, x, y))
    assert bits(model.state_dict()) == bits(twin.state_dict())
    assert optimizer.last_report is None


SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=8),
    "plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch),
    "sequential": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.ConstantLR(optimizer, 0.1, 2), lr_scheduler.CosineAnnealingLR(optimizer, 4)],
        milestones=[2],
    ),
    "cyclic": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.001, 0.1, step_size_up=2),
    "averaged": lambda optimizer: torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.05, anneal_epochs=3),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("inner", ["SGD", "Adam"])
def test_schedulers_set_the_rates_that_are_stepped_with(name: str, inner: str) -> None:
    model, optimizer = make(inner)
    plain = build(inner, copy.deepcopy(model).parameters())
    mine, theirs = SCHEDULERS[name](optimizer), SCHEDULERS[name](plain)
    for x, y in batches(6):
        train(model, optimizer, [(x, y)])
        plain.step()
        for scheduler in (mine, theirs):
            scheduler.step(*([1.0] if name == "plateau" else []))
        assert optimizer.optimizer.param_groups[0]["lr"] == plain.param_groups[0]["lr"]
    assert mine.get_last_lr() == theirs.get_last_lr()


@pytest.mark.parametrize("name", ["SGD", "Adam", "LBFGS"])
def test_a_run_goes_on_from_its_state_dict_as_if_never_stopped(name: str, tmp_path: Any) -> None:
    data = batches(6)

    def run(model: nn.Module, optimizer: TeleportOptimizer, part: list[tuple[Tensor, Tensor]]) -> None:
        for x, y in part:
            optimizer.step(closure_for(model, optimizer, x, y), batch=(x, y))

    model, optimizer = make(name)
    run(model, optimizer, data[:3])
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "at.pt")
    run(model, optimizer, data[3:])
    fresh, resumed = make(name)
    saved = torch.load(tmp_path / "at.pt", weights_only=True)
    fresh.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    assert resumed.step_index == 3
    run(fresh, resumed, data[3:])
    assert bits(fresh.state_dict()) == bits(model.state_dict())
    assert bits(resumed.state_dict()) == bits(optimizer.state_dict())


@pytest.mark.parametrize("what", ["random move", "randomised factorisation", "while it pays"])
def test_what_a_teleporter_has_learnt_is_in_the_state(what: str, tmp_path: Any) -> None:
    def made() -> tuple[nn.Module, TeleportOptimizer]:
        known: dict[str, dict[str, Any]] = {
            "random move": {"move": RandomMove(seed=1)},
            # Warm-started: a basis depends on the teleports before.
            "randomised factorisation": {"factorisation": "randomised", "tau": 0.9},
            "while it pays": {"schedule": WhileItPays(Schedule(), least_gain=1e9, patience=5)},
        }
        torch.manual_seed(3)
        model = mlp(5, 96, 96, 3)
        options = {"schedule": Schedule(), **known[what]}
        teleporter = teleporter_of(model, loss_fn, step=GrowthStep(1.3), **options)
        return model, TeleportOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), teleporter)

    data = [(torch.randn(64, 5), torch.arange(64) % 3) for _ in range(6)]
    model, optimizer = made()
    train(model, optimizer, data[:3])
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "at.pt")
    train(model, optimizer, data[3:])
    fresh, resumed = made()
    saved = torch.load(tmp_path / "at.pt", weights_only=True)
    fresh.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    train(fresh, resumed, data[3:])
    assert bits(fresh.state_dict()) == bits(model.state_dict())
    assert bits(resumed.state_dict()) == bits(optimizer.state_dict())


def test_the_state_of_a_plain_optimizer_is_taken_too_and_keeps_the_index() -> None:
    model, optimizer = make("Adam")
    train(model, optimizer, batches(3))
    plain = build("Adam", copy.deepcopy(model).parameters())
    plain.load_state_dict(optimizer.optimizer.state_dict())
    plain.param_groups[0]["lr"] = 0.5
    optimizer.load_state_dict(plain.state_dict())
    assert optimizer.step_index == 3
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups is optimizer.optimizer.param_groups
    assert optimizer.state is optimizer.optimizer.state


def test_a_deep_copy_of_model_and_optimizer_goes_its_own_way() -> None:
    model, optimizer = make("Adam")
    train(model, optimizer, batches(1))
    other_model, other = copy.deepcopy((model, optimizer))
    assert other.optimizer is not optimizer.optimizer
    data = batches(4)
    train(model, optimizer, data)
    before = bits(model.state_dict())
    train(other_model, other, data)
    assert bits(other_model.state_dict()) == bits(model.state_dict()) == before
    assert other.step_index == 5


def test_hooks_see_the_optimizer_that_was_given_them() -> None:
    model, optimizer = make("SGD")
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: seen.append(f"pre {opt is optimizer}"))
    optimizer.optimizer.register_step_post_hook(lambda opt, args, kwargs: seen.append(f"in {opt is not optimizer}"))
    optimizer.register_step_post_hook(lambda opt, args, kwargs: seen.append(f"post {opt is optimizer}"))
    train(model, optimizer, batches(1))
    assert seen == ["pre True", "in True", "post True"]
    optimizer.register_state_dict_pre_hook(lambda opt: seen.append("save"))
    optimizer.register_state_dict_post_hook(lambda opt, state: {**state, "more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda opt, state: {k: v for k, v in state.items() if k != "more"})
    optimizer.register_load_state_dict_post_hook(lambda opt: seen.append("loaded"))
    state = optimizer.state_dict()
    assert state["more"] == 1
    optimizer.load_state_dict(state)
    assert seen[3:] == ["save", "loaded"]


def test_a_wrapped_optimizer_is_left_as_it_was() -> None:
    plain = torch.optim.LBFGS(mlp(5, 8, 3).parameters())
    assert "differentiable" not in plain.defaults
    model = mlp(5, 8, 3)
    plain = torch.optim.LBFGS(model.parameters())
    before = bits((plain.defaults, plain.state_dict()))
    optimizer = TeleportOptimizer(plain, Teleporter(model, loss_fn, schedule=Schedule()))
    assert bits((plain.defaults, plain.state_dict())) == before
    assert optimizer.defaults is plain.defaults
    assert repr(optimizer).startswith("TeleportOptimizer(LBFGS (")


def test_groups_are_added_to_the_optimizer_inside() -> None:
    model = mlp(5, 8, 3)
    plain = torch.optim.SGD(model[0].parameters(), lr=0.1)
    optimizer = TeleportOptimizer(plain, Teleporter(model, loss_fn, schedule=Schedule()))
    optimizer.add_param_group({"params": list(model[2].parameters()), "lr": 0.2})
    assert [group["lr"] for group in plain.param_groups] == [0.1, 0.2]


def test_accumulated_gradients_are_those_of_one_place() -> None:
    model, optimizer = make("SGD")
    data = batches(3)
    optimizer.zero_grad()
    reports = []
    for x, y in data:
        reports.append(optimizer.before_backward(x, y))
        backward(loss_fn(model(x), y) / 3)
    here = copy.deepcopy(model)
    optimizer.step()
    assert [report is not None for report in reports] == [True, False, False]
    here.zero_grad()
    backward(sum((loss_fn(here(x), y) / 3 for x, y in data), torch.zeros(())))
    for mine, theirs in zip(model.parameters(), here.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_closure_that_only_adds_starts_from_nothing_after_a_teleport() -> None:
    model, optimizer = make("SGD")
    twin = copy.deepcopy(model)
    [(x, y)] = batches(1)
    backward(loss_fn(model(x), y))

    def adds() -> Any:
        loss = loss_fn(model(x), y)
        backward(loss)
        return loss

    optimizer.step(adds, batch=(x, y))
    Teleporter(twin, loss_fn, step=GrowthStep(1.3), num_steps=1).teleport(x, y)
    backward(loss_fn(twin(x), y))
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.equal(mine.grad, theirs.grad)


@pytest.mark.parametrize("index", [0, 1], ids=["due", "not due"])
def test_gradients_from_before_the_call_are_refused(index: int) -> None:
    model, optimizer = make("SGD")
    data = batches(3)
    train(model, optimizer, data[:index])
    optimizer.zero_grad()
    backward(loss_fn(model(data[2][0]), data[2][1]))
    before = bits((model.state_dict(), optimizer.state_dict()))
    message = r"before_backward must come before any gradient .* got a gradient of shape \(24, 5\): call zero_grad"
    with pytest.raises(ValueError, match=message):
        optimizer.before_backward(*data[2])
    assert bits((model.state_dict(), optimizer.state_dict())) == before


def test_a_forward_from_before_the_call_cannot_be_taken_back_through() -> None:
    model, optimizer = make("SGD")
    [(x, y)] = batches(1)
    loss = loss_fn(model(x), y)
    optimizer.before_backward(x, y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        backward(loss)


def test_gradients_filled_with_zeros_are_none() -> None:
    model, optimizer = make("SGD")
    [(x, y)] = batches(1)
    backward(loss_fn(model(x), y))
    optimizer.zero_grad(set_to_none=False)
    assert optimizer.before_backward(x, y) is not None


def test_a_batch_needs_a_closure_and_a_due_teleport_a_batch() -> None:
    model, optimizer = make("SGD", Schedule(warmup=1))
    [(x, y)] = batches(1)
    backward(loss_fn(model(x), y))
    before = bits((model.state_dict(), optimizer.state_dict()))
    with pytest.raises(ValueError, match=r"step\(batch=...\) needs a closure: .* got closure None"):
        optimizer.step(batch=(x, y))
    with pytest.raises(ValueError, match=r"batch must be a pair \(inputs, targets\), got Tensor"):
        optimizer.step(closure_for(model, optimizer, x, y), batch=x)  # type: ignore[arg-type]
    assert bits((model.state_dict(), optimizer.state_dict())) == before
    optimizer.step()
    before = bits((model.state_dict(), optimizer.state_dict()))
    for closure in (None, closure_for(model, optimizer, x, y)):
        with pytest.raises(ValueError, match="a teleport is due at step 1 and no batch was given: call before_back"):
            optimizer.step(closure)
    assert bits((model.state_dict(), optimizer.state_dict())) == before


def test_what_cannot_be_wrapped() -> None:
    model = mlp(5, 8, 3)
    plain = torch.optim.SGD(model.parameters(), lr=0.1)
    teleporter = Teleporter(model, loss_fn, schedule=Schedule())
    optimizer = TeleportOptimizer(plain, teleporter)
    with pytest.raises(ValueError, match="must be an optimizer of torch, not wrapped yet, got TeleportOptimizer"):
        TeleportOptimizer(optimizer, teleporter)
    with pytest.raises(ValueError, match="must be an optimizer of torch, not wrapped yet, got str"):
        TeleportOptimizer("sgd", teleporter)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"needs a schedule: give Teleporter\(schedule=Schedule\(...\)\), got None"):
        TeleportOptimizer(plain, Teleporter(model, loss_fn))
    with pytest.raises(ValueError, match="must hold parameters of the teleporter's model, got none of them"):
        TeleportOptimizer(plain, Teleporter(copy.deepcopy(model), loss_fn, schedule=Schedule()))


@pytest.mark.parametrize("overflow", [False, True])
def test_a_gradient_scaler_takes_it(overflow: bool) -> None:
    model, optimizer = make("SGD", Schedule())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    [(x, y)] = batches(1)
    assert optimizer.before_backward(x, y) is not None
    loss = loss_fn(model(x), y) * (float("inf") if overflow else 1.0)
    backward(scaler.scale(loss))
    before = bits(model.state_dict())
    scaler.step(optimizer)
    scaler.update()
    assert (bits(model.state_dict()) == before) is overflow
    assert optimizer.step_index == (0 if overflow else 1)
    optimizer.zero_grad()
    # The step that was skipped has had its teleport; the next one has its own.
    assert (optimizer.before_backward(x, y) is None) is overflow
