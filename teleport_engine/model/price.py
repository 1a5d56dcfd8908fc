"""What the parts of a teleport cost, in gradients of the objective batch: one forward and one backward.

Passes through the model have fixed prices. Factorisations and projections are counted by their operations, and so is
the gradient that they are compared with. The unit of work is one multiply-add of a float32 matrix product at full speed
of a processor. The constants were fitted to processor times of the networks in `benchmarks/engine.py`, which compares
counted and measured prices anew; they are numbers in this file, so that a price never depends on the machine or on
what else it does.
"""

from collections.abc import Iterable

from torch import Tensor

from teleport_engine.model.linear_maps import Use

__all__ = [
    "BACKWARD",
    "FORWARD",
    "HESSIAN_PRODUCT",
    "SECOND_BACKWARD",
    "SURVEY_WORK",
    "TANGENT",
    "THIRD_BACKWARD",
    "basis_work",
    "gradient_work",
    "projection_work",
]

FORWARD = 1.0 / 3.0
"""A forward without a graph, on as many samples as the batch."""
BACKWARD = 2.0 / 3.0
"""A backward of the loss, to all trainable parameters."""
TANGENT = 1.7
"""A forward-mode pass: twice the products of a forward, and twice the memory traffic."""
SECOND_BACKWARD = 2.6
"""A backward through the gradient."""
THIRD_BACKWARD = 4.0
"""A backward through a product with the Hessian."""
HESSIAN_PRODUCT = 2.0
"""A product with the Hessian."""

# Work of what is no product of matrices in float32.
_OUTPUT = 420.0  # for each number that a layer gives: activation, norm, pooling, and their derivatives
_CALL = 2.8e6  # for each call of a layer
_DOUBLE = 2.4  # a multiply-add in float64
_TRIANGLE = 0.65  # of a Gram matrix, the share that is computed where it is wide
_WIDE = 256  # columns of a wide one
_EIGEN, _EIGEN_SIDE = 9.0, 3200.0  # of an eigendecomposition: for d^3, and for d^2
_SKETCH = 20.0  # of a sketch of a few eigenvectors: for d^2, each
_CHOLESKY = 1.2  # of a Cholesky factorisation: for d^3
_BASIS = 1.5e7  # for each factorisation, however small
_STEP = 2.0e6  # for each projection, however small
SURVEY_WORK = 1.2e8
"""Work of a teleport, however small the model: watching its calls, looking after its state, reporting."""


def gradient_work(calls: Iterable[tuple[Use, Tensor, bool]]) -> float:
    """Counts the work of one gradient by the linear maps in it.

    Args:
        calls: each call of a linear map with its weight, and whether a gradient flows to its inputs.
    """
    work = 0.0
    for use, weight, is_passed_on in calls:
        num_products = use.num_products(weight)
        num_outputs = num_products / max(1, weight[0].numel())
        work += (3 if is_passed_on else 2) * num_products + _OUTPUT * num_outputs + _CALL
    return work


def basis_work(num_rows: int, dim: int, rank: int, num_energies: int) -> float:
    """Counts the work of one subspace of `N` rows in `d` dimensions.

    Args:
        num_rows: `N`, as many as were read.
        dim: `d`.
        rank: `k` of the subspace found.
        num_energies: how many eigenvalues were found on the way; 0 where a Cholesky factorisation told enough.
    """
    small = min(num_rows, dim)
    work = _DOUBLE * num_rows * dim * small
    if num_rows >= dim >= _WIDE:
        work *= _TRIANGLE
    if num_energies:
        work += min(_EIGEN * small**3 + _EIGEN_SIDE * small**2, _SKETCH * small**2 * num_energies)
        if num_rows < dim:  # the vectors of the larger side, made orthonormal
            work += _DOUBLE * (num_rows * dim * rank + 1.5 * dim * rank**2)
    else:
        work += _CHOLESKY * small**3
        if num_rows < dim:  # a triangular solve and a Newton step
            work += _DOUBLE * 3.0 * num_rows**2 * dim
    return work + _BASIS


def projection_work(num_rows: int, dim: int, width: int) -> float:
    """Counts the work of projecting `N` rows of `d` numbers by a frame of so many columns."""
    return 2.0 * num_rows * dim * width + _STEP
