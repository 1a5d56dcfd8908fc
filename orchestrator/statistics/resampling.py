"""Tests that flip signs, and the bootstrap where there are enough seeds for it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.statistics.multiplicity import ALPHA

if TYPE_CHECKING:
    from orchestrator.statistics.signed_rank import Floats

# Below this a bootstrap covers too rarely: BCa at 8 seeds covers .85 to .89 (docs/methodology.md).
MIN_BOOTSTRAP = 20
NUM_RESAMPLES = 4_000
MAX_FLIPPED = 16
CHUNK = 4_096


def sign_flip_p(values: Sequence[float]) -> float:
    """Test whether values are symmetric about 0 by their sum (Fisher 1935): exact up to 16 values.

    Args:
        values: ``[n]``, finite.

    Returns:
        The share of the ``2^n`` sign patterns whose sum is at least as far from 0; beyond 16 values of 65,536 drawn
        with a fixed seed, this one counted among them.
    """
    import numpy as np

    given = np.asarray(values, dtype=np.float64)
    observed = abs(given.sum()) * (1.0 - 1e-12)
    if len(given) > MAX_FLIPPED:
        rng = np.random.default_rng(0)
        signs = (rng.choice((-1.0, 1.0), size=(CHUNK, len(given))) for _ in range((1 << MAX_FLIPPED) // CHUNK))
        num_extreme = sum(int((np.abs(chunk @ given) >= observed).sum()) for chunk in signs)
        return (1 + num_extreme) / (1 + (1 << MAX_FLIPPED))
    sums = np.zeros(1)
    for value in given:
        sums = np.concatenate([sums - value, sums + value])
    return float(np.mean(np.abs(sums) >= observed))


def bca_interval(values: Sequence[float], alpha: float = ALPHA) -> tuple[float, float]:
    """Bound a mean by the bias-corrected and accelerated bootstrap (Efron 1987), with a fixed seed.

    Args:
        values: ``[n]``, finite, at least 20.
        alpha: one minus the confidence.

    Returns:
        The ends.

    Raises:
        ValueError: there are too few values.
    """
    import numpy as np

    given = np.asarray(values, dtype=np.float64)
    if len(given) < MIN_BOOTSTRAP:
        raise ValueError(f"values must hold at least {MIN_BOOTSTRAP} for a bootstrap, hold {len(given)}")
    drawn = np.random.default_rng(0).integers(0, len(given), size=(NUM_RESAMPLES, len(given)))
    means = np.sort(given[drawn].mean(axis=1))
    if means[0] == means[-1]:
        return float(means[0]), float(means[0])
    normal = statistics.NormalDist()
    # Half of what equals the estimate lies below it.
    below = float((means < given.mean()).mean() + (means <= given.mean()).mean()) / 2.0
    bias = normal.inv_cdf(min(max(below, 1.0 / NUM_RESAMPLES), 1.0 - 1.0 / NUM_RESAMPLES))
    acceleration = _acceleration(given)

    def end(tail: float) -> float:
        z = bias + normal.inv_cdf(tail)
        return float(np.quantile(means, normal.cdf(bias + z / (1.0 - acceleration * z))))

    return end(alpha / 2.0), end(1.0 - alpha / 2.0)


def _acceleration(values: Floats) -> float:
    """From the jackknife: a sixth of the skewness of the means that leave one out."""
    centred = (values - values.mean()) / (len(values) - 1)
    return float((centred**3).sum() / (6.0 * math.pow((centred**2).sum(), 1.5)))
