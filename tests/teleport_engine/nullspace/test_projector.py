import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from teleport_engine import Subspace
from teleport_engine.nullspace.projector import BlockProjector
from tests.teleport_engine import dense
from tests.teleport_engine.nullspace.test_subspace import rows_of_rank


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 25),
    d=st.integers(1, 25),
    tau=st.sampled_from([1.0, 0.99, 0.7]),
    seed=st.integers(0, 2**16),
)
def test_it_is_the_orthogonal_projection_of_the_dense_twin(n: int, d: int, tau: float, seed: int) -> None:
    rows = rows_of_rank(n, d, min(n, d), 10.0, seed)
    projector = BlockProjector([Subspace.from_rows(rows, tau)], torch.float64)
    P = projector.project(torch.eye(d, dtype=torch.float64)[None])[0]
    assert torch.allclose(P, P.T, atol=1e-12)
    assert torch.allclose(P @ P, P, atol=1e-12)
    assert torch.allclose(P, dense.projector(rows, tau), atol=1e-10)
    if tau == 1.0:
        assert float((P @ rows.T).norm()) <= 1e-10 * float(rows.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_answers_in_the_precision_of_the_weight(dtype: torch.dtype) -> None:
    subspace = Subspace.from_rows(torch.randn(4, 9), 1.0)
    matrix = torch.randn(3, 9, dtype=dtype)
    projected = BlockProjector([subspace], dtype).project(matrix[None])[0]
    assert projected.dtype == dtype
    twin = matrix.double() @ (torch.eye(9, dtype=torch.float64) - subspace.basis @ subspace.basis.T)
    assert torch.allclose(projected.double(), twin, atol=1e-6 if dtype == torch.float32 else 1e-13)


def test_blocks_of_different_rank_are_each_projected_by_their_own() -> None:
    rows = [rows_of_rank(8, 6, rank, 10.0, seed=rank) for rank in (1, 3, 5)]
    matrix = torch.randn(3, 4, 6, dtype=torch.float64)
    projected = BlockProjector([Subspace.from_rows(one, 1.0) for one in rows], torch.float64).project(matrix)
    for block, (own, found) in enumerate(zip(rows, projected, strict=True)):
        torch.testing.assert_close(found, matrix[block] @ dense.projector(own, 1.0), rtol=0.0, atol=1e-10)
