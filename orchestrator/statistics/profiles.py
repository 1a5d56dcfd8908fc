"""Performance profiles: the share of the workloads on which an arm's cost is within a factor of the best arm's."""

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


@final
@dataclass(frozen=True)
class PerformanceProfile:
    """The performance profile of one arm.

    Args:
        arm: its label.
        ratios: for each workload, its median cost over the best arm's; ``inf`` where the median run missed.
        share: for each factor of the grid, the share of the workloads whose ratio is at most this factor.
        low: the lower ends of the shares' 95 % intervals; empty with too few seeds for a bootstrap.
        high: the upper ends; empty likewise.
        score: the mean of the share over factors from 1 to 4 (Dahl et al. 2023).
    """

    arm: str
    ratios: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    score: float


def performance_profiles(
    costs: Mapping[str, Sequence[Sequence[float]]],
) -> tuple[tuple[float, ...], tuple[PerformanceProfile, ...]]:
    """Compute Dolan and Moré's performance profiles (2002) of the arms' median costs.

    From 20 seeds on, a bootstrap over the seeds gives 95 % bands. The arms share seeds, so each resample takes the
    same seeds for all arms of a workload (stratified as in Agarwal et al. 2021). Workloads are not resampled.

    Args:
        costs: for each arm, ``[workload][seed]``; ``inf`` is a miss. All arms have the same seeds.

    Returns:
        The grid of factors from 1 to 4, and one profile for each arm.
    """
    import numpy as np

    by_workload = [np.array(rows) for rows in zip(*costs.values(), strict=True)]
    ratios = np.stack([_ratios(np.median(workload, axis=1)) for workload in by_workload], axis=1)
    inside = ratios[(ratios > 1.0) & (ratios < MAX_RATIO)]
    grid = np.unique(np.concatenate([[1.0], inside, [MAX_RATIO]]))
    share = _shares(ratios, grid)
    bands = None
    if min(workload.shape[1] for workload in by_workload) >= MIN_BOOTSTRAP:
        bands = _bands(by_workload, grid)
    scores = (share[:, :-1] * np.diff(grid)).sum(axis=1) / (MAX_RATIO - 1.0)
    return tuple(grid.tolist()), tuple(
        PerformanceProfile(
            arm=arm,
            ratios=tuple(ratios[i].tolist()),
            share=tuple(share[i].tolist()),
            low=() if bands is None else tuple(bands[0, i].tolist()),
            high=() if bands is None else tuple(bands[1, i].tolist()),
            score=float(scores[i]),
        )
        for i, arm in enumerate(costs)
    )


def _ratios(medians: Floats) -> Floats:
    """Divide by the smallest along the first axis; a miss gives infinity, also where every arm misses."""
    import numpy as np

    best = medians.min(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios: Floats = np.where(medians == best, 1.0, medians / best)
    return np.where(np.isinf(medians), math.inf, ratios)


def _shares(ratios: Floats, grid: Floats) -> Floats:
    shares: Floats = (ratios[..., None] <= grid).mean(axis=1)
    return shares


def _bands(by_workload: Sequence[Floats], grid: Floats) -> Floats:
    """Return ``[2, arm, factor]``: the 2.5th and 97.5th percentiles of the resampled shares."""
    import numpy as np

    rng = np.random.default_rng(0)
    drawn = []
    for workload in by_workload:
        seeds = rng.integers(0, workload.shape[1], size=(NUM_RESAMPLES, workload.shape[1]))
        drawn.append(_ratios(np.median(workload[:, seeds], axis=2)))
    shares = _shares(np.stack(drawn, axis=1), grid)
    bands: Floats = np.quantile(shares, [ALPHA / 2.0, 1.0 - ALPHA / 2.0], axis=1)
    return bands
