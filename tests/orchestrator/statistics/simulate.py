"""Simulated sweeps whose effect is known, and how often an interval holds it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from orchestrator.statistics import Inversion, Measured, Pair, bca_interval

Draw = Callable[[np.random.Generator, tuple[int, int]], Any]
EFFECT = math.log(0.9)


def _mixed(rng: np.random.Generator, size: tuple[int, int]) -> Any:
    """One pair in five scatters five times as much."""
    return rng.normal(size=size) * np.where(rng.random(size) < 0.2, 5.0, 1.0)


# What a pair's log-ratio is beside the effect; the effect is the centre of symmetry, or for skewed ones the
# pseudo-median, which Hodges and Lehmann estimate.
SYMMETRIC: Mapping[str, Draw] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "uniform": lambda rng, size: rng.uniform(-1.7, 1.7, size=size),
    "Laplace": lambda rng, size: rng.laplace(size=size),
    "Student's t, 3 degrees": lambda rng, size: rng.standard_t(3, size=size),
    "one pair in five five times as far": _mixed,
}
SKEWED: Mapping[str, Draw] = {
    "chi-square, 4 degrees": lambda rng, size: rng.chisquare(4, size=size) / 2,
    "exponential": lambda rng, size: rng.exponential(size=size),
    "log-normal": lambda rng, size: rng.lognormal(size=size),
}


def pseudo_median(draw: Draw) -> float:
    """The centre of the average of two, by simulation."""
    return float(np.median(draw(np.random.default_rng(99), (400_000, 2)).mean(axis=1)))


def sweeps(
    draw: Draw, num_sweeps: int, num_seeds: int, *, budget: float = math.inf, every: float = 0.0, seed: int = 0
) -> list[list[Pair]]:
    """Sweeps whose baseline takes about 200 steps, log-normal over the seeds.

    Args:
        draw: of the log-ratio beside the effect.
        num_sweeps: of them.
        num_seeds: pairs in each.
        budget: steps after which a run is cut off.
        every: steps between two evaluations; 0: continuously.
        seed: of the generator.
    """
    rng = np.random.default_rng(seed)
    baseline = 200 * np.exp(rng.normal(0.0, 0.3, (num_sweeps, num_seeds)))
    arm = baseline * np.exp(EFFECT + 0.1 * (draw(rng, baseline.shape) - pseudo_median(draw)))
    if every:
        baseline, arm = np.ceil(baseline / every) * every, np.ceil(arm / every) * every
    found = np.stack([baseline, arm], axis=-1)
    cut = np.where(found > budget, math.inf, found)
    return [[Pair(Measured(b, budget), Measured(a, budget)) for b, a in sweep] for sweep in cut.tolist()]


def coverage(found: list[list[Pair]], alpha: float = 0.05) -> float:
    """The share of the sweeps whose interval holds the true effect."""
    ends = [Inversion(pairs, "ratio").interval(alpha) for pairs in found]
    return float(np.mean([low - 1e-9 <= EFFECT <= high + 1e-9 for low, high in ends]))


def bca_coverage(draw: Draw, num_sweeps: int, num_seeds: int, seed: int = 0) -> float:
    """The same of the BCa interval of the mean."""
    rng = np.random.default_rng(seed)
    values = draw(rng, (num_sweeps, num_seeds))
    truth = float(draw(np.random.default_rng(98), (4_000_000, 1)).mean())
    ends = [bca_interval(list(row)) for row in values]
    return float(np.mean([low <= truth <= high for low, high in ends]))
