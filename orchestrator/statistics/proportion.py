"""Shares of a few seeds, with the exact interval of Clopper and Pearson."""

from __future__ import annotations

import functools
import math
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
