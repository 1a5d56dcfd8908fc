"""Expected best after k trials, by enumeration; after a time, by hand."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.statistics import best_by_time, expected_best

INF = math.inf
VALUES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=6)


@given(VALUES, st.data())
@settings(max_examples=80, deadline=None)
def test_without_replacement_it_averages_over_the_subsets(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    minima = sorted(map(min, itertools.combinations(values, k)))
    found = expected_best(values, k)
    assert found.mean == pytest.approx(statistics.fmean(minima))
    assert found.median == minima[math.ceil(len(minima) / 2) - 1]


@given(VALUES, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_with_replacement_it_averages_over_the_tuples(values: list[float], k: int) -> None:
    k = min(k, len(values))
    minima = list(map(min, itertools.product(values, repeat=k)))
    assert expected_best(values, k, "with replacement").mean == pytest.approx(statistics.fmean(minima))


def test_a_trial_without_a_value_is_spent_and_found_nothing() -> None:
    found = expected_best([1.0, INF, INF, INF], 1)
    assert (found.mean, found.low, found.median) == (INF, 1.0, INF)
    # Of any two of three one has a value.
    assert expected_best([1.0, 2.0, INF], 2).mean == pytest.approx((1.0 + 1.0 + 2.0) / 3)
    assert expected_best([1.0, INF, INF, INF], 4).mean == 1.0


def test_it_is_unbiased_where_the_other_is_not() -> None:
    # The best of five from a uniform distribution is 1/6 on average; ten trials each time.
    draws = np.random.default_rng(0).random((4_000, 10))
    without = np.mean([expected_best(list(row), 5).mean for row in draws])
    with_replacement = np.mean([expected_best(list(row), 5, "with replacement").mean for row in draws])
    assert without == pytest.approx(1 / 6, abs=0.003)
    assert with_replacement > 1 / 6 + 0.01


def test_more_trials_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="num_trials must be from 1 to 2, is 3"):
        expected_best([1.0, 2.0], 3)


def test_equal_costs_make_time_a_number_of_trials() -> None:
    values = [3.0, 1.0, 2.0, 5.0]
    nothing, one, most = best_by_time(values, [10.0] * 4, [9.0, 10.0, 40.0])
    assert (nothing.mean, nothing.median) == (INF, INF)
    assert one.mean == pytest.approx(expected_best(values, 1).mean, abs=0.15)
    assert most.mean == pytest.approx(1.0)
    assert most.high == 1.0


def test_an_expensive_trial_is_found_later() -> None:
    early = best_by_time([1.0, 2.0], [1.0, 9.0], [5.0])[0]
    late = best_by_time([2.0, 1.0], [1.0, 9.0], [5.0])[0]
    assert (early.low, late.low) == (1.0, 2.0)
