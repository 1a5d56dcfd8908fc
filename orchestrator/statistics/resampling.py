"""Tests that flip signs, and the bootstrap where there are enough seeds for it."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from orchestrator.statistics.censored import Pair
from orchestrator.statistics.multiplicity import ALPHA

if TYPE_CHECKING:
    from orchestrator.statistics.signed_rank import Floats


# Halvings of [0, 1]: beyond a float's own resolution nothing is gained.
NUM_HALVINGS = 50


def share_interval(
    num_hits: int, num_in_doubt: int, num_all: int, confidence: float = 1.0 - ALPHA
) -> tuple[float, float]:
    """Bound a probability (Clopper and Pearson 1934): exact, so that it covers at least as often as it says.

    Args:
        num_hits: times it happened for certain.
        num_in_doubt: times it may have happened: the lower end counts none of them, the upper end all.
        num_all: times it could have happened.
        confidence: at least this much.

    Returns:
        Lower and upper end.

    >>> [round(end, 4) for end in share_interval(7, 0, 8)]
    [0.4735, 0.9968]
    """
    tail = (1.0 - confidence) / 2.0
    most = num_hits + num_in_doubt
    low = 0.0 if num_hits == 0 else _root(lambda p: 1.0 - _at_most(num_hits - 1, num_all, p) > tail)
    high = 1.0 if most == num_all else _root(lambda p: _at_most(most, num_all, p) < tail)
    return low, high


def _at_most(num_hits: int, num_all: int, p: float) -> float:
    """The binomial distribution, by logarithms: its coefficients overflow beyond 1,029."""
    import numpy as np

    k = np.arange(num_hits + 1)
    return float(np.exp(_log_coefficients(num_all)[k] + k * math.log(p) + (num_all - k) * math.log1p(-p)).sum())


@functools.lru_cache(maxsize=16)
def _log_coefficients(num_all: int) -> Floats:
    import numpy as np

    log_factorials = [math.lgamma(k + 1.0) for k in range(num_all + 1)]
    return np.array([log_factorials[-1] - log_factorials[k] - log_factorials[num_all - k] for k in range(num_all + 1)])


def _root(is_beyond: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if is_beyond(middle) else (middle, high)
    return (low + high) / 2.0


def probability_of_improvement(pairs: Sequence[Pair], *, higher_is_better: bool = False) -> tuple[float, float, float]:
    """Estimate how often the arm beats the baseline on the same seed, a tie counting half.

    It is paired, unlike rliable's (Agarwal et al. 2021), since the arms share seeds here. The interval is of the
    wins, with no tie at its lower end and every tie at its upper one.

    Args:
        pairs: at least one.
        higher_is_better: of the values.

    Returns:
        The share in [0, 1], and the ends of its 95 % interval.
    """
    sign = -1.0 if higher_is_better else 1.0
    ties = sum(pair.is_tie for pair in pairs)
    wins = sum(sign * pair.arm.value < sign * pair.baseline.value for pair in pairs)
    return (wins + 0.5 * ties) / len(pairs), *share_interval(wins, ties, len(pairs))


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
