"""Bands of a parameter: worked examples, an obvious twin, and what too few points come to."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from orchestrator.statistics import sensitivity


def bowl(value: float, centre: float = 1.5) -> float:
    return 100.0 * (1.0 + (value - centre) ** 2)


def test_the_band_of_a_known_bowl() -> None:
    """5 % above the best lie at 1.5 ± √.05 ≈ 1.28 to 1.72; bins of an eighth tell that to within their width."""
    values = [1.0 + i / 400 for i in range(401)]
    found = sensitivity(values, [bowl(v) for v in values], 1.0, 2.0)
    assert len(found.bins) == 8
    assert found.low is not None
    assert found.high is not None
    assert abs(found.low - (1.5 - math.sqrt(0.05))) <= 0.125
    assert abs(found.high - (1.5 + math.sqrt(0.05))) <= 0.125
    assert (found.is_low_open, found.is_high_open) == (False, False)


def test_a_wider_tolerance_has_a_wider_band() -> None:
    values = [1.0 + i / 400 for i in range(401)]
    narrow = sensitivity(values, [bowl(v) for v in values], 1.0, 2.0, tolerance=0.02)
    wide = sensitivity(values, [bowl(v) for v in values], 1.0, 2.0, tolerance=0.3)
    assert (wide.low, wide.high) == (1.0, 2.0)
    assert wide.is_low_open
    assert wide.is_high_open
    assert narrow.low is not None
    assert narrow.low > 1.2


@pytest.mark.parametrize("is_log", [False, True])
def test_bins_against_a_twin(is_log: bool) -> None:
    draw = random.Random(4)
    values = [10 ** draw.uniform(-3, 0) for _ in range(90)]
    costs = [draw.uniform(50, 400) for _ in values]
    found = sensitivity(values, costs, 1e-3, 1.0, is_log=is_log)
    edges = np.linspace(-3, 0, 9) if is_log else np.linspace(1e-3, 1.0, 9)
    where = np.log10(values) if is_log else np.array(values)
    for each, left, right in zip(found.bins, edges[:-1], edges[1:], strict=True):
        inside = [c for w, c in zip(where, costs, strict=True) if left <= w < right or (w == right == edges[-1])]
        assert each.count == len(inside)
        assert each.low == pytest.approx(10**left if is_log else left)
        if len(inside) < 5:
            assert each.cost is None
        else:
            assert each.cost == pytest.approx(np.quantile(inside, 0.25))
    assert sum(each.count for each in found.bins) == 90


def test_density_alone_does_not_draw_the_band() -> None:
    """A flat noisy cost, nine tenths of the points on one side: a minimum would favour it, the quartile does not."""
    draw = random.Random(2)
    values = [draw.uniform(0.0, 0.5) for _ in range(900)] + [draw.uniform(0.5, 1.0) for _ in range(100)]
    found = sensitivity(values, [draw.uniform(100.0, 104.0) for _ in values], 0.0, 1.0)
    assert (found.low, found.high) == (0.0, 1.0)


def test_whole_numbers_are_told_one_by_one() -> None:
    values = [1, 2, 3, 4] * 5
    found = sensitivity(values, [{1: 200.0, 2: 100.0, 3: 101.0, 4: 300.0}[v] for v in values], 1, 4, is_integer=True)
    assert [(each.low, each.high, each.count) for each in found.bins] == [(v, v, 5) for v in (1, 2, 3, 4)]
    assert (found.low, found.high, found.is_low_open, found.is_high_open) == (2, 3, False, False)


def test_many_whole_numbers_share_bins_that_hold_each_once() -> None:
    values = list(range(1, 65))
    found = sensitivity(values, [100.0] * 64, 1, 64, is_integer=True, is_log=True)
    assert [each.low for each in found.bins[1:]] == [each.high + 1 for each in found.bins[:-1]]
    assert (found.bins[0].low, found.bins[-1].high) == (1, 64)


def test_beside_too_few_points_the_band_is_open() -> None:
    values = [0.05] * 5 + [0.2] * 5 + [0.3] * 5 + [0.45] * 5 + [0.6] * 4 + [0.9] * 60
    costs = [300.0] * 5 + [100.0] * 5 + [102.0] * 5 + [101.0] * 5 + [90.0] * 4 + [300.0] * 60
    found = sensitivity(values, costs, 0.0, 1.0)
    assert [each.cost is None for each in found.bins] == [False, False, False, False, True, True, True, False]
    assert (found.low, found.high) == (0.125, 0.5)
    assert (found.is_low_open, found.is_high_open) == (False, True)


def test_too_few_points_have_no_band() -> None:
    found = sensitivity([0.1, 0.5, 0.9] * 3, [100.0] * 9, 0.0, 1.0)
    assert [each.count for each in found.bins] == [3, 3, 3]
    assert (found.low, found.high) == (None, None)


def test_the_band_mostly_holds_the_true_best() -> None:
    """Five per cent of noise, and a second parameter that matters as much. Over 1,000 searches of 64 trials: 88 %."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        best = rng.uniform(0.2, 0.8)
        values, others = rng.uniform(0.0, 1.0, (2, 64))
        costs = (1.0 + 2.0 * (values - best) ** 2) * (1.0 + 2.0 * (others - 0.5) ** 2) * np.exp(rng.normal(0, 0.05, 64))
        found = sensitivity(values.tolist(), costs.tolist(), 0.0, 1.0)
        held += found.low is not None and found.high is not None and found.low <= best <= found.high
    assert held >= 80
