"""Performance profiles by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.statistics import performance_profiles

INF = math.inf


def test_a_profile_by_hand() -> None:
    # Medians: on the first workload 100 and 200, on the second 300 and 100, on the third only the first arm arrives.
    costs = {
        "a": [[90.0, 100.0, 120.0], [300.0, 300.0, 300.0], [50.0, 60.0, INF]],
        "b": [[200.0, 190.0, 250.0], [100.0, 100.0, 90.0], [40.0, INF, INF]],
    }
    factors, (a, b) = performance_profiles(costs)
    assert factors == (1.0, 2.0, 3.0, 4.0)
    assert (a.ratios, b.ratios) == ((1.0, 3.0, 1.0), (2.0, 1.0, INF))
    assert a.share == pytest.approx((2 / 3, 2 / 3, 1.0, 1.0))
    assert b.share == pytest.approx((1 / 3, 2 / 3, 2 / 3, 2 / 3))
    assert [a.score, b.score] == pytest.approx([7 / 9, 5 / 9])
    assert (a.low, a.high) == ((), ())


def test_a_workload_that_no_arm_solves_is_solved_by_none() -> None:
    _, profiles = performance_profiles({"a": [[INF], [1.0]], "b": [[INF], [1.0]]})
    assert [profile.share[-1] for profile in profiles] == [0.5, 0.5]


def test_the_slowest_arm_that_matters_is_within_four_times() -> None:
    factors, (_, slow) = performance_profiles({"a": [[1.0], [1.0]], "b": [[9.0], [4.0]]})
    assert factors == (1.0, 4.0)
    assert slow.share == (0.0, 0.5)


def test_bands_come_from_twenty_seeds_on_and_hold_the_profile() -> None:
    rng = np.random.default_rng(0)
    costs = {arm: [list(scale * np.exp(rng.normal(0.0, 0.3, 20))) for scale in (1.0, 1.2, 0.9)] for arm in ("a", "b")}
    factors, profiles = performance_profiles(costs)
    for profile in profiles:
        assert len(profile.low) == len(profile.high) == len(factors)
        assert all(
            low <= share <= high for low, share, high in zip(profile.low, profile.share, profile.high, strict=True)
        )
    shorter = {arm: [seeds[:19] for seeds in workloads] for arm, workloads in costs.items()}
    assert performance_profiles(shorter)[1][0].low == ()


def test_the_bootstrap_draws_the_same_seeds_for_every_arm() -> None:
    # On each seed the second arm takes twice as long, so however seeds are drawn the ratio is 2.
    seeds = list(np.random.default_rng(1).lognormal(0.0, 1.0, 20))
    costs = {"a": [seeds, seeds], "b": [[2 * s for s in seeds]] * 2}
    _, (_, slow) = performance_profiles(costs)
    assert slow.low == slow.high == slow.share
