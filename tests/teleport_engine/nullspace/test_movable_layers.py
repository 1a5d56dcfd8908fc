"""Which layers can move: skipped, without null space, without ascent; and the subspace sample (A5, A6, C5)."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from teleport_engine import FixedStep, GrowthStep, Options, Outcome, Subspace, Teleporter
from teleport_engine.nullspace.factorise import subspaces
from teleport_engine.nullspace.gram import Gram
from tests.teleport_engine import dense
from tests.teleport_engine.cases import make, mlp, moved_names, outputs_of


def test_first_layer_cannot_move_at_tau_1_and_is_never_factorised(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make("tanh")
    calls: list[tuple[int, ...]] = []

    def count(gram: Gram, *rest: Any) -> list[Subspace]:
        calls.append(tuple(gram.rows.shape if gram.rows is not None else (gram.num_rows,)))
        return real(gram, *rest)

    real = subspaces
    monkeypatch.setattr("teleport_engine.nullspace.layer_sample.subspaces", count)
    report = Teleporter(case.model, case.loss_fn, step=FixedStep(1e-3)).teleport(case.inputs, case.targets)
    assert calls == [(1, 8, 32), (1, 8, 32)], "one for each layer that can move, per batch"
    first = report.layers[0]
    assert (first.name, first.rank, first.null_dim, first.moved) == ("0", None, None, False)
    assert first.reason == "input is fixed"
    calls.clear()
    first = (
        Teleporter(case.model, case.loss_fn, tau=0.9, step=FixedStep(1e-6))
        .teleport(case.inputs, case.targets)
        .layers[0]
    )
    assert len(calls) == 3
    assert first.moved


def test_inputs_that_carry_a_graph_are_cut_off_from_it() -> None:
    case = make("tanh")
    source = case.inputs.clone().requires_grad_()
    report = Teleporter(case.model, case.loss_fn, step=GrowthStep(1.1)).teleport(2.0 * source, case.targets)
    assert report.layers[0].reason == "input is fixed"
    assert source.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_narrow_layers_have_no_null_space_and_nothing_moves(dtype: torch.dtype) -> None:
    model = mlp(784, 16, 10, 10, activation=nn.Tanh).to(dtype)
    before = copy.deepcopy(model.state_dict())
    inputs, targets = torch.randn(200, 784, dtype=dtype), torch.arange(200) % 10
    report = Teleporter(model, nn.functional.cross_entropy).teleport(inputs, targets)
    assert report.outcome is Outcome.NO_NULL_SPACE
    assert [(layer.null_dim, layer.reason) for layer in report.layers[1:]] == [(0, "no null space")] * 2
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert report.num_steps == 0
    assert report.loss_after == report.loss_before
    assert report.grad_norm_after == report.grad_norm_before > 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("route", ["auto", "double_backward"])
def test_dead_units_are_null_dimensions_without_ascent(dtype: torch.dtype, route: Any) -> None:
    # The frozen square layer turns the dead axes, so that what is left of a direction is rounding, not exactly zero.
    turn = nn.Linear(16, 16, bias=False).requires_grad_(False)
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), turn, nn.Linear(16, 10)).to(dtype)
    with torch.no_grad():
        model.get_parameter("0.bias")[:5] = -1e3
    before = copy.deepcopy(model.state_dict())
    inputs, targets = torch.randn(60, 20, dtype=dtype), torch.arange(60) % 10
    report = Teleporter(model, nn.functional.cross_entropy, Options(route=route)).teleport(inputs, targets)
    assert report.outcome is Outcome.NO_ASCENT
    assert (report.layers[-1].null_dim, report.layers[-1].reason) == (5, "no gradient in its null space")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class TestSubspaceSample:
    def test_an_input_that_turns_out_to_be_fixed_is_said_to_be(self) -> None:
        torch.manual_seed(0)
        model = mlp(40, 32, 4, activation=nn.Tanh).double()
        inputs, targets = torch.randn(6, 40).double(), torch.arange(6) % 4
        more = torch.cat([inputs, torch.randn(3, 40).double()])
        report = Teleporter(model, nn.functional.cross_entropy, step=GrowthStep(1.1)).teleport(
            inputs, targets, subspace=more
        )
        first, second = report.layers
        assert (first.reason, first.rank, first.moved, second.moved) == ("input is fixed", 9, False, True)

    def test_a_sample_that_holds_the_batch_is_exact_and_keeps_more(self) -> None:
        case = make("tanh")
        more = torch.cat([case.inputs, torch.randn(10, 6).double()])
        before = outputs_of(case.model, more)
        report = Teleporter(case.model, case.loss_fn, step=GrowthStep(1.3)).teleport(
            case.inputs, case.targets, subspace=more
        )
        assert (report.outcome, report.route) == (Outcome.MOVED, "jvp")
        assert report.layers[1].rank == 18
        assert report.layers[0].reason == "no null space"
        assert float((outputs_of(case.model, more) - before).abs().max()) <= 1e-10

    def test_a_sample_without_the_batch_takes_the_double_backward(self) -> None:
        case = make("tanh")
        other = torch.randn(5, 6).double()
        before = outputs_of(case.model, other)
        teleporter = Teleporter(case.model, case.loss_fn, step=GrowthStep(1.3), num_steps=2)
        report = teleporter.teleport(case.inputs, case.targets, subspace=other)
        assert (report.outcome, report.route) == (Outcome.MOVED, "double_backward")
        assert moved_names(report) == {"0", "2", "4"}
        assert abs(report.loss_drift) > 1e-6
        assert float((outputs_of(case.model, other) - before).abs().max()) <= 1e-10

    def test_its_direction_is_that_of_the_dense_twin(self) -> None:
        case = make("tanh")
        other = torch.randn(5, 6).double()
        directions = Teleporter(case.model, case.loss_fn).direction(case.inputs, case.targets, subspace=other)
        rows = dense.linear_rows(case.model, other)
        parameters = dict(case.model.named_parameters())
        wanted: list[Any] = [parameters[f"{layer}.weight"] for layer in rows]
        full = dense.half_square_norm_gradient(case.model, case.loss_fn, case.inputs, case.targets, wanted)
        for (layer, of_layer), part in zip(rows.items(), full, strict=True):
            expected = part @ dense.projector(of_layer, 1.0)
            assert float((directions[f"{layer}.weight"] - expected).norm()) <= 1e-10 * float(part.norm())

    def test_the_batch_itself_is_no_other_sample(self) -> None:
        case = make("tanh")
        report = Teleporter(case.model, case.loss_fn, step=GrowthStep(1.3)).teleport(
            case.inputs, case.targets, subspace=case.inputs
        )
        assert report.layers[0].rank is None
        assert report.route == "jvp"
