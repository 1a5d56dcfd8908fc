"""An exact move is judged by loss and outputs at any scale; a random forward is found by a second one."""

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from teleport_engine import FixedStep, GrowthStep, Limits, Options, Outcome, Teleporter, TeleportReport
from tests.teleport_engine.cases import OwnStep, make, mlp, outputs_of


class Hidden(nn.Module):
    """Uses the middle weight in a way that no watch can see: through a tensor that shares its memory."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        self.first, self.mid, self.last = nn.Linear(5, 24), nn.Linear(24, 24), nn.Linear(24, 3)
        self.share = share
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.mid(torch.tanh(self.first(x))))
        outputs: Tensor = self.last(h) + self.share * self.seen[0].sum()
        return outputs


def hidden(dtype: torch.dtype, share: float = 1.0) -> tuple[Hidden, Tensor, Tensor]:
    torch.manual_seed(0)
    model = Hidden(share).to(dtype)
    model.seen = [model.mid.weight.detach().view(24, 24)]
    return model, torch.randn(6, 5, dtype=dtype), torch.randn(6, 3, dtype=dtype)


def scaled(scale: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda outputs, targets: scale * nn.functional.mse_loss(outputs, targets)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_wrong_claim_is_undone_whole_at_any_scale_of_the_loss(dtype: torch.dtype, scale: float) -> None:
    model, inputs, targets = hidden(dtype, 0.01)
    before = copy.deepcopy(model.state_dict())
    options = Options(step=OwnStep(share=0.02), num_steps=4, limits=Limits(max_growth=1e9))
    report = Teleporter(model, scaled(scale), options).teleport(inputs, targets)
    assert (report.outcome, report.num_steps, report.trace) == (Outcome.DRIFT, 0, ())
    (event,) = report.events
    assert (event.guard.split("_")[1], event.action) == ("drift", "rolled back")
    assert report.loss_after == report.loss_before
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("name", ["tanh", "attention_and_layer_norm", "convolutions"])
def test_a_right_claim_stands_at_any_scale_of_the_loss(name: str, dtype: torch.dtype, scale: float) -> None:
    case = make(name, dtype)
    before = outputs_of(case.model, case.inputs)
    teleporter = Teleporter(
        case.model, lambda outputs, targets: scale * case.loss_fn(outputs, targets), step=GrowthStep(1.3), num_steps=3
    )
    report = teleporter.teleport(case.inputs, case.targets)
    assert (report.outcome, report.num_steps, report.events) == (Outcome.MOVED, 3, ())
    assert float((outputs_of(case.model, case.inputs) - before).abs().max()) <= (
        1e-10 if dtype == torch.float64 else 2e-5
    )


def test_outputs_that_change_are_seen_where_the_loss_does_not() -> None:
    """A loss of differences between outputs is blind for what all of them have in common."""
    model, inputs, _ = hidden(torch.float64)
    before = copy.deepcopy(model.state_dict())

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - outputs.mean(1, keepdim=True)).square().mean()

    report = Teleporter(model, loss_fn, step=OwnStep(share=0.02), num_steps=2).teleport(inputs, None)
    assert (report.outcome, report.num_steps) == (Outcome.DRIFT, 0)
    assert [(event.guard, event.action) for event in report.events] == [("output_drift", "rolled back")]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_loss_that_changes_is_seen_where_the_outputs_do_not(scale: float) -> None:
    model, inputs, targets = hidden(torch.float64, 0.0)

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return scale * (nn.functional.mse_loss(outputs, targets) + 0.01 * model.seen[0].sum())

    options = Options(step=OwnStep(share=0.02), num_steps=2, limits=Limits(max_growth=1e9))
    report = Teleporter(model, loss_fn, options).teleport(inputs, targets)
    assert (report.outcome, report.num_steps) == (Outcome.DRIFT, 0)
    assert [(event.guard, event.action) for event in report.events] == [("loss_drift", "rolled back")]


def test_a_loss_near_zero_may_change_by_its_own_rounding() -> None:
    """The difference of two numbers of a million is known to a tenth in float32, and no more."""
    case = make("tanh", torch.float32)

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        loss = nn.functional.mse_loss(outputs, targets)
        return 1e-3 * loss + (1e6 * outputs.sum() - 1e6 * outputs.double().sum().float())

    report = Teleporter(case.model, loss_fn, step=GrowthStep(1.2), num_steps=3).teleport(case.inputs, case.targets)
    assert report.outcome is Outcome.MOVED, report.messages


class Draws(nn.Module):
    def __init__(self, draw: Callable[["Draws", Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 24), nn.Linear(24, 3)
        self.generator = torch.Generator().manual_seed(0)
        self.draw = draw

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.draw(self, torch.tanh(self.first(x))))
        return logits


RANDOM: dict[str, Callable[[Draws, Tensor], Tensor]] = {
    "torch": lambda model, h: h + 0.1 * torch.randn_like(h),
    "own generator": lambda model, h: h + 0.1 * torch.randn(h.shape, generator=model.generator),
    "Python": lambda model, h: h * (1.0 + random.random()),
    "numpy": lambda model, h: h + 0.1 * torch.from_numpy(np.random.randn(*h.shape)).to(h.dtype),
}


def drawn_outside(model: Draws, h: Tensor) -> Tensor:
    """Draws from the operating system, whose numbers nobody can draw again."""
    return h * (1.0 + random.SystemRandom().random())


CALLS = ["teleport", "double_backward", "below 1", "direction", "spectrum"]


@pytest.mark.parametrize("source", RANDOM)
def test_random_numbers_are_held_fixed_and_the_training_step_draws_the_same(source: str) -> None:
    """At tau = 1 the loss under these very numbers stays; the step after the teleport has the gradient it reports."""
    model, inputs, targets = Draws(RANDOM[source]).double(), torch.randn(6, 5).double(), torch.arange(6) % 3
    own = model.generator.get_state()
    start = torch.get_rng_state(), own, random.getstate(), np.random.get_state()

    def trained() -> tuple[float, float]:
        torch.set_rng_state(start[0])
        model.generator.set_state(start[1])
        random.setstate(start[2])
        np.random.set_state(start[3])
        loss = nn.functional.cross_entropy(model(inputs), targets)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        return float(loss.detach()), float(sum(gradient.square().sum() for gradient in gradients)) ** 0.5

    loss_before, norm_before = trained()
    model.generator.set_state(own)
    torch.set_rng_state(start[0])
    random.setstate(start[2])
    np.random.set_state(start[3])
    options = Options(step=GrowthStep(1.2), num_steps=2)
    report = Teleporter(model, nn.functional.cross_entropy, options).teleport(inputs, targets)
    assert report.outcome is Outcome.MOVED, report.messages
    assert (report.loss_before, report.grad_norm_before) == pytest.approx((loss_before, norm_before), rel=1e-12)
    assert abs(report.loss_drift) <= 1e-12
    loss_after, norm_after = trained()
    assert (report.loss_after, report.grad_norm_after) == pytest.approx((loss_after, norm_after), rel=1e-9)
    assert norm_after > 1.1 * norm_before


def test_dropout_is_held_fixed_below_1_and_with_a_sample_and_a_probe() -> None:
    model = nn.Sequential(nn.Linear(5, 24), nn.Tanh(), nn.Dropout(0.3), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 3))
    inputs, targets = torch.randn(8, 5), torch.arange(8) % 3
    teleporter = Teleporter(model, nn.functional.cross_entropy, tau=0.99, step=GrowthStep(1.2), num_steps=2)
    more, probe = torch.randn(12, 5), (torch.randn(6, 5), targets[:6])
    state = torch.get_rng_state()
    report = teleporter.teleport(inputs, targets, subspace=more, probe=probe)
    assert report.outcome is Outcome.MOVED, report.messages
    assert torch.equal(torch.get_rng_state(), state)
    again = teleporter.teleport(inputs, targets)
    assert again.grad_norm_before == pytest.approx(report.grad_norm_after, rel=1e-5)


@pytest.mark.parametrize("call", CALLS)
def test_randomness_that_cannot_be_held_fixed_is_found_by_a_second_forward(call: str) -> None:
    model, inputs, targets = Draws(drawn_outside), torch.randn(6, 5), torch.arange(6) % 3
    before = copy.deepcopy(model.state_dict())
    kinds: dict[str, dict[str, Any]] = {"double_backward": {"route": "double_backward"}, "below 1": {"tau": 0.9}}
    options = kinds.get(call, {})
    teleporter = Teleporter(model, nn.functional.cross_entropy, Options(step=GrowthStep(1.2), **options))

    calls: dict[str, Callable[[], Any]] = {
        "spectrum": lambda: teleporter.spectrum(inputs),
        "direction": lambda: teleporter.direction(inputs, targets),
    }

    def states() -> list[Any]:
        own = [torch.get_rng_state(), model.generator.get_state()]
        return [*(state.tolist() for state in own), random.getstate(), str(np.random.get_state())]

    start = states()
    with pytest.raises(ValueError, match="the forward must not be random, but it drew random numbers: a second one"):
        calls.get(call, lambda: teleporter.teleport(inputs, targets))()
    assert states() == start
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_small_noise_is_found_by_the_tangent_pass() -> None:
    """Too little to change the loss along its gradient by a thousandth, so that the pass is certified."""
    model = Draws(lambda model, h: h + 1e-6 * (random.SystemRandom().random() - 0.5)).double()
    teleporter = Teleporter(model, nn.functional.cross_entropy, step=GrowthStep(1.2))
    with pytest.raises(ValueError, match="the forward must not be random"):
        teleporter.direction(torch.randn(6, 5).double(), torch.arange(6) % 3)


@pytest.mark.parametrize("tau", [1.0, 0.9])
def test_a_number_that_is_drawn_and_not_used_is_welcome(tau: float) -> None:
    def draw(model: Draws, h: Tensor) -> Tensor:
        torch.randn(3)
        random.random()
        return h

    model, inputs = Draws(draw), torch.randn(6, 5)
    states = torch.get_rng_state(), random.getstate()
    report = Teleporter(model, nn.functional.cross_entropy, tau=tau, step=GrowthStep(1.1), num_steps=2).teleport(
        inputs, torch.arange(6) % 3
    )
    assert report.outcome is Outcome.MOVED
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_a_random_loss_is_found() -> None:
    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets) * (1.0 + random.SystemRandom().random())

    teleporter = Teleporter(mlp(5, 24, 3), loss_fn, tau=0.9, step=GrowthStep(1.2))
    with pytest.raises(ValueError, match="the forward must not be random"):
        teleporter.teleport(torch.randn(6, 5), torch.arange(6) % 3)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, 0.0, norm_first=True, batch_first=True)
        self.embed, self.head = nn.Linear(6, 64), nn.Linear(64, 4)
        self.blocks = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.embed(x)).mean(1))
        return logits


def first_percent(model: nn.Module, loss_fn: Any, inputs: Tensor, targets: Tensor, tau: float) -> float:
    """The eta with which the first step is as long as 1 % of the weights that move."""
    found = Teleporter(model, loss_fn, tau=tau).direction(inputs, targets)
    weights = [model.get_parameter(name).detach() for name in found]
    norm = sum(float(part.square().sum()) for part in found.values()) ** 0.5
    return float(0.01 * sum(float(weight.square().sum()) for weight in weights) ** 0.5 / norm)


@pytest.mark.parametrize("tau", [1.0, 0.9])
def test_a_fixed_step_does_not_blow_a_network_up_unasked(tau: float) -> None:
    def climb(limits: Limits) -> TeleportReport:
        torch.manual_seed(0)
        model, inputs, targets = Encoder().double(), torch.randn(8, 5, 6).double(), torch.arange(8) % 4
        eta = first_percent(model, nn.functional.cross_entropy, inputs, targets, tau)
        # With one step more, weights and rounding are so large that not every processor sees an exact move.
        options = Options(tau=tau, step=FixedStep(eta), num_steps=3, limits=limits)
        return Teleporter(model, nn.functional.cross_entropy, options).teleport(inputs, targets)

    free = climb(Limits(max_growth=float("inf"), max_drift_share=1e9))
    assert free.grad_norm_ratio > 10.0, "the case is one that blows up"
    report = climb(Limits())
    assert 1.0 < report.grad_norm_ratio <= 10.0
    assert abs(report.loss_drift) <= report.loss_before
    assert report.events


def test_growth_that_is_asked_for_has_no_such_limit() -> None:
    case = make("tanh")
    report = Teleporter(case.model, case.loss_fn, step=GrowthStep(5.0), num_steps=4).teleport(case.inputs, case.targets)
    assert report.outcome is Outcome.MOVED
    assert report.grad_norm_ratio == pytest.approx(25.0, rel=0.2)
