"""Exact intervals of shares, sign-flip tests, and the bootstrap where there are enough seeds for it."""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from orchestrator.statistics.censored import Pair
from orchestrator.statistics.multiplicity import ALPHA

if TYPE_CHECKING:
    from orchestrator.statistics.signed_rank import Floats

# With fewer values a bootstrap interval covers too rarely: BCa at 8 seeds covers .85 to .89 (docs/methodology.md).
MIN_BOOTSTRAP = 20
NUM_RESAMPLES = 4_000
MAX_FLIPPED = 16
CHUNK = 4_096


@cache
def share_interval(num_hits: int, num_in_doubt: int, num_all: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a probability (Clopper and Pearson 1934).

    A report asks for the same few intervals again and again, and each takes scipy milliseconds.

    Args:
        num_hits: how often the event certainly happened.
        num_in_doubt: how often it may have happened: the lower end counts none of these, the upper end all.
        num_all: how often it could have happened.

    >>> [round(end, 4) for end in share_interval(7, 0, 8)]
    [0.4735, 0.9968]
    """
    from scipy.stats import binomtest

    least, most = (
        binomtest(hits, num_all).proportion_ci(1.0 - ALPHA, "exact") for hits in (num_hits, num_hits + num_in_doubt)
    )
    return float(least.low), float(most.high)


def probability_of_improvement(pairs: Sequence[Pair], *, higher_is_better: bool = False) -> tuple[float, float, float]:
    """Estimate how often the arm beats the baseline on the same seed; a tie counts half.

    Unlike rliable's estimate (Agarwal et al. 2021) it is paired, because the arms share seeds here.

    Args:
        pairs: at least one.
        higher_is_better: whether the larger value is the better one.

    Returns:
        The share, and the ends of its 95 % interval. The lower end counts no tie as a win, the upper end every tie.
    """
    ties = sum(pair.is_tie for pair in pairs)
    is_better = operator.gt if higher_is_better else operator.lt
    wins = sum(is_better(pair.arm.value, pair.baseline.value) for pair in pairs)
    return (wins + 0.5 * ties) / len(pairs), *share_interval(wins, ties, len(pairs))


def sign_flip_p(values: Sequence[float]) -> float:
    """Test by their sum whether finite values are symmetric about 0 (Fisher 1935).

    The p-value is the share of the ``2^n`` sign patterns whose sum is at least as far from 0 as the observed sum. It is
    exact up to 16 values; beyond, 65,536 patterns are drawn from a fixed seed and the observed one is added to them.
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


def bca_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of finite values by the BCa bootstrap (Efron 1987) with a fixed seed.

    Raises:
        ValueError: there are fewer than 20 values.
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
    # Of the means that equal the estimate, half count as below it.
    below = float((means < given.mean()).mean() + (means <= given.mean()).mean()) / 2.0
    bias = normal.inv_cdf(min(max(below, 1.0 / NUM_RESAMPLES), 1.0 - 1.0 / NUM_RESAMPLES))
    acceleration = _acceleration(given)

    def end(tail: float) -> float:
        z = bias + normal.inv_cdf(tail)
        return float(np.quantile(means, normal.cdf(bias + z / (1.0 - acceleration * z))))

    return end(ALPHA / 2.0), end(1.0 - ALPHA / 2.0)


def _acceleration(values: Floats) -> float:
    """Return a sixth of the skewness of the jackknife means, each of which leaves one value out.

    They are as far from their mean as the values are from theirs, but for a factor that cancels.
    """
    centred = values - values.mean()
    return float((centred**3).sum() / (6.0 * math.pow((centred**2).sum(), 1.5)))
