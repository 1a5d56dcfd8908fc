"""The randomised factorisation holds what it says, is hardly longer than the exact one, and cheaper when warm."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from teleport_engine import FixedStep, Subspace
from teleport_engine.nullspace.factorise import AUTO_SIZE, Settings
from teleport_engine.nullspace.randomised import leading_vectors
from tests.teleport_engine import dense
from tests.teleport_engine.cases import mlp, teleporter_of


def decaying(n: int, d: int, decay: float, seed: int) -> Tensor:
    """[n, d] with energies that fall as i^-decay along random axes."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator)).Q
    scale = torch.arange(1, d + 1, dtype=torch.float64) ** (-decay / 2)
    rows: Tensor = torch.randn(n, d, dtype=torch.float64, generator=generator) * scale @ axes
    return rows


@settings(deadline=None, max_examples=30)
@given(
    d=st.integers(32, 160),
    decay=st.floats(1.5, 5.0),
    tau=st.sampled_from([0.5, 0.9, 0.99, 0.999]),
    seed=st.integers(0, 2**16),
)
def test_it_holds_the_share_asked_for_with_about_as_few_directions(d: int, decay: float, tau: float, seed: int) -> None:
    rows = decaying(2 * d, d, decay, seed)
    found = leading_vectors(rows.T @ rows, tau, max_share=1.0)
    exact = dense.rank(rows, tau)
    assert found is not None
    basis = found.vectors[:, : found.rank]
    assert torch.allclose(basis.T @ basis, torch.eye(found.rank, dtype=torch.float64), atol=1e-12)
    assert float((rows @ basis).square().sum() / rows.square().sum()) >= tau - 1e-12
    assert exact <= found.rank <= exact + max(1, exact // 20)


@pytest.mark.parametrize("seed", range(3))
def test_a_start_from_the_batch_before_saves_products(seed: int) -> None:
    rows = decaying(400, 200, 2.5, seed)
    cold = leading_vectors(rows.T @ rows, 0.99)
    assert cold is not None
    later = rows + 0.02 * decaying(400, 200, 2.5, seed + 10)
    gram = later.T @ later
    again, warm = leading_vectors(gram, 0.99), leading_vectors(gram, 0.99, cold.vectors[:, : cold.rank])
    assert again is not None
    assert warm is not None
    assert warm.num_products < again.num_products
    assert warm.rank <= again.rank + max(1, again.rank // 10)


def test_it_gives_up_where_too_many_directions_are_needed() -> None:
    rows = decaying(200, 100, 0.0, 0)
    assert leading_vectors(rows.T @ rows, 0.99) is None


def test_it_leaves_the_random_state_alone_and_repeats_itself() -> None:
    rows = decaying(200, 100, 3.0, 0)
    before = torch.get_rng_state()
    first, second = (leading_vectors(rows.T @ rows, 0.99) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert first is not None
    assert second is not None
    assert torch.equal(first.vectors, second.vectors)


@pytest.mark.parametrize("n", [40, 200])
def test_a_teleport_with_it_keeps_what_tau_says_and_starts_warm(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = mlp(64, 96, 96, 4, activation=nn.Tanh).double()
    inputs, targets = decaying(n, 64, 2.5, 0), torch.arange(n) % 4
    starts: list[bool] = []

    def count(gram: Tensor, tau: float, start: Tensor | None, share: float) -> object:
        starts.append(start is not None)
        return leading_vectors(gram, tau, start, share)

    monkeypatch.setattr("teleport_engine.nullspace.factorise.leading_vectors", count)
    options = {"tau": 0.99, "step": FixedStep(1e-6), "num_steps": 1}
    exact = teleporter_of(copy.deepcopy(model), nn.functional.cross_entropy, **options).teleport(inputs, targets)
    assert starts == []
    teleporter = teleporter_of(model, nn.functional.cross_entropy, factorisation="randomised", **options)
    report = teleporter.teleport(inputs, targets)
    assert starts == [False] * 3
    teleporter.teleport(inputs, targets)
    assert starts == [False] * 3 + [True] * 3
    for mine, other in zip(report.layers, exact.layers, strict=True):
        assert mine.rank is not None
        assert other.rank is not None
        assert other.rank <= mine.rank <= other.rank + max(1, other.rank // 20)


def test_auto_is_exact_where_that_is_cheaper() -> None:
    assert Settings(0.99, "auto").sketches(AUTO_SIZE)
    assert not Settings(0.99, "auto").sketches(AUTO_SIZE - 1)
    assert Settings(0.99, "randomised").sketches(AUTO_SIZE - 1)
    assert not Settings(1.0, "randomised").sketches(AUTO_SIZE)
    assert not Settings(0.99, "randomised", with_energies=True).sketches(AUTO_SIZE)


def test_the_curve_of_a_sketch_is_of_all_the_energy() -> None:
    found = Subspace(torch.eye(4)[:, :1], torch.tensor([3.0]), 0.7, energy=4.0)
    assert found.energy_curve().tolist() == [0.75]
    assert found.captured == 0.75
