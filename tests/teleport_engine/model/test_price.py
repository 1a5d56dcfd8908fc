"""The counted price of a teleport: against torch's own count of operations, and how it grows."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from teleport_engine import FixedStep, Teleporter
from teleport_engine.model import Watch, WeightLayer, basis_work, find_layers, gradient_work, projection_work
from tests.teleport_engine.cases import CASES, make, teleporter_of


class Products(nn.Module):
    """One weight in a spelling of its own."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3))
        self.spelling = spelling

    def forward(self, rows: Tensor) -> Tensor:
        if self.spelling == "matmul":
            return rows @ self.weight
        if self.spelling == "addmm":
            return torch.addmm(torch.zeros(3), rows, self.weight)
        return torch.einsum("nd,do->no", rows, self.weight)


MODELS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(5, 3), (7, 5)),
    "tokens": (nn.Linear(5, 3), (2, 7, 5)),
    "convolution": (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 8, 8)),
    "strided": (nn.Conv2d(4, 6, (3, 2), stride=2, dilation=(1, 2), padding="valid"), (2, 4, 9, 8)),
    "one sample": (nn.Conv1d(4, 6, 3), (4, 9)),
    **{spelling: (Products(spelling), (7, 5)) for spelling in ("matmul", "addmm", "einsum")},
}


@pytest.mark.parametrize("name", MODELS)
def test_products_of_a_call_are_those_that_torch_counts(name: str) -> None:
    model, shape = MODELS[name]
    inputs = torch.randn(shape)
    [layer] = [one for one in find_layers(model) if isinstance(one, WeightLayer)]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs)
    watch = Watch([layer], is_census=True)
    with watch:
        model(inputs)
    [[use]] = watch.uses
    assert 2 * use.num_products(layer.weight) == counter.get_total_flops()


def test_groups_of_a_convolution_multiply_their_own_channels_alone() -> None:
    model = nn.Conv2d(4, 6, 3, groups=2)
    [layer] = [one for one in find_layers(model) if isinstance(one, WeightLayer)]
    with Watch([layer], is_census=True) as watch:
        model(torch.randn(2, 4, 5, 5))
    [[use]] = watch.uses
    assert use.num_products(layer.weight) == 2 * 3 * 3 * (6 * 2 * 3 * 3), "samples, places, weights"


def test_a_layer_that_passes_no_gradient_on_costs_a_product_less() -> None:
    model = nn.Linear(5, 3)
    [layer] = [one for one in find_layers(model) if isinstance(one, WeightLayer)]
    with Watch([layer], is_census=True) as watch:
        model(torch.randn(7, 5))
    [[use]] = watch.uses
    whole, less = (gradient_work([(use, layer.weight, is_passed_on)]) for is_passed_on in (True, False))
    assert whole - less == 7 * 5 * 3


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 3000))
def test_more_rows_directions_or_energies_never_cost_less(num_rows: int, dim: int, rank: int) -> None:
    rank = min(rank, num_rows, dim)
    work = basis_work(num_rows, dim, rank, 0)
    assert 0.0 < work <= basis_work(num_rows + 1, dim, rank, 0) or num_rows + 1 == dim
    some, more = (basis_work(num_rows, dim, rank, num) for num in (1, min(num_rows, dim)))
    assert 0.0 < some <= more
    assert projection_work(num_rows, dim, rank) <= projection_work(num_rows, dim, rank + 1)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_teleport_counts_the_same_wherever_it_runs(name: str) -> None:
    case = make(name)
    options: dict[str, Any] = {"step": FixedStep(1e-6), "num_steps": 2}
    first, second = (
        teleporter_of(copy.deepcopy(case.model), case.loss_fn, **options).teleport(case.inputs, case.targets)
        for _ in range(2)
    )
    assert first.num_gradient_evaluations == second.num_gradient_evaluations


def test_a_sample_of_more_batches_costs_more() -> None:
    case = make("tanh")
    sample = [case.inputs, torch.randn_like(case.inputs)]
    alone, more = (
        teleporter_of(copy.deepcopy(case.model), case.loss_fn).teleport(case.inputs, case.targets, subspace=subspace)
        for subspace in (None, sample)
    )
    assert more.num_gradient_evaluations > alone.num_gradient_evaluations


def test_factorisations_and_projections_are_in_the_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide layer and few samples: the basis is most of the price, and a projection some of a step's."""

    def prices() -> tuple[float, float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 4))
        teleporter = Teleporter(model, nn.functional.cross_entropy, tau=0.99, step=FixedStep(1e-6), num_steps=1)
        report = teleporter.teleport(torch.randn(64, 8), torch.arange(64) % 4)
        return report.num_gradient_evaluations, report.trace[0].num_gradient_evaluations

    whole, of_step = prices()
    monkeypatch.setattr("teleport_engine.objective.problem.Problem.spend", lambda self, work: None)
    passes, of_passes = prices()
    assert whole > 1.5 * passes
    assert of_passes < of_step < 2.0 * of_passes
