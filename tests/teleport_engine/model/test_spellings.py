"""Every spelling of a linear map moves as its dense twin: the projection on what the product does not see."""

import copy
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from teleport_engine import GrowthStep, Options, Outcome, Teleporter, TeleportReport
from tests.teleport_engine import dense

Product = Callable[["Net", Tensor, Tensor], Tensor]


class Spelling(NamedTuple):
    """A product of the hidden layer `h [8, 24]` and a weight; it gives `[8, ...]`."""

    shape: tuple[int, ...]
    product: Product


class Net(nn.Module):
    def __init__(self, spelling: Spelling) -> None:
        super().__init__()
        self.first = nn.Linear(5, 24)
        self.weight = nn.Parameter(0.3 * torch.randn(spelling.shape))
        self.bias = nn.Parameter(torch.randn(20))
        self.gain = nn.Parameter(torch.tensor(1.3))
        self.product = spelling.product
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        outputs: Tensor = self.head(torch.tanh(self.product(self, self.weight, h)).flatten(1))
        return outputs


def _by_experts(net: Net, w: Tensor, h: Tensor) -> Tensor:
    return torch.cat([h[:3] @ w[0], h[3:] @ w[2]])


def _by_chosen_experts(net: Net, w: Tensor, h: Tensor) -> Tensor:
    """As the models of transformers do, with the experts that a router chose."""
    first, last = torch.tensor([[0], [2]])
    return torch.cat([h[:3] @ w[first[0]], h[3:] @ w[last[0], :]])


SPELLINGS: dict[str, Spelling] = {
    "x @ W": Spelling((24, 20), lambda net, w, h: h @ w),
    "x @ W.T": Spelling((20, 24), lambda net, w, h: h @ w.T),
    "W @ x": Spelling((20, 24), lambda net, w, h: (w @ h.T).T),
    "W @ x of many": Spelling((20, 12), lambda net, w, h: w @ h[:2].reshape(2, 2, 12).mT),
    "W.T @ x": Spelling((24, 20), lambda net, w, h: (w.t() @ h.T).T),
    "mm": Spelling((24, 20), lambda net, w, h: torch.mm(h, w)),
    "matmul of tokens": Spelling((12, 20), lambda net, w, h: torch.matmul(h[:2].reshape(2, 2, 12), w)),
    "addmm": Spelling((24, 20), lambda net, w, h: torch.addmm(net.bias, h, w)),
    "addmm, scaled": Spelling((24, 20), lambda net, w, h: torch.addmm(net.bias, h, w, beta=0.5, alpha=2.0)),
    "linear, transposed": Spelling((24, 20), lambda net, w, h: nn.functional.linear(h, w.t(), net.bias)),
    "linear, scaled": Spelling((20, 24), lambda net, w, h: nn.functional.linear(h, w * 0.7)),
    "linear, scaled by a parameter": Spelling((20, 24), lambda net, w, h: nn.functional.linear(h, net.gain * w)),
    "linear, divided": Spelling((20, 24), lambda net, w, h: nn.functional.linear(h, w / 3.0)),
    "linear, some rows": Spelling((30, 24), lambda net, w, h: nn.functional.linear(h, w[5:25])),
    "linear, some columns": Spelling((20, 30), lambda net, w, h: nn.functional.linear(h, w[:, 3:27])),
    "linear, reshaped": Spelling((20, 4, 6), lambda net, w, h: nn.functional.linear(h, w.reshape(20, 24))),
    "a kernel of one tap": Spelling((20, 24, 1, 1), lambda net, w, h: nn.functional.linear(h, w.view(20, 24))),
    "bmm": Spelling((4, 6, 5), lambda net, w, h: torch.bmm(h.reshape(8, 4, 6)[:3].transpose(0, 1), w).transpose(0, 1)),
    "experts, one by one": Spelling((4, 24, 20), _by_experts),
    "experts, by a router's choice": Spelling((4, 24, 20), _by_chosen_experts),
    "experts, all at once": Spelling((3, 24, 7), lambda net, w, h: torch.matmul(h, w).transpose(0, 1)),
    "baddbmm": Spelling(
        (4, 6, 5), lambda net, w, h: torch.baddbmm(net.bias.view(4, 1, 5), h.reshape(8, 4, 6)[:3].transpose(0, 1), w).mT
    ),
    "einsum": Spelling((24, 20), lambda net, w, h: torch.einsum("nd,do->no", h, w)),
    "einsum without an arrow": Spelling((20, 24), lambda net, w, h: torch.einsum("ij, kj", h, w)),
    "einsum of heads": Spelling(
        (6, 4, 5), lambda net, w, h: torch.einsum("...d,dhk->...hk", h.reshape(8, 4, 6)[:4, 0], w)
    ),
    "einsum of experts": Spelling(
        (4, 5, 6), lambda net, w, h: torch.einsum("ned,eod->neo", h.reshape(8, 4, 6)[:3], w).repeat(3, 1, 1)[:8]
    ),
    "einsum back from heads": Spelling((4, 6, 7), lambda net, w, h: torch.einsum("nhk,hkd->nd", h.reshape(8, 4, 6), w)),
    "bilinear": Spelling((7, 12, 4), lambda net, w, h: nn.functional.bilinear(h[:, :12], h[:, 12:16], w)),
    "two spellings": Spelling((24, 24), lambda net, w, h: torch.tanh(h @ w.T) + nn.functional.linear(h, w)),
}


class Case(NamedTuple):
    model: Net
    inputs: Tensor
    targets: Tensor


def make(name: str) -> Case:
    torch.manual_seed(0)
    model, inputs = Net(SPELLINGS[name]).double(), torch.randn(8, 5).double()
    outputs = model(inputs)  # which gives the head its shape
    return Case(model, inputs, torch.randn_like(outputs.detach()))


def dense_projection(model: Net, inputs: Tensor, gradient: Tensor) -> Tensor:
    """What of a gradient the products of the weight do not see: off the row space of their Jacobian."""
    h = torch.tanh(model.first(inputs)).detach()

    def products(weight: Tensor) -> Tensor:
        if model.product is SPELLINGS["two spellings"].product:
            return h @ weight.T
        return model.product(model, weight, h)

    jacobian: Any = torch.autograd.functional.jacobian(products, model.weight.detach())  # type: ignore[no-untyped-call]
    return gradient.flatten() @ dense.projector(jacobian.reshape(-1, gradient.numel()), 1.0)


def climb(case: Case, **options: Any) -> TeleportReport:
    teleporter = Teleporter(case.model, nn.functional.mse_loss, Options(step=GrowthStep(1.2), num_steps=3, **options))
    return teleporter.teleport(case.inputs, case.targets)


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("route", ["jvp", "double_backward"])
def test_the_direction_is_that_of_the_dense_twin(name: str, route: Any) -> None:
    case = make(name)
    options = Options(route=route)
    found = Teleporter(case.model, nn.functional.mse_loss, options).direction(case.inputs, case.targets)
    twin = copy.deepcopy(case.model)
    (full,) = dense.half_square_norm_gradient(twin, nn.functional.mse_loss, case.inputs, case.targets, [twin.weight])
    expected = dense_projection(twin, case.inputs, full).reshape(full.shape)
    assert float(expected.norm()) > 1e-6 * float(full.norm()), "something is left to compare"
    assert float((found["weight"] - expected).norm()) <= 1e-10 * float(full.norm())


@pytest.mark.parametrize("name", SPELLINGS)
def test_it_moves_and_the_outputs_stay(name: str) -> None:
    case = make(name)
    with torch.no_grad():
        before = case.model(case.inputs)
    report = climb(case, move_bias=name == "addmm")
    assert (report.outcome, report.route) == (Outcome.MOVED, "jvp"), report.messages
    (layer,) = [layer for layer in report.layers if layer.name == "weight"]
    assert (layer.moved, layer.reason) == (True, "")
    assert layer.rank is not None
    assert layer.d_in == layer.rank + (layer.null_dim or 0)
    with torch.no_grad():
        assert float((case.model(case.inputs) - before).abs().max()) <= 1e-10


@pytest.mark.parametrize("name", ["x @ W", "bmm", "experts, one by one", "einsum of heads", "bilinear"])
def test_below_tau_1_and_with_a_sample_of_its_own(name: str) -> None:
    case = make(name)
    for options in ({"tau": 0.99}, {"tau": "auto"}):
        assert climb(case, **options).num_steps > 0
    teleporter = Teleporter(case.model, nn.functional.mse_loss, step=GrowthStep(1.1), num_steps=2)
    report = teleporter.teleport(case.inputs, case.targets, subspace=[torch.randn(8, 5).double(), case.inputs])
    assert abs(report.loss_drift) <= 1e-12
    assert "weight" in teleporter.spectrum(case.inputs)


OTHERS: dict[str, tuple[Spelling, str]] = {
    "from both sides": (
        Spelling((24, 24), lambda net, w, h: h @ w + h @ w.T),
        "its weight is multiplied from both sides: frozen",
    ),
    "its axes mixed": (
        Spelling((12, 40), lambda net, w, h: h @ w.reshape(24, 20)),
        "its weight is multiplied in another shape, whose axes are not its own: frozen",
    ),
    "by itself": (
        Spelling((24, 24), lambda net, w, h: h @ (w @ w)),
        "not seen as a linear map in the forward: frozen",
    ),
    "in its norm too": (
        Spelling((24, 20), lambda net, w, h: h @ w / w.norm()),
        "its weight is used outside its linear map: frozen",
    ),
    "entry by entry": (
        Spelling((8, 24), lambda net, w, h: h * w),
        "not seen as a linear map in the forward: frozen",
    ),
    "scaled by a vector": (
        Spelling((20, 24), lambda net, w, h: nn.functional.linear(h, w * h[0])),
        "not seen as a linear map in the forward: frozen",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_linear_map_stays_with_a_true_reason(name: str) -> None:
    spelling, reason = OTHERS[name]
    torch.manual_seed(0)
    model, inputs = Net(spelling).double(), torch.randn(8, 5).double()
    targets = torch.randn_like(model(inputs).detach())
    report = climb(Case(model, inputs, targets))
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert reasons["weight"] == reason
    assert abs(report.loss_drift) <= 1e-12


@settings(deadline=None, max_examples=25)
@given(
    order=st.sampled_from(list(itertools.permutations("do"))),
    axes=st.integers(0, 2),
    factor=st.sampled_from([1.0, -0.5, 3.0]),
    seed=st.integers(0, 2**16),
)
def test_all_spellings_of_one_map_have_one_direction(
    order: tuple[str, str], axes: int, factor: float, seed: int
) -> None:
    """The same numbers, kept in any order of axes, are moved in the same way."""
    letters = "".join(order)

    def product(net: Net, w: Tensor, h: Tensor) -> Tensor:
        w = factor * w
        if axes == 0:
            return torch.einsum(f"nd,{letters}->no", h, w)
        w = w if letters == "do" else w.T
        return h @ w if axes == 1 else nn.functional.linear(h, w.T)

    torch.manual_seed(seed)
    spelled = Net(Spelling((24, 20) if letters == "do" else (20, 24), product)).double()
    plain = Net(Spelling((20, 24), lambda net, w, h: factor * nn.functional.linear(h, w))).double()
    inputs = torch.randn(8, 5).double()
    targets = torch.randn_like(spelled(inputs).detach())
    plain(inputs)
    state = copy.deepcopy(spelled.state_dict())
    state["weight"] = state["weight"].T if letters == "do" else state["weight"]
    plain.load_state_dict(state)
    directions = [
        Teleporter(model, nn.functional.mse_loss).direction(inputs, targets)["weight"] for model in (spelled, plain)
    ]
    mine = directions[0].T if letters == "do" else directions[0]
    assert float((mine - directions[1]).norm()) <= 1e-10 * float(directions[1].norm())


class TiedByMemory(nn.Module):
    """Two layers whose weights are to lie in one memory, as `b.weight.data = a.weight.data` makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two = nn.Linear(5, 24), nn.Linear(24, 24), nn.Linear(24, 24)
        self.head, self.words = nn.Linear(24, 3), nn.Embedding(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x)) + self.words(torch.arange(len(x)))
        outputs: Tensor = self.head(torch.tanh(self.two(torch.tanh(self.one(h)))))
        return outputs


def tied(*, with_words: bool = False) -> Any:
    torch.manual_seed(0)
    model = TiedByMemory().double()
    model.two.weight.data = model.one.weight.data
    if with_words:
        model.words.weight.data = model.one.weight.data
    return model, torch.randn(8, 5).double(), torch.randn(8, 3).double()


@pytest.mark.parametrize("route", ["jvp", "double_backward"])
@pytest.mark.parametrize("tau", [1.0, 0.99])
def test_weights_tied_by_memory_are_one(route: Any, tau: float) -> None:
    model, inputs, targets = tied()
    options = Options(tau=tau, route=route if tau == 1.0 else "auto")
    found = Teleporter(model, nn.functional.mse_loss, options).direction(inputs, targets)
    weights = [model.one.weight, model.two.weight]
    full = sum(dense.half_square_norm_gradient(model, nn.functional.mse_loss, inputs, targets, weights))
    hidden = torch.tanh(model.first(inputs)) + model.words.weight[:8]
    rows = torch.cat([hidden, torch.tanh(model.one(hidden))])
    expected = dense.projected(torch.as_tensor(full), [rows], tau)
    assert "two.weight" not in found
    assert float((found["one.weight"] - expected).norm()) <= 1e-10 * float(torch.as_tensor(full).norm())


def test_weights_tied_by_memory_move_together_and_keep_the_loss() -> None:
    model, inputs, targets = tied()
    report = climb(Case(model, inputs, targets))
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert (reasons["one"], reasons["head"]) == ("", "")
    assert reasons["two"] == "shares its weight with 'one', under whose name it is reported"
    assert report.outcome is Outcome.MOVED
    assert abs(report.loss_drift) <= 1e-12
    assert torch.equal(model.one.weight, model.two.weight)


def test_a_weight_in_the_memory_of_an_embedding_stays() -> None:
    model, inputs, targets = tied(with_words=True)
    report = climb(Case(model, inputs, targets))
    assert {layer.name: layer.reason for layer in report.layers}[
        "one"
    ] == "its weight is used outside its linear map: frozen"
    assert abs(report.loss_drift) <= 1e-12
