"""Performance profiles: on what share of the workloads an arm is within a factor of the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from orchestrator.statistics.multiplicity import ALPHA
from orchestrator.statistics.resampling import MIN_BOOTSTRAP

if TYPE_CHECKING:
    from orchestrator.statistics.signed_rank import Floats

MAX_RATIO = 4.0
NUM_RESAMPLES = 1_000

Costs = Mapping[str, Sequence[Sequence[float]]]


@final
@dataclass(frozen=True)
class Profile:
    """One arm's performance profile.

    Args:
        arm: label.
        ratios: its median cost over that of the best arm, workload by workload; ``inf`` where it misses.
        share: share of the workloads on which the ratio is at most that of the grid.
        low: lower end of the share's 95 % interval; empty where there are too few seeds for a bootstrap.
        high: upper end; likewise.
        score: mean of the share over factors from 1 to 4 (Dahl et al. 2023).
    """

    arm: str
    ratios: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    score: float


def performance_profiles(costs: Costs) -> tuple[tuple[float, ...], tuple[Profile, ...]]:
    """Make Dolan and Moré's performance profiles (2002) of the arms' median costs.

    A bootstrap over the seeds, the same for all arms of a workload as they are paired (stratified as in Agarwal et al.
    2021), gives bands from 20 seeds on. The workloads are those of the sweep, not drawn from others.

    Args:
        costs: arm -> its cost on each seed of each workload, ``inf`` for a miss; the arms have the same seeds.

    Returns:
        The grid of factors, from 1 to 4, and a profile per arm.
    """
    import numpy as np

    arms = list(costs)
    by_workload = [np.array([costs[arm][i] for arm in arms]) for i in range(len(costs[arms[0]]))]
    ratios = np.stack([_ratios(np.median(workload, axis=1)) for workload in by_workload], axis=1)
    inside = ratios[(ratios > 1.0) & (ratios < MAX_RATIO)]
    grid = np.unique(np.concatenate([[1.0], inside, [MAX_RATIO]]))
    share = _shares(ratios, grid)
    bands = None
    if min(workload.shape[1] for workload in by_workload) >= MIN_BOOTSTRAP:
        bands = _bands(by_workload, grid)
    widths = np.diff(grid)
    return tuple(grid.tolist()), tuple(
        Profile(
            arm=arm,
            ratios=tuple(ratios[i].tolist()),
            share=tuple(share[i].tolist()),
            low=() if bands is None else tuple(bands[0, i].tolist()),
            high=() if bands is None else tuple(bands[1, i].tolist()),
            score=float((share[i, :-1] * widths).sum() / (MAX_RATIO - 1.0)),
        )
        for i, arm in enumerate(arms)
    )


def _ratios(medians: Floats) -> Floats:
    """Against the best of the axis; infinite for a miss, also where all miss."""
    import numpy as np

    best = medians.min(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.where(medians == best, 1.0, medians / best)
    return np.where(np.isinf(medians), math.inf, found)


def _shares(ratios: Floats, grid: Floats) -> Floats:
    found: Floats = (ratios[..., None] <= grid).mean(axis=1)
    return found


def _bands(by_workload: Sequence[Floats], grid: Floats) -> Floats:
    import numpy as np

    rng = np.random.default_rng(0)
    drawn = []
    for workload in by_workload:
        seeds = rng.integers(0, workload.shape[1], size=(NUM_RESAMPLES, workload.shape[1]))
        drawn.append(_ratios(np.median(workload[:, seeds], axis=2)))
    ratios = np.stack(drawn, axis=1)
    shares = (ratios[..., None] <= grid).mean(axis=1)
    found: Floats = np.quantile(shares, [ALPHA / 2.0, 1.0 - ALPHA / 2.0], axis=1)
    return found
