"""A weight that is more than a linear map is noticed and stays; what stays is named with its reason."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from teleport_engine import GrowthStep, Outcome, Teleporter, TeleportReport

ELSEWHERE = "its weight is used outside its linear map: frozen"
UNSEEN = "not seen as a linear map in the forward: frozen"


class Net(nn.Module):
    """in -> mid -> out; `extra` is added to the outputs, and may use the weights in some other way."""

    def __init__(self, extra: Callable[["Net", Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.first, self.mid, self.out = nn.Linear(5, 24), nn.Linear(24, 24), nn.Linear(24, 3)
        self.kept = [self.mid.weight.detach().view(24, 24)]
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.mid(torch.tanh(self.first(x))))
        logits: Tensor = self.out(h)
        return logits if self.extra is None else logits + self.extra(self, h)


def climb(
    model: nn.Module, loss_fn: Any = nn.functional.cross_entropy, inputs: Any = None, tau: Any = 1.0
) -> TeleportReport:
    inputs = torch.randn(6, 5).double() if inputs is None else inputs
    teleporter = Teleporter(model.double(), loss_fn, tau=tau, step=GrowthStep(1.2), num_steps=3)
    return teleporter.teleport(inputs, torch.arange(6) % 3)


def reasons(report: TeleportReport) -> dict[str, str]:
    return {layer.name: layer.reason for layer in report.layers}


OTHER_USES: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "embedding": lambda net, h: nn.functional.embedding(torch.arange(6), net.mid.weight)[:, :3],
    "detached": lambda net, h: net.mid.weight.detach()[:6, :3],
    "data": lambda net, h: net.mid.weight.data[:6, :3],
    "inside a list": lambda net, h: torch.stack([net.mid.weight, net.mid.weight]).sum(0)[:6, :3],
    "as a keyword": lambda net, h: nn.functional.linear(input=net.mid.weight, weight=net.mid.weight)[:6, :3],
    "its norm": lambda net, h: h[:, :3] / net.mid.weight.norm(),
}


@pytest.mark.parametrize("extra", OTHER_USES.values(), ids=OTHER_USES.keys())
def test_another_use_of_a_weight_freezes_it_and_the_others_move(extra: Callable[[Net, Tensor], Tensor]) -> None:
    model = Net(extra)
    before = model.mid.weight.detach().double().clone()
    report = climb(model)
    assert reasons(report) == {"first": "input is fixed", "mid": ELSEWHERE, "out": ""}
    assert report.outcome is Outcome.MOVED
    assert abs(report.loss_drift) <= 1e-12
    assert torch.equal(model.mid.weight, before)


def test_questions_about_a_weight_are_no_use() -> None:
    def ask(net: Net, h: Tensor) -> Tensor:
        weight = net.mid.weight
        assert weight.shape == (24, 24)
        assert weight.size(0) == weight.dim() * 12
        assert weight.requires_grad
        return h[:, :3].to(weight.device).to(weight.dtype)

    report = climb(Net(ask))
    assert reasons(report)["mid"] == ""


def test_a_functional_use_is_one_more_linear_map() -> None:
    def again(net: Net, h: Tensor) -> Tensor:
        return nn.functional.linear(h, weight=net.mid.weight)[:, :3]

    report = climb(Net(again))
    mid = report.layers[1]
    assert mid.moved
    assert mid.rank == 12
    assert abs(report.loss_drift) <= 1e-12


def test_a_penalty_in_the_loss_freezes_what_it_sees() -> None:
    model = Net()

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets) + 0.1 * model.mid.weight.square().sum()

    report = climb(model, loss_fn)
    assert reasons(report) == {"first": "input is fixed", "mid": ELSEWHERE, "out": ""}
    assert report.route == "jvp", "the loss runs while tangents stand in the place of the parameters"
    assert abs(report.loss_drift) <= 1e-12


def test_a_loss_that_holds_a_parameter_itself_takes_the_double_backward() -> None:
    model = Net().double()
    weight = model.mid.weight

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets) + 0.1 * weight.square().sum()

    report = climb(model, loss_fn)
    assert reasons(report) == {"first": "input is fixed", "mid": ELSEWHERE, "out": ""}
    assert report.route == "double_backward", "the tangent pass does not see the penalty's own parameter"
    assert "double backward instead" in report.messages[0]
    assert abs(report.loss_drift) <= 1e-12


def test_what_no_watch_can_see_shows_as_drift_and_is_undone() -> None:
    model = Net(lambda net, h: h[:, :3] * net.kept[0].sum()).double()
    model.kept = [model.mid.weight.detach().view(24, 24)]
    before = copy.deepcopy(model.state_dict())
    report = climb(model)
    assert report.outcome is Outcome.DRIFT
    assert report.num_steps == 0
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_parametrized_weight_is_frozen() -> None:
    model = Net()
    nn.utils.parametrizations.weight_norm(model.mid)
    report = climb(model)
    assert reasons(report)["mid"] == "its weight is computed from other parameters: frozen"
    assert reasons(report)["out"] == ""
    assert abs(report.loss_drift) <= 1e-12


def test_frozen_unused_and_other_layers_are_named() -> None:
    model = nn.Sequential(nn.Linear(5, 20), nn.LayerNorm(20), nn.Linear(20, 20), nn.Linear(20, 3))
    model.register_module("spare", nn.Identity())
    spare = nn.Linear(4, 4)
    model[3].register_module("spare", spare)
    model[2].weight.requires_grad_(False)
    report = climb(model)
    assert reasons(report) == {
        "0": "input is fixed",
        "1": "not a linear layer: frozen",
        "2": "requires_grad is False",
        "3": "",
        "3.spare": UNSEEN,
    }
    assert report.layers[2].d_in == 20


def test_tied_modules_are_reported_once_and_say_so() -> None:
    model = Net()
    model.out = nn.Linear(24, 24)
    model.out.weight = model.mid.weight
    report = climb(model)
    assert reasons(report)["out"] == "shares its weight with 'mid', under whose name it is reported"
    assert report.layers[1].rank == 12
    assert abs(report.loss_drift) <= 1e-12


def test_multihead_attention_moves() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.out = nn.Linear(5, 16), nn.Linear(16, 3)
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x)
            logits: Tensor = self.out(self.attention(h, h, h, need_weights=False)[0].mean(1))
            return logits

    for mode in (True, False):
        report = climb(Attends().train(mode), inputs=torch.randn(6, 3, 5).double())
        assert reasons(report) == {
            "first": "input is fixed",
            "out": "",
            "attention": "",
            "attention.out_proj": "",
        }
        assert abs(report.loss_drift) <= 1e-12


def test_hooks_that_change_outputs_are_part_of_the_model() -> None:
    model = Net()
    model.mid.register_forward_hook(lambda module, args, output: 2.0 * output + 1.0)
    model.out.register_forward_pre_hook(lambda module, args: (args[0] * 3.0,))
    report = climb(model)
    assert reasons(report)["mid"] == reasons(report)["out"] == ""
    assert abs(report.loss_drift) <= 1e-12


class _Cube(torch.autograd.Function):
    """x^3 with a double backward and no forward mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        product: Tensor = 3.0 * x**2 * grads[0]
        return product


def test_an_operation_without_a_forward_mode_falls_back() -> None:
    def cube(net: Net, h: Tensor) -> Tensor:
        cubed: Tensor = _Cube.apply(h)
        return cubed[:, :3]

    report = climb(Net(cube))
    assert (report.outcome, report.route) == (Outcome.MOVED, "double_backward")
    assert "no tangent pass" in report.messages[0]
    assert abs(report.loss_drift) <= 1e-12


@pytest.mark.parametrize(
    ("model", "outcome", "reason"),
    [
        (nn.Sequential(nn.Linear(5, 3)), Outcome.INPUT_FIXED, "input is fixed"),
        (nn.Sequential(nn.LayerNorm(5)), Outcome.NO_MOVABLE_LAYER, "not a linear layer: frozen"),
        (
            nn.Sequential(nn.Linear(5, 3)).requires_grad_(False),
            Outcome.NO_MOVABLE_LAYER,
            "requires_grad is False",
        ),
    ],
    ids=["one layer", "no linear layer", "all frozen"],
)
def test_nothing_to_move_is_an_outcome(model: nn.Module, outcome: Outcome, reason: str) -> None:
    report = climb(model)
    assert report.outcome is outcome
    assert (report.layers[-1].reason, report.num_steps, report.route) == (reason, 0, "none")
    assert report.loss_after == report.loss_before > 0.0
    assert report.grad_norm_after == report.grad_norm_before
    assert (
        Teleporter(model, nn.functional.cross_entropy).direction(torch.randn(6, 5).double(), torch.arange(6) % 3) == {}
    )


def test_a_model_without_parameters_is_an_outcome() -> None:
    report = climb(nn.Sequential(nn.Tanh()))
    assert (report.outcome, report.layers, report.grad_norm_before) == (Outcome.NO_MOVABLE_LAYER, (), 0.0)


class Routed(nn.Module):
    """Tokens go to one of two experts; nobody goes to the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(5, 24), nn.Linear(24, 3)
        self.experts = nn.ModuleList([nn.Linear(24, 24), nn.Linear(24, 24)])
        self.nothing = nn.Linear(1, 24)
        self.nothing.weight = nn.Parameter(torch.zeros(24, 0))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        chosen = [torch.ones(len(x)).bool(), torch.zeros(len(x)).bool()]
        h = torch.cat([expert(h[rows]) for expert, rows in zip(self.experts, chosen, strict=True)])
        logits: Tensor = self.out(torch.tanh(h + self.nothing(x[:, :0])))
        return logits


@pytest.mark.parametrize("tau", [1.0, 0.99, "auto"])
def test_no_rows_and_no_columns_at_all(tau: Any) -> None:
    report = climb(Routed(), tau=tau)
    assert report.outcome in (Outcome.MOVED, Outcome.CAP_REACHED)
    assert reasons(report)["experts.1"] == "no gradient in its null space"
    assert reasons(report)["nothing"] == "not a linear layer: frozen"
    assert report.num_steps > 0


@pytest.mark.parametrize("tau", [1.0, 0.99])
def test_what_runs_under_vmap_is_no_linear_map_at_work(tau: float) -> None:
    def again(net: Net, h: Tensor) -> Tensor:
        mapped: Tensor = torch.func.vmap(net.mid)(h)
        return mapped[:, :3]

    report = climb(Net(again), tau=tau)
    assert reasons(report)["mid"] == ELSEWHERE
    assert reasons(report)["out"] == ""
