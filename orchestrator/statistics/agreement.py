"""Whether several workloads put settings in the same order: Kendall's W over all, Kendall's tau for each two."""

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


MAX_ARRANGEMENTS = 20_000
NUM_ARRANGEMENTS = 10_000
NUM_RESAMPLES = 2_000
# Sums that are equal but for rounding are ties.
SLACK = 1e-9


@final
@dataclass(frozen=True)
class Concordance:
    """How far judges agree on an order.

    Args:
        w: Kendall's coefficient, ties corrected for: 0 none, 1 the same order.
        p: share of the arrangements under no agreement whose coefficient is at least as large.
        method: ``exact``, over all arrangements, or ``permutation``, over drawn ones.
    """

    w: float
    p: float
    method: Literal["exact", "permutation"]


def concordance(costs: Sequence[Sequence[float]]) -> Concordance | None:
    """Measure how far judges agree (Kendall and Babington Smith 1939).

    Args:
        costs: ``[m, n]``, each judge's on each subject; at least two of both.

    Returns:
        The coefficient and its p; None where a judge tells no two subjects apart.

    Raises:
        ValueError: there are too few of either.
    """
    import numpy as np

    ranks = _ranks(np.asarray(costs, dtype=np.float64))
    m, n = ranks.shape
    if min(m, n) < 2:
        raise ValueError(f"concordance takes at least two judges and two subjects, was given {m} and {n}")
    # Sum over judges of the sum of squares that ties leave of (n^3 - n) / 12.
    spread = ((ranks - (n + 1) / 2.0) ** 2).sum(axis=1)
    if not spread.all():
        return None
    observed = _deviation(ranks.sum(axis=0))
    w = observed / float(m * spread.sum())
    num = math.factorial(n) ** (m - 1) if n <= 7 else math.inf
    sums, method = (_all_sums(ranks), "exact") if num <= MAX_ARRANGEMENTS else (_drawn_sums(ranks), "permutation")
    extreme = int((_deviations(sums) >= observed - SLACK).sum())
    p = extreme / len(sums) if method == "exact" else (1 + extreme) / (1 + len(sums))
    return Concordance(w=w, p=p, method="exact" if method == "exact" else "permutation")


def rank_agreement(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Compare the orders of two series: Kendall's tau-b (1945).

    Args:
        xs: ``[n]``, n at least 2.
        ys: ``[n]``.

    Returns:
        The coefficient in [-1, 1]; None where one side is constant.
    """
    import numpy as np

    counts = np.ones((1, len(xs)))
    found = float(_taus(*_signs(xs, ys), counts)[0])
    return None if math.isnan(found) else found


def rank_agreement_interval(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float] | None:
    """Bound Kendall's tau-b by a bootstrap over the subjects, with a fixed seed.

    A subject that is drawn twice ties with itself on both sides, and such pairs do not count in tau-b.

    Args:
        xs: ``[n]``.
        ys: ``[n]``.

    Returns:
        The 2.5th and 97.5th percentiles; None with fewer than 20 subjects, where a percentile says little, or where
        one side is constant.
    """
    import numpy as np

    n = len(xs)
    if n < MIN_BOOTSTRAP or rank_agreement(xs, ys) is None:
        return None
    counts = np.random.default_rng(0).multinomial(n, [1.0 / n] * n, size=NUM_RESAMPLES).astype(np.float64)
    found = _taus(*_signs(xs, ys), counts)
    low, high = np.quantile(found[~np.isnan(found)], [ALPHA / 2.0, 1.0 - ALPHA / 2.0])
    return float(low), float(high)


def _ranks(costs: Floats) -> Floats:
    import numpy as np

    from orchestrator.statistics.signed_rank import doubled_midranks

    found: Floats = np.stack([doubled_midranks(row) / 2.0 for row in costs])
    return found


def _deviation(sums: Floats) -> float:
    return float(((sums - sums.mean()) ** 2).sum())


def _deviations(sums: Floats) -> Floats:
    found: Floats = ((sums - sums.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return found


def _all_sums(ranks: Floats) -> Floats:
    """Rank sums of every arrangement; the first judge stays, as only the others' relation to it counts."""
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
    """``[n, n]`` each: which of two subjects is larger."""
    import numpy as np

    sides = _ranks(np.asarray([xs, ys], dtype=np.float64))
    first, second = (np.sign(side[:, None] - side[None, :]) for side in sides)
    return first, second


def _taus(x: Floats, y: Floats, counts: Floats) -> Floats:
    """``[b]``: tau-b of subjects that are there ``counts[b]`` times; NaN where a side is constant."""
    import numpy as np

    def over_pairs(matrix: Floats) -> Any:
        return ((counts @ matrix) * counts).sum(axis=1)

    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = over_pairs(x * y) / np.sqrt(over_pairs(x * x) * over_pairs(y * y))
    return found
