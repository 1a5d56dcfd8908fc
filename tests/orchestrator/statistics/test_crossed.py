"""An effect over crossed searches and seeds: its variance is that of the two-way table, and its interval covers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from orchestrator.statistics import CrossedEffect, Measured, Pair

FINITE = st.floats(-2.0, 2.0, allow_subnormal=False).map(lambda value: round(value, 3))
TABLES = st.integers(2, 4).flatmap(
    lambda num: st.lists(st.lists(FINITE, min_size=num, max_size=num), min_size=2, max_size=4)
)


def crossed(table: object) -> CrossedEffect:
    return CrossedEffect(tuple(tuple(map(float, row)) for row in np.asarray(table)), "difference")


def naive(table: np.ndarray) -> tuple[float, float, float]:
    """Mean, variance of the mean and degrees of freedom, by loops over the two-way table's sums of squares."""
    num_r, num_s = table.shape
    mean = table.mean()
    of_r = sum(num_s * (table[r].mean() - mean) ** 2 for r in range(num_r)) / (num_r - 1)
    of_s = sum(num_r * (table[:, s].mean() - mean) ** 2 for s in range(num_s)) / (num_s - 1)
    total = ((table - mean) ** 2).sum()
    of_e = (total - of_r * (num_r - 1) - of_s * (num_s - 1)) / ((num_r - 1) * (num_s - 1))
    size = num_r * num_s
    variance = max(of_r + of_s - of_e, of_r, of_s)
    parts = [(of_r, num_r - 1), (of_s, num_s - 1), (of_e, (num_r - 1) * (num_s - 1))]
    welch = variance**2 / sum(ms**2 / df for ms, df in parts) if variance else 0.0
    return mean, variance / size, max(welch, min(num_r, num_s) - 1)


@given(TABLES)
def test_it_is_the_two_way_table(rows: list[list[float]]) -> None:
    table = np.array(rows)
    mean, variance, freedom = naive(table)
    found = crossed(table)
    assert found.estimate == pytest.approx(mean, abs=1e-9)
    if variance < 1e-9:  # rounding decides
        return
    assert found.p_beyond() == pytest.approx(2 * student.sf(abs(mean) / math.sqrt(variance), freedom), abs=1e-6)
    low, high = found.interval(0.05)
    half = student.ppf(0.975, freedom) * math.sqrt(variance)
    assert [low, high] == pytest.approx([mean - half, mean + half], rel=1e-6, abs=1e-6)


@given(TABLES, st.floats(0.001, 0.5))
def test_test_and_interval_agree_and_a_swap_of_the_arms_mirrors_them(rows: list[list[float]], alpha: float) -> None:
    found, mirrored = crossed(rows), crossed(-np.array(rows))
    low, high = found.interval(alpha)
    if abs(found.p_beyond() - alpha) > 1e-6:
        assert (found.p_beyond() <= alpha) == (not low <= 0.0 <= high)
    assert list(mirrored.interval(alpha)) == pytest.approx([-high, -low], abs=1e-9)
    assert mirrored.direction == -found.direction


def test_identical_arms_differ_by_nothing() -> None:
    found = crossed(np.zeros((3, 8)))
    assert (found.estimate, found.p_beyond(), found.direction) == (0.0, 1.0, 0)
    assert not found.rejects_beyond(1, 0.0, 0.05)


def test_equal_differences_say_no_more_than_that_all_seeds_agree() -> None:
    assert crossed(np.full((2, 3), 0.5)).p_beyond() == 0.25
    assert crossed(np.full((3, 8), 0.5)).p_beyond() == 2.0**-7
    assert crossed(np.full((2, 3), 0.5)).interval(0.05) == (0.0, 0.5)
    assert crossed(np.full((3, 8), 0.5)).interval(0.05) == (0.5, 0.5)


def test_the_smallest_effect_is_found_in_about_four_of_five() -> None:
    """The degrees of freedom are estimated too, which the figure leaves out."""
    draw = np.random.default_rng(3)
    noise = 0.1 * draw.normal(size=(400, 3, 8))
    smallest = float(np.median([crossed(each).smallest_effect(0.05) for each in noise]))
    found = [crossed(each + smallest).rejects_beyond(1, 0.0, 0.05) for each in noise]
    assert 0.65 <= np.mean(found) <= 0.9


def test_what_lies_beyond_an_amount_is_rejected_on_its_side_alone() -> None:
    table = 0.5 + 0.01 * np.arange(24).reshape(3, 8) % 0.07
    found = crossed(table)
    assert found.rejects_beyond(1, 0.3, 0.05)
    assert not found.rejects_beyond(1, 0.6, 0.05)
    assert not found.rejects_beyond(-1, 0.3, 0.05)


@pytest.mark.parametrize(("of_search", "of_seed"), list(itertools.product([0.0, 0.1], [0.0, 0.1])))
def test_its_interval_covers_whatever_the_luck_is_made_of(of_search: float, of_seed: float) -> None:
    """3 searches and 8 seeds; the luck of the seeds alone would cover 60 % where searches differ as seeds do."""
    draw = np.random.default_rng(7)
    num, covered = 1_000, 0
    for _ in range(num):
        luck = of_search * draw.normal(size=(3, 1)) + of_seed * draw.normal(size=(1, 8))
        low, high = crossed(luck + 0.1 * draw.normal(size=(3, 8))).interval(0.05)
        covered += low <= 0.0 <= high
    assert covered / num >= 0.935


def test_misses_count_as_twice_their_limit_and_what_is_incomplete_is_left_out() -> None:
    def pair(before: float, after: float) -> Pair:
        return Pair(Measured(before, 100.0), Measured(after, 100.0))

    cells = {(r, s): pair(50.0, 50.0) for r in range(2) for s in range(4)} | {(1, 2): pair(50.0, math.inf)}
    del cells[0, 3]
    found = CrossedEffect.of(cells, "ratio")
    assert found is not None
    assert found.differences[0] == (0.0, 0.0, 0.0)
    assert list(found.differences[1]) == pytest.approx([0.0, 0.0, math.log(4.0)])
    assert CrossedEffect.of({cell: one for cell, one in cells.items() if cell[0] == 0}, "ratio") is None
    assert CrossedEffect.of({cell: one for cell, one in cells.items() if cell[1] == 0}, "ratio") is None
