"""The smallest effect that the seeds at hand could have shown."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.statistics.signed_rank import hodges_lehmann, null_distribution

if TYPE_CHECKING:
    from orchestrator.statistics.signed_rank import Floats

MAX_ENUMERATED = 10
NUM_SAMPLED = 512
NUM_HALVINGS = 25


def smallest_shift(differences: Sequence[float], alpha: float, power: float = 0.8) -> float:
    """Find the smallest shift that the signed-rank test would have found with such differences.

    The scatter of the differences about their centre is kept, each sign being as likely as the other, and shifted
    until the two-sided test rejects, on the right side, in ``power`` of the sign patterns: all ``2^n`` up to 10
    pairs, else 512 drawn with a fixed seed.

    Args:
        differences: ``[n]``; infinite where one side missed, which no shift mends.
        alpha: level of the test, after any correction for several comparisons.
        power: share of sweeps that must see it.

    Returns:
        The shift, in the differences' unit; infinite where no shift is found with these seeds.
    """
    import numpy as np

    num_pairs = len(differences)
    critical = _critical_sum(num_pairs, alpha)
    centre = hodges_lehmann(differences) if num_pairs else math.inf
    if critical is None or math.isinf(centre):
        return math.inf
    scatter = np.asarray(differences, dtype=np.float64) - centre
    patterns = _sign_patterns(num_pairs) * scatter

    def seen(shift: float) -> float:
        moved = patterns + shift
        ranks = np.argsort(np.argsort(np.abs(moved), axis=1), axis=1) + 1
        return float(np.mean((ranks * (moved > 0)).sum(axis=1) >= critical))

    finite = np.abs(scatter[np.isfinite(scatter)])
    low, high = 0.0, float(2.0 * finite.max() + 1e-9) if len(finite) else 1e-9
    if seen(high) < power:
        return math.inf
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if seen(middle) >= power else (middle, high)
    return high


def _critical_sum(num_pairs: int, alpha: float) -> int | None:
    """The smallest rank sum of the positive differences that rejects; None: not even all ranks do."""
    import numpy as np

    if num_pairs == 0:
        return None
    distribution = null_distribution(np.arange(1, num_pairs + 1, dtype=np.int64))
    tail = np.cumsum(distribution[::-1])[::-1]
    rejecting = np.flatnonzero(2.0 * tail <= alpha)
    return int(rejecting[0]) if len(rejecting) else None


def _sign_patterns(num_pairs: int) -> Floats:
    import numpy as np

    if num_pairs <= MAX_ENUMERATED:
        return np.array(list(itertools.product((-1.0, 1.0), repeat=num_pairs)))
    return np.random.default_rng(0).choice((-1.0, 1.0), size=(NUM_SAMPLED, num_pairs))
