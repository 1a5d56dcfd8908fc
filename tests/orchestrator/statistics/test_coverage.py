"""Intervals cover as often as they say, by simulation; docs/methodology.md has the figures."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.statistics import holm, signed_rank_p
from tests.orchestrator.statistics.simulate import SKEWED, SYMMETRIC, Draw, coverage, sweeps

NUM_SWEEPS = 1_000


@pytest.mark.parametrize("name", ["normal", "Student's t, 3 degrees"])
def test_symmetric_differences_are_covered_in_92_to_98_of_100_sweeps(name: str) -> None:
    assert 0.92 <= coverage(sweeps(SYMMETRIC[name], NUM_SWEEPS, 8)) <= 0.98


def test_censoring_costs_no_coverage() -> None:
    # A third of the runs is cut off at 220 steps, and there are only eleven values that steps can have.
    assert coverage(sweeps(SYMMETRIC["normal"], NUM_SWEEPS, 8, budget=220.0, every=20.0)) >= 0.95


def test_holms_p_calls_equal_arms_different_in_at_most_five_of_a_hundred_sweeps() -> None:
    rng = np.random.default_rng(3)
    num_sweeps, num_workloads = 5_000, 3
    false = 0
    for _ in range(num_sweeps):
        found = holm([signed_rank_p(list(rng.standard_t(3, 8))) for _ in range(num_workloads)])
        false += min(found) <= 0.05
    # Each rejects at 4/256 to begin with.
    expected = 1 - (1 - 4 / 256) ** num_workloads
    assert expected <= 0.05
    assert false / num_sweeps == pytest.approx(expected, abs=3 * (expected * (1 - expected) / num_sweeps) ** 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [8, 20])
@pytest.mark.parametrize("name", list(SYMMETRIC))
def test_every_symmetric_shape_is_covered(name: str, num_seeds: int) -> None:
    assert 0.935 <= coverage(sweeps(SYMMETRIC[name], 2_000, num_seeds, seed=1)) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"), [("chi-square, 4 degrees", 0.93), ("exponential", 0.90), ("log-normal", 0.88)]
)
def test_skewed_differences_are_covered_as_the_documents_say(name: str, least: float) -> None:
    assert least <= coverage(sweeps(SKEWED[name], 2_000, 8, seed=1)) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("budget", [250.0, 220.0, 180.0])
@pytest.mark.parametrize("draw", list(SYMMETRIC.values()), ids=list(SYMMETRIC))
def test_however_many_runs_are_cut_off(draw: Draw, budget: float) -> None:
    assert coverage(sweeps(draw, 1_000, 8, budget=budget, seed=2)) >= 0.94
