"""The labels of an axis: round, few, and one at or beyond each end, whatever is drawn."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.report.figures.axes import (
    FEWEST_LABELS,
    MAX_LABELS,
    MAX_LOG_LABELS,
    axis_at,
    linear_ticks,
    log_ticks,
    numeric_axis,
    ratio_axis,
    ratio_ticks,
    tick_text,
)

AMOUNTS = st.floats(min_value=1e-9, max_value=1e9)


@given(st.floats(min_value=-1e9, max_value=1e9), AMOUNTS)
@example(0.0, 1e-9)
@example(1e9, 1e-9)
def test_linear_labels_hold_what_is_drawn(low: float, width: float) -> None:
    ticks = linear_ticks(low, low + width)
    assert FEWEST_LABELS <= len(ticks) <= MAX_LABELS
    assert ticks == sorted(set(ticks))
    slack = 1e-8 * max(abs(low), width)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + width - slack


@given(st.integers(min_value=0, max_value=10**6), st.integers(min_value=0, max_value=10**6))
def test_counts_are_whole(low: int, width: int) -> None:
    ticks = linear_ticks(low, low + width, is_integer=True)
    assert FEWEST_LABELS <= len(ticks) <= MAX_LABELS
    assert all(tick == int(tick) for tick in ticks)
    assert ticks[0] <= low <= low + width <= ticks[-1]


@given(st.floats(min_value=1e-30, max_value=1e30), st.floats(min_value=1.0, max_value=1e20))
def test_logarithmic_labels_hold_what_is_drawn_and_are_above_zero(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)
    assert FEWEST_LABELS <= len(ticks) <= MAX_LOG_LABELS
    assert ticks == sorted(set(ticks))
    assert 0.0 < ticks[0] <= low * (1.0 + 1e-8)
    assert ticks[-1] >= low * ratio * (1.0 - 1e-8)


@given(st.floats(min_value=0.125, max_value=8.0), st.floats(min_value=0.125, max_value=8.0))
def test_changes_have_no_change_among_them_and_stand_apart(one: float, other: float) -> None:
    low, high = sorted((one, other))
    ticks = ratio_ticks(low, high)
    assert FEWEST_LABELS <= len(ticks) <= MAX_LABELS
    assert 1.0 in ticks[1:-1]
    assert ticks[0] <= low
    assert ticks[-1] >= high
    gaps = [math.log(b / a) for a, b in itertools.pairwise(ticks)]
    assert min(gaps) >= math.log(ticks[-1] / ticks[0]) / (MAX_LABELS + 1) - 1e-9


def test_what_cannot_be_drawn_makes_no_axis() -> None:
    assert numeric_axis([None, math.inf, math.nan]) == {}
    assert numeric_axis([0.0, -1.0], is_log=True) == {"type": "log"}
    assert ratio_axis([0.0, math.inf])["tickvals"][::4] == [0.125, 8.0]


def test_the_range_of_a_logarithmic_axis_is_in_powers_of_ten() -> None:
    axis = axis_at([1.0, 10.0, 100.0], is_log=True)
    assert axis["range"] == pytest.approx([-0.06, 2.06])


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_labels_are_short(value: float) -> None:
    assert len(tick_text(float(f"{value:.3g}"))) <= 12
