"""Exact intervals of shares."""

from __future__ import annotations

import pytest
import scipy.stats

from orchestrator.statistics import share_interval


@pytest.mark.parametrize("num_all", [1, 5, 8, 30])
def test_it_is_scipys_exact_interval(num_all: int) -> None:
    for hits in range(num_all + 1):
        found = scipy.stats.binomtest(hits, num_all).proportion_ci(0.95, method="exact")
        assert share_interval(hits, 0, num_all) == pytest.approx((found.low, found.high), abs=1e-9)


def test_what_is_in_doubt_widens_it_on_both_sides() -> None:
    assert share_interval(3, 2, 8) == (share_interval(3, 0, 8)[0], share_interval(5, 0, 8)[1])
    assert share_interval(0, 8, 8) == (0.0, 1.0)


def test_thousands_of_seeds_do_not_overflow() -> None:
    found = scipy.stats.binomtest(1_500, 3_000).proportion_ci(0.95, method="exact")
    assert share_interval(1_500, 0, 3_000) == pytest.approx((found.low, found.high), abs=1e-9)
