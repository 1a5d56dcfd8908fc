"""Eigenvalues and eigenvectors of Gram matrices."""

import torch
from torch import Tensor

__all__ = ["eigenpairs", "eigenvalues"]


def eigenpairs(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of Gram matrices, whatever LAPACK makes of them.

    Its divide and conquer gives up now and then on a matrix with many equal eigenvalues, as the Gram matrix of fewer
    samples than inputs is (seen on patches, d = 576, N = 256). The singular vectors of a positive semidefinite matrix
    are its eigenvectors, by another algorithm.

    Args:
        gram: `[..., d, d]`, symmetric and positive semidefinite to rounding, finite.

    Returns:
        Eigenvalues `[..., d]`, smallest first, and eigenvectors `[..., d, d]`, as columns.
    """
    try:
        values, vectors = torch.linalg.eigh(gram)
    except RuntimeError:  # torch's LinAlgError, which it does not export
        vectors, values, _ = torch.linalg.svd(gram)
        values, vectors = values.flip(-1), vectors.flip(-1)
    return values, vectors


def eigenvalues(gram: Tensor) -> Tensor:
    """Eigenvalues alone, whatever LAPACK makes of the matrices, at a fraction of the price of `eigenpairs`.

    Args:
        gram: `[..., d, d]`, symmetric and positive semidefinite to rounding, finite.

    Returns:
        `[..., d]`, smallest first.
    """
    try:
        values: Tensor = torch.linalg.eigvalsh(gram)
    except RuntimeError:
        values = torch.linalg.svdvals(gram).flip(-1)
    return values
