"""The interval and the estimate are what the exact test says, censored or not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.statistics import Inversion, Measured, Pair, Scale, hodges_lehmann, signed_rank_p

INF = math.inf
STEPS = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=9)
LEVELS = st.sampled_from([0.05, 0.05 / 2, 0.05 / 6, 0.2])


def pairs_of(values: list[tuple[float, float]], budget: float = INF) -> list[Pair]:
    def side(value: float) -> Measured:
        return Measured(value if value <= budget else INF, budget)

    return [Pair(side(baseline), side(arm)) for baseline, arm in values]


def shifted(differences: list[float]) -> Inversion:
    return Inversion(pairs_of([(0.0, d) for d in differences]), "difference")


def cut_alike(pairs: list[tuple[float, float]], budget: float, factor: float) -> list[float]:
    """The dense twin: shrink the arm's times and its budget, cut both sides off at the earlier budget, compare."""
    found = []
    end = min(budget, budget / factor)
    for baseline, arm in pairs:
        before = baseline if baseline <= min(budget, end) else INF
        after = arm / factor if arm <= budget and arm / factor <= end else INF
        tie = before == after
        found.append(
            0.0 if tie else math.log(after) - math.log(before) if after < INF and before < INF else after - before
        )
    return found


@pytest.mark.parametrize("num_pairs", [6, 8, 12, 25])
def test_without_censoring_it_is_hodges_and_lehmanns(num_pairs: int) -> None:
    differences = list(np.random.default_rng(num_pairs).normal(0.0, 1.0, num_pairs))
    low, high = shifted(differences).interval(0.05)
    assert shifted(differences).centre == pytest.approx(hodges_lehmann(differences))
    for shift in np.linspace(low - 0.5, high + 0.5, 101):
        assert (signed_rank_p([d - shift for d in differences]) > 0.05) == (low < shift < high)


def test_it_gives_the_published_estimate_and_interval() -> None:
    # Hollander and Wolfe (1973), examples 3.1 to 3.4: depression scores before and after; p = .019 one-sided.
    before = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
    after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
    inversion = Inversion(pairs_of(list(zip(before, after, strict=True))), "difference")
    assert inversion.centre == pytest.approx(-0.46)
    assert inversion.interval(0.05) == pytest.approx((-0.786, -0.010))
    assert inversion.test() == (-1, 2 * 10 / 512)


def test_fewer_than_six_pairs_bound_nothing() -> None:
    assert shifted([1.0] * 5).interval(0.05) == (-INF, INF)
    assert shifted([1.0] * 6).interval(0.05) == (1.0, 1.0)


@given(STEPS, LEVELS)
@settings(max_examples=150, deadline=None)
def test_no_effect_is_inside_unless_the_test_rejects_it(steps: list[tuple[int, int]], alpha: float) -> None:
    inversion = Inversion(pairs_of([(float(b), float(a)) for b, a in steps], 10.0), "ratio")
    low, high = inversion.interval(alpha)
    side, p = inversion.test()
    assert low <= inversion.centre <= high
    if p > alpha:
        assert low <= 0.0 <= high
    else:
        assert (low >= 0.0) if side > 0 else (high <= 0.0)


@given(STEPS, LEVELS)
@settings(max_examples=60, deadline=None)
def test_it_holds_every_effect_that_the_twin_does_not_reject(steps: list[tuple[int, int]], alpha: float) -> None:
    values = [(float(b), float(a)) for b, a in steps]
    low, high = Inversion(pairs_of(values, 10.0), "ratio").interval(alpha)
    for effect in np.linspace(-3.0, 3.0, 61) + 1e-4:
        is_kept = signed_rank_p(cut_alike(values, 10.0, math.exp(effect))) > alpha
        assert is_kept == (low < effect < high), effect


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_a_larger_effect_never_makes_a_difference_larger(steps: list[tuple[int, int]]) -> None:
    inversion = Inversion(pairs_of([(float(b), float(a)) for b, a in steps], 10.0), "ratio")
    found = np.stack([inversion.differences(shift) for shift in np.linspace(-3.0, 3.0, 41)])
    assert (found[1:] <= found[:-1]).all()


@pytest.mark.parametrize("scale", ["ratio", "difference"])
def test_a_run_that_diverged_is_worse_whatever_the_effect(scale: Scale) -> None:
    pairs = [Pair(Measured(1.0 + i), Measured(INF)) for i in range(8)]
    inversion = Inversion(pairs, scale)
    assert (inversion.centre, inversion.interval(0.05)) == (INF, (INF, INF))


def test_an_accuracy_that_diverged_is_worse_whatever_the_effect() -> None:
    inversion = Inversion([Pair(Measured(0.5), Measured(-INF))] * 8, "difference")
    assert (inversion.centre, inversion.test()[0]) == (-INF, -1)


@pytest.mark.parametrize("slower", [1.5, 4.0, 30.0])
def test_an_arm_that_takes_far_longer_is_no_miss_where_its_own_limit_is_as_far_away(slower: float) -> None:
    """Seconds: the baseline's whole run is over long before the arm, with as many steps, is half way."""
    draw = np.random.RandomState(0)
    baseline = [0.5 + 0.1 * float(noise) for noise in draw.rand(10)]
    ratios = [slower * math.exp(0.05 * float(noise)) for noise in draw.randn(10)]
    pairs = [
        Pair(Measured(time, 1.0), Measured(time * ratio, slower)) for time, ratio in zip(baseline, ratios, strict=True)
    ]
    inversion = Inversion(pairs, "ratio")
    low, high = (math.exp(end) for end in inversion.interval(0.05))
    assert math.exp(inversion.centre) == pytest.approx(slower, rel=0.1)
    assert min(ratios) <= low <= high <= max(ratios)
