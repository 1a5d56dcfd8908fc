"""Measures of how far two or more workloads put settings in the same order: Spearman's rho, Kendall's tau and W."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from orchestrator.statistics.multiplicity import ALPHA
from orchestrator.statistics.resampling import MIN_BOOTSTRAP

if TYPE_CHECKING:
    from orchestrator.statistics.signed_rank import Floats

MAX_ARRANGEMENTS = 20_000
NUM_ARRANGEMENTS = 10_000
NUM_RESAMPLES = 2_000
# Two sums that differ by less than this differ only by rounding, and count as equal.
SLACK = 1e-9


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation of two series of at least two numbers, which may be infinite.

    The result is None where one of the series is constant and so has no order.
    """
    from scipy.stats import spearmanr

    if len(set(xs)) < 2 or len(set(ys)) < 2:
        return None
    return float(spearmanr(xs, ys).statistic)


@final
@dataclass(frozen=True)
class Concordance:
    """How far several judges agree on an order.

    Args:
        w: Kendall's coefficient with the correction for ties; 0 is no agreement and 1 is the same order.
        p: the share of all arrangements whose coefficient is at least as large as ``w``.
        method: ``exact`` counts every arrangement, ``permutation`` a random sample of them.
    """

    w: float
    p: float
    method: Literal["exact", "permutation"]


def concordance(costs: Sequence[Sequence[float]]) -> Concordance | None:
    """Compute Kendall's W (Kendall and Babington Smith 1939) from ``[judge, subject]`` costs.

    The result is None where a judge gives every subject the same cost.

    Raises:
        ValueError: there are fewer than two judges or fewer than two subjects.
    """
    import numpy as np

    ranks = _ranks(np.asarray(costs, dtype=np.float64))
    m, n = ranks.shape
    if min(m, n) < 2:
        raise ValueError(f"concordance takes at least two judges and two subjects, was given {m} and {n}")
    # Each judge's sum of squares is (n^3 - n) / 12 without ties, and smaller with ties.
    spread = ((ranks - (n + 1) / 2.0) ** 2).sum(axis=1)
    if not spread.all():
        return None
    observed = float(_deviations(ranks.sum(axis=0)))
    is_exact = n <= 7 and math.factorial(n) ** (m - 1) <= MAX_ARRANGEMENTS
    sums = _all_sums(ranks) if is_exact else _drawn_sums(ranks)
    num_extreme = int((_deviations(sums) >= observed - SLACK).sum())
    # A random sample counts the observed arrangement too, so that its p is never 0.
    p = num_extreme / len(sums) if is_exact else (1 + num_extreme) / (1 + len(sums))
    return Concordance(observed / float(m * spread.sum()), p, "exact" if is_exact else "permutation")


def rank_agreement(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Return Kendall's tau-b (1945) of two series of at least two numbers, or None where one of them is constant."""
    import numpy as np

    tau = float(_taus(*_signs(xs, ys), np.ones((1, len(xs))))[0])
    return None if math.isnan(tau) else tau


def rank_agreement_interval(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of Kendall's tau-b from a bootstrap over the subjects.

    The bootstrap draws from a fixed seed. A subject that is drawn twice ties with itself in both series, and tau-b
    does not count such pairs. The result is None with fewer than 20 subjects or where one series is constant.
    """
    import numpy as np

    n = len(xs)
    if n < MIN_BOOTSTRAP or rank_agreement(xs, ys) is None:
        return None
    counts = np.random.default_rng(0).multinomial(n, [1.0 / n] * n, size=NUM_RESAMPLES).astype(np.float64)
    taus = _taus(*_signs(xs, ys), counts)
    low, high = np.quantile(taus[~np.isnan(taus)], [ALPHA / 2.0, 1.0 - ALPHA / 2.0])
    return float(low), float(high)


def _ranks(costs: Floats) -> Floats:
    """Rank each row of ``[m, n]`` from 1; ties share the mean of their ranks."""
    import numpy as np

    from orchestrator.statistics.signed_rank import doubled_midranks

    ranks: Floats = np.stack([doubled_midranks(row) / 2.0 for row in costs])
    return ranks


def _deviations(sums: Floats) -> Floats:
    deviations: Floats = ((sums - sums.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    return deviations


def _all_sums(ranks: Floats) -> Floats:
    """Sum the judges' ranks in every arrangement; the first judge stays fixed because only relative order counts."""
    import numpy as np

    orders = np.array(list(itertools.permutations(range(ranks.shape[1]))))
    sums: Floats = ranks[:1]
    for row in ranks[1:]:
        sums = (sums[:, None, :] + row[orders][None, :, :]).reshape(-1, ranks.shape[1])
    return sums


def _drawn_sums(ranks: Floats) -> Floats:
    import numpy as np

    rng = np.random.default_rng(0)
    sums: Floats = np.repeat(ranks[:1], NUM_ARRANGEMENTS, axis=0)
    for row in ranks[1:]:
        sums = sums + rng.permuted(np.repeat(row[None], NUM_ARRANGEMENTS, axis=0), axis=1)
    return sums


def _signs(xs: Sequence[float], ys: Sequence[float]) -> tuple[Floats, Floats]:
    """For each series, say which of two subjects is larger: ``[n, n]`` of -1, 0 and 1."""
    import numpy as np

    x, y = (np.sign(ranks[:, None] - ranks[None, :]) for ranks in _ranks(np.asarray([xs, ys], dtype=np.float64)))
    return x, y


def _taus(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Compute tau-b once for each row of ``counts``, which says how often each subject takes part.

    The sums over all pairs of subjects are vectorised because scipy's function takes one sample at a time, and 2,000
    resamples of each two workloads would take seconds. A constant series gives NaN.
    """
    import numpy as np

    def over_pairs(matrix: Floats) -> Any:
        return ((counts @ matrix) * counts).sum(axis=1)

    with np.errstate(invalid="ignore", divide="ignore"):
        taus: Floats = over_pairs(x * y) / np.sqrt(over_pairs(x * x) * over_pairs(y * y))
    return taus
