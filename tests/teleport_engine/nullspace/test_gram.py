"""Inputs added up part by part are what they are in one piece (A8, and A2 for streamed inputs)."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from teleport_engine.nullspace.factorise import Settings, from_triangle, subspaces
from teleport_engine.nullspace.gram import Gram, Triangle
from tests.teleport_engine import dense
from tests.teleport_engine.nullspace.test_subspace import rows_of_rank


def pieces(rows: Tensor, sizes: list[int]) -> list[Tensor]:
    """[b, N, d] cut into parts of the given sizes, in turn."""
    found: list[Tensor] = []
    start = 0
    while start < rows.shape[1]:
        size = sizes[len(found) % len(sizes)]
        found.append(rows[:, start : start + size])
        start += size
    return found


def streamed(rows: Tensor, sizes: list[int]) -> Gram:
    gram = Gram()
    for part in pieces(rows, sizes):
        gram.add(part)
    return gram


@settings(deadline=None, max_examples=50)
@given(
    blocks=st.integers(1, 3),
    n=st.integers(1, 40),
    d=st.integers(1, 20),
    share=st.floats(0.0, 1.0),
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    tau=st.sampled_from([1.0, 0.999, 0.9, 0.5]),
    seed=st.integers(0, 2**16),
)
def test_parts_of_any_size_give_the_subspaces_of_the_whole(
    blocks: int, n: int, d: int, share: float, sizes: list[int], tau: float, seed: int
) -> None:
    rank = max(1, int(share * min(n, d)))
    rows = torch.stack([rows_of_rank(n, d, rank, 30.0, seed + block) for block in range(blocks)])
    gram = streamed(rows, sizes)
    assert gram.num_rows == n
    assert (gram.rows is None) == (n >= d), "the rows are let go as soon as there are as many as columns"
    assert torch.allclose(gram.energy, rows.square().sum((1, 2)))
    for found, block in zip(subspaces(gram, Settings(tau)), rows, strict=True):
        assert found.rank == dense.rank(block, tau)
        mine = torch.eye(d, dtype=torch.float64) - found.basis @ found.basis.T
        assert float((mine - dense.projector(block, tau)).norm()) <= 1e-8
        assert found.captured >= tau - 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [64, 100, 256])
@settings(deadline=None, max_examples=3)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=3))
def test_true_rank_is_found_at_condition_1e3_in_parts(dtype: torch.dtype, rank: int, sizes: list[int]) -> None:
    rows = rows_of_rank(400, 300, rank, 1e3, seed=rank).to(dtype)[None]
    (found,) = subspaces(streamed(rows, sizes), Settings(1.0))
    assert found.rank == rank
    gap = found.basis.T @ found.basis - torch.eye(rank, dtype=torch.float64)
    assert float(gap.abs().max()) <= 1e-12
    assert found.leak(rows[0]) <= (1e-10 if dtype == torch.float64 else 5e-7)


@pytest.mark.parametrize("condition", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("sizes", [[1000], [7, 64], [40]])
def test_the_triangle_sees_what_the_gram_matrix_cannot(condition: float, sizes: list[int]) -> None:
    rows = rows_of_rank(200, 40, 30, condition, seed=1)[None]
    triangle = Triangle()
    for part in pieces(rows, sizes):
        triangle.add(part)
    assert torch.allclose(triangle.factor.mT @ triangle.factor, rows.mT @ rows, atol=1e-14)
    (found,) = from_triangle(triangle, 1.0)
    assert found.rank == 30
    assert found.leak(rows[0]) <= 1e-10
    (blind,) = subspaces(streamed(rows, sizes), Settings(1.0))
    assert (blind.rank == 30) == (condition <= 1e6)


@settings(deadline=None, max_examples=50)
@given(
    n=st.integers(8, 40), d=st.integers(1, 8), factor=st.sampled_from([1e-6, 0.5, 0.99, 1.01, 3.0]), seed=st.integers(0)
)
def test_a_bound_is_proven_exactly_where_it_holds(n: int, d: int, factor: float, seed: int) -> None:
    rows = rows_of_rank(n, d, d, 10.0, seed % 2**16)[None]
    gram = streamed(rows, [n])
    least = dense.energies(rows[0])[-1]
    assert gram.exceeds(factor * float(least)) == (factor < 1.0)
    assert (gram.proof > 0.0) == (factor < 1.0)


def test_full_rank_is_seen_without_an_eigenvalue(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("eigenvalues were taken")

    monkeypatch.setattr(torch.linalg, "eigh", refuse)
    monkeypatch.setattr(torch.linalg, "eigvalsh", refuse)
    found = subspaces(streamed(torch.randn(300, 50, 9), [50]), Settings(1.0))
    assert [one.null_dim for one in found] == [0] * 300
    assert torch.equal(found[0].basis.T @ found[0].basis, torch.eye(9, dtype=torch.float64))


def test_many_small_blocks_are_one_factorisation(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def count(matrix: Tensor) -> Any:
        shapes.append(tuple(matrix.shape))
        return real(matrix)

    real = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", count)
    rows = torch.randn(300, 50, 9)
    rows[::3, :, 4:] = 0.0
    found = subspaces(streamed(rows, [20]), Settings(1.0))
    assert shapes == [(300, 9, 9)]
    assert [one.rank for one in found] == [4, 9, 9] * 100


@pytest.mark.parametrize(("first", "second"), [((1, 2, 3), (1, 2, 4)), ((1, 5, 3), (2, 5, 3))])
def test_parts_that_do_not_go_together_are_refused(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    gram = Gram()
    gram.add(torch.zeros(first))
    with pytest.raises(ValueError, match="does not go with"):
        gram.add(torch.zeros(second))
    with pytest.raises(ValueError, match=r"must be \[b, m, d\], got shape \(2, 3\)"):
        gram.add(torch.zeros(2, 3))
