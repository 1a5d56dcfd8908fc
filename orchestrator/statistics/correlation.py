"""Spearman's rank correlation, without scipy's second of import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Correlate the ranks of two series, ties sharing the mean of theirs (Spearman 1904).

    Args:
        xs: ``[n]``, n at least 2; may be infinite.
        ys: ``[n]``.

    Returns:
        The coefficient in [-1, 1]; None where one side is constant and has no order.
    """
    import numpy as np

    from orchestrator.statistics.signed_rank import doubled_midranks

    ranks = np.stack([doubled_midranks(np.asarray(side, dtype=np.float64)) for side in (xs, ys)])
    if not np.ptp(ranks, axis=1).all():
        return None
    matrix: Any = np.corrcoef(ranks)
    return float(matrix[0, 1])
