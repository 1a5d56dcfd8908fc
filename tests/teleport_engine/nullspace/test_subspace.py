import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from teleport_engine import Subspace
from teleport_engine.nullspace.subspace import tail_rank
from tests.teleport_engine import dense


def rows_of_rank(n: int, d: int, rank: int, condition: float, seed: int) -> Tensor:
    """[n, d] with `rank` singular values from 1 down to 1 / condition."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(n, rank, dtype=torch.float64, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(d, rank, dtype=torch.float64, generator=generator)).Q
    sigma = torch.logspace(0.0, -math.log10(condition), rank, dtype=torch.float64)
    rows: Tensor = left @ torch.diag(sigma) @ right.T
    return rows


samples = st.builds(
    lambda n, d, share, seed: rows_of_rank(n, d, max(1, int(share * min(n, d))), 30.0, seed),
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0.0, 1.0),
    st.integers(0, 2**16),
)
taus = st.sampled_from([1.0, 0.9999, 0.99, 0.9, 0.5, 0.01])


@settings(deadline=None, max_examples=60)
@given(rows=samples, tau=taus)
def test_basis_is_orthonormal_and_has_the_rank_of_the_twin(rows: Tensor, tau: float) -> None:
    subspace = Subspace.from_rows(rows, tau)
    gram = subspace.basis.T @ subspace.basis
    assert torch.allclose(gram, torch.eye(subspace.rank, dtype=torch.float64), atol=1e-12)
    assert subspace.rank == dense.rank(rows, tau)
    assert subspace.rank + subspace.null_dim == subspace.dim == rows.shape[1]
    twin = dense.projector(rows, tau)
    mine = torch.eye(subspace.dim, dtype=torch.float64) - subspace.basis @ subspace.basis.T
    assert float((mine - twin).norm()) <= 1e-8


@settings(deadline=None, max_examples=40)
@given(rows=samples, low=taus, high=taus)
def test_rank_is_monotone_in_tau(rows: Tensor, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert Subspace.from_rows(rows, low).rank <= Subspace.from_rows(rows, high).rank


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [64, 100, 256])
@pytest.mark.parametrize("n", [200, 300, 700])
def test_true_rank_is_found_at_condition_1e3(rank: int, n: int, dtype: torch.dtype) -> None:
    rank = min(rank, n)
    rows = rows_of_rank(n, 300, rank, 1e3, seed=rank).to(dtype)
    subspace = Subspace.from_rows(rows, 1.0)
    assert subspace.rank == rank
    assert subspace.leak(rows) <= (1e-10 if dtype == torch.float64 else 5e-7)


@pytest.mark.parametrize(("n", "d"), [(40, 60), (60, 40), (200, 40)])
@pytest.mark.parametrize("condition", [1e1, 1e3, 1e6, 1e9])
def test_nothing_leaks_at_tau_1_even_where_the_gram_matrix_is_blind(n: int, d: int, condition: float) -> None:
    rows = rows_of_rank(n, d, 30, condition, seed=1)
    subspace = Subspace.from_rows(rows, 1.0)
    assert subspace.rank == 30
    assert subspace.leak(rows) <= 1e-10
    gap = subspace.basis.T @ subspace.basis - torch.eye(30, dtype=torch.float64)
    assert float(gap.abs().max()) <= 1e-12


@pytest.mark.parametrize(("n", "d"), [(20, 30), (30, 20)])
def test_energies_and_complement_agree_with_the_svd(n: int, d: int) -> None:
    rows = torch.randn(n, d, dtype=torch.float64)
    subspace = Subspace.from_rows(rows, 0.9)
    assert torch.allclose(subspace.energies, torch.from_numpy(dense.energies(rows)), rtol=1e-10)
    curve = subspace.energy_curve()
    assert float(curve[subspace.rank - 1]) >= 0.9 > float(curve[subspace.rank - 2])
    if subspace.complement is not None:
        frame = torch.cat([subspace.basis, subspace.complement], dim=1)
        assert torch.allclose(frame.T @ frame, torch.eye(d, dtype=torch.float64), atol=1e-12)
        assert 2 * subspace.rank > d


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6])
def test_basis_of_few_rows_is_orthonormal_close_to_tau_1(condition: float) -> None:
    subspace = Subspace.from_rows(rows_of_rank(20, 40, 20, condition, seed=2), 1.0 - 1e-12)
    gap = subspace.basis.T @ subspace.basis - torch.eye(subspace.rank, dtype=torch.float64)
    assert float(gap.abs().max()) <= 1e-12


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 30),
    more=st.integers(1, 30),
    exponent=st.floats(0.0, 9.0),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**16),
)
def test_a_basis_without_energies_is_that_of_the_svd_at_any_condition(
    n: int, more: int, exponent: float, dtype: torch.dtype, seed: int
) -> None:
    """Well conditioned rows are solved for; the others fall back, and nothing is wrong in silence."""
    rows = rows_of_rank(n, n + more, n, 10.0**exponent, seed).to(dtype)
    found = Subspace.from_rows(rows, 1.0, with_energies=False)
    whole = Subspace.from_rows(rows, 1.0)
    assert found.rank == whole.rank
    assert found.leak(rows) <= 1e-10 if dtype == torch.float64 else 5e-7
    eye = torch.eye(found.rank, dtype=torch.float64)
    assert torch.allclose(found.basis.T @ found.basis, eye, atol=1e-12)
    assert found.captured == pytest.approx(1.0)
    assert found.null_dim == n + more - found.rank


def test_rows_that_depend_on_each_other_are_not_solved_for() -> None:
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    twice = torch.cat([rows, rows[:1]])
    found = Subspace.from_rows(twice, 1.0, with_energies=False)
    assert (found.rank, len(found.energies)) == (3, 4)
    assert len(Subspace.from_rows(rows, 1.0, with_energies=False).energies) == 0


def test_no_energy_is_rank_zero() -> None:
    subspace = Subspace.from_rows(torch.zeros(5, 3), 1.0)
    assert (subspace.rank, subspace.null_dim) == (0, 3)
    assert subspace.energy_curve().tolist() == [0.0, 0.0, 0.0]
    assert subspace.leak(torch.zeros(2, 3)) == 0.0
    assert tail_rank(torch.zeros(0), 1.0) == 0


@pytest.mark.parametrize("true", [64, 256, 500])
def test_rounding_does_not_decide_the_rank(true: int) -> None:
    values = torch.cat([torch.logspace(0, -6, true, dtype=torch.float64), torch.full((284,), 1e-17).double()])
    assert tail_rank(values, 1.0) == true


@pytest.mark.parametrize("tau", [0.0, -0.1, 1.1, float("nan")])
def test_tau_outside_its_range_is_refused(tau: float) -> None:
    with pytest.raises(ValueError, match=r"tau must lie in \(0, 1\], got"):
        Subspace.from_rows(torch.eye(3), tau)


def test_rows_that_are_no_matrix_or_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match=r"matrix \[N, d\], got shape \(2, 3, 4\)"):
        Subspace.from_rows(torch.zeros(2, 3, 4), 1.0)
    with pytest.raises(ValueError, match="must be finite"):
        Subspace.from_rows(torch.tensor([[1.0, float("nan")]]), 1.0)
