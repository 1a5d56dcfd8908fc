"""Estimators against closed forms, scipy, dense twins that count every case, and simulation."""

from __future__ import annotations

import itertools
import math
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.statistics import (
    Measured,
    Pair,
    censored_median,
    hodges_lehmann,
    holm,
    paired_effect,
    probability_of_improvement,
    rank_correlation,
    seeds_needed,
    shift_interval,
    signed_rank_p,
    smallest_p,
    smallest_shift,
)

INF = math.inf
# A few sizes on a coarse grid, so that ties and zeros are the rule, with misses among them.
DIFFERENCES = st.lists(st.sampled_from([-INF, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, INF]), min_size=1, max_size=7)


def counted_p(differences: Sequence[float]) -> float:
    """The dense twin: every sign pattern, ranks by counting."""
    magnitudes = [abs(d) for d in differences]
    ranks = [
        sum(other < own for other in magnitudes) + (1 + sum(other == own for other in magnitudes)) / 2
        for own in magnitudes
    ]
    moving = [(math.copysign(1, d), rank) for d, rank in zip(differences, ranks, strict=True) if d != 0]
    observed = abs(sum(sign * rank for sign, rank in moving))
    patterns = list(itertools.product((-1, 1), repeat=len(moving)))
    sums = [abs(sum(s * rank for s, (_, rank) in zip(signs, moving, strict=True))) for signs in patterns]
    return sum(total >= observed for total in sums) / len(patterns)


class TestSeeds:
    def test_the_smallest_p_is_that_of_the_exact_test_when_all_pairs_agree(self) -> None:
        for num_pairs in range(1, 12):
            assert smallest_p(num_pairs) == signed_rank_p([1.0 + i for i in range(num_pairs)])

    def test_no_pair_shows_nothing(self) -> None:
        assert smallest_p(0) == 1.0

    @pytest.mark.parametrize("num_comparisons", [1, 2, 3, 6, 7, 25, 26, 1000])
    def test_seeds_needed_is_the_least_number_that_reaches_alpha(self, num_comparisons: int) -> None:
        needed = seeds_needed(num_comparisons)
        assert smallest_p(needed) * num_comparisons <= 0.05 < smallest_p(needed - 1) * num_comparisons

    def test_the_published_numbers_hold(self) -> None:
        assert [seeds_needed(m) for m in (1, 6, 7, 25, 26)] == [6, 8, 9, 10, 11]

    def test_numbers_out_of_range_are_refused(self) -> None:
        with pytest.raises(ValueError, match="num_pairs must be at least 0, is -1"):
            smallest_p(-1)
        with pytest.raises(ValueError, match="num_comparisons must be at least 1, is 0"):
            seeds_needed(0)
        with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\), is 0"):
            seeds_needed(1, 0.0)


class TestHolm:
    @given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5))
    def test_it_is_the_closed_test_of_bonferronis_rule(self, p_values: list[float]) -> None:
        # A hypothesis falls at the largest Bonferroni p of all the intersections it is part of.
        indices = range(len(p_values))
        subsets = [s for size in indices for s in itertools.combinations(indices, size + 1)]
        expected = [
            max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in subsets if index in s) for index in indices
        ]
        assert holm(p_values) == pytest.approx(expected)

    def test_comparisons_without_a_p_count_in_the_family(self) -> None:
        assert holm([0.01], num_comparisons=3) == [pytest.approx(0.03)]

    def test_a_family_smaller_than_its_members_is_refused(self) -> None:
        with pytest.raises(ValueError, match="num_comparisons must be at least 2, is 1"):
            holm([0.1, 0.2], num_comparisons=1)


class TestRankCorrelation:
    @pytest.mark.parametrize("seed", range(4))
    def test_it_is_scipys_with_ties_too(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        xs, ys = draw.integers(-4, 5, 12).astype(float), draw.normal(0.0, 1.0, 12)
        assert rank_correlation(list(xs), list(ys)) == pytest.approx(scipy.stats.spearmanr(xs, ys).statistic)

    def test_infinities_have_a_rank(self) -> None:
        assert rank_correlation([1.0, INF, -INF], [2.0, 3.0, 1.0]) == pytest.approx(1.0)

    def test_a_constant_has_no_order(self) -> None:
        assert rank_correlation([1.0, 1.0], [1.0, 2.0]) is None


class TestSignedRank:
    @given(DIFFERENCES)
    def test_p_is_the_share_of_sign_patterns_at_least_as_extreme(self, differences: list[float]) -> None:
        assert signed_rank_p(differences) == pytest.approx(counted_p(differences), abs=1e-12)

    @pytest.mark.parametrize("num_pairs", [3, 8, 20, 40])
    def test_without_ties_it_is_scipys_exact_test(self, num_pairs: int) -> None:
        differences = np.random.default_rng(num_pairs).normal(0.3, 1.0, num_pairs)
        expected = scipy.stats.wilcoxon(differences, method="exact").pvalue
        assert signed_rank_p(list(differences)) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("num_pairs", [3, 8, 20, 40])
    def test_one_sided_it_is_scipys_too(self, num_pairs: int) -> None:
        differences = np.random.default_rng(num_pairs).normal(0.3, 1.0, num_pairs)
        expected = scipy.stats.wilcoxon(differences, method="exact", alternative="greater").pvalue
        assert signed_rank_p(list(differences), "greater") == pytest.approx(expected, rel=1e-9)

    def test_one_sided_it_tells_the_sides_apart(self) -> None:
        assert signed_rank_p([1.0, 2.0, 3.0, 4.0, 5.0], "greater") == 1 / 32
        assert signed_rank_p([-1.0, -2.0, -3.0, -4.0, -5.0], "greater") == 1.0

    def test_a_miss_counts_as_the_largest_rank(self) -> None:
        assert signed_rank_p([0.1, 0.2, 0.3, INF]) == signed_rank_p([0.1, 0.2, 0.3, 0.4])

    def test_all_ties_show_nothing(self) -> None:
        assert signed_rank_p([0.0] * 8) == 1.0

    def test_swapping_the_arms_changes_nothing(self) -> None:
        assert signed_rank_p([0.5, -0.1, INF, 0.3]) == signed_rank_p([-0.5, 0.1, -INF, -0.3])

    def test_equal_ratios_tie_although_their_logarithms_round_apart(self) -> None:
        ratios = ((a, b) for a in range(2, 60) for b in range(1, a))
        a, b = next((a, b) for a, b in ratios if math.log(a / b) != -math.log(b / a))
        rest = [2 * math.log(a / b), 0.5 * math.log(a / b)]
        exact = [math.log(a / b), math.log(a / b), -math.log(a / b), *rest]
        rounded = [math.log(a / b), -math.log(b / a), math.log(b / a), *rest]
        assert signed_rank_p(rounded) == signed_rank_p(exact) == counted_p(exact)
        assert signed_rank_p(rounded) != counted_p(rounded)


class TestHodgesLehmann:
    @given(st.lists(st.floats(-10, 10), min_size=1, max_size=9))
    def test_it_is_the_median_of_the_walsh_averages(self, differences: list[float]) -> None:
        n = len(differences)
        averages = [(differences[i] + differences[j]) / 2 for i in range(n) for j in range(i, n)]
        assert hodges_lehmann(differences) == pytest.approx(statistics.median(averages))

    def test_misses_on_one_side_make_it_infinite_and_on_both_cancel(self) -> None:
        assert hodges_lehmann([INF, INF, INF, 0.1]) == INF
        assert hodges_lehmann([INF, -INF]) == 0.0


class TestInterval:
    @pytest.mark.parametrize("num_pairs", [6, 8, 12])
    def test_it_holds_the_shifts_that_the_test_does_not_reject(self, num_pairs: int) -> None:
        differences = list(np.random.default_rng(num_pairs).normal(0.0, 1.0, num_pairs))
        low, high, confidence = shift_interval(differences, differences)
        assert 0.95 <= confidence < 1.0
        for shift in np.linspace(low - 0.5, high + 0.5, 101):
            p = signed_rank_p([d - shift for d in differences])
            assert (p > 0.05) == (low < shift < high)

    def test_fewer_than_six_pairs_bound_nothing(self) -> None:
        assert shift_interval([1.0] * 5, [1.0] * 5) == (-INF, INF, 1.0)

    def test_eight_pairs_reach_961_thousandths(self) -> None:
        assert shift_interval([1.0] * 8, [1.0] * 8)[2] == 1.0 - 2 * 5 / 256

    @given(st.integers(0, 10_000), st.integers(0, 8))
    @settings(max_examples=40, deadline=None)
    def test_censoring_only_widens_it(self, seed: int, num_censored: int) -> None:
        draw = random.Random(seed)
        known = [draw.gauss(0.0, 1.0) for _ in range(8)]
        highs = [INF if i < num_censored else d for i, d in enumerate(known)]
        low, high, _ = shift_interval(known, known)
        assert shift_interval(known, highs)[0] == low
        assert shift_interval(known, highs)[1] >= high


def censored_pairs(steps: Sequence[tuple[float, float]], budget: float) -> list[Pair]:
    """Pairs of a sweep whose runs end at ``budget``."""

    def cut(value: float) -> Measured:
        return Measured.exactly(value) if value <= budget else Measured(INF, budget)

    return [Pair(cut(baseline), cut(arm)) for baseline, arm in steps]


class TestPairedEffect:
    def test_a_constant_factor_is_found_exactly(self) -> None:
        effect = paired_effect(
            censored_pairs([(b, 0.8 * b) for b in (100, 110, 130, 90, 95, 120, 105, 150)], 1e9), "ratio"
        )
        assert [effect.estimate, effect.low, effect.high] == pytest.approx([0.8, 0.8, 0.8])
        assert (effect.direction, effect.p, effect.probability_of_improvement) == (-1, smallest_p(8), 1.0)

    def test_a_pair_that_both_miss_is_a_tie_for_the_test_and_unknown_for_the_interval(self) -> None:
        effect = paired_effect(censored_pairs([(500, 500)] * 8, 400), "ratio")
        assert (effect.p, effect.num_ties, effect.direction) == (1.0, 8, 0)
        assert (effect.low, effect.high) == (0.0, INF)
        assert effect.smallest_effect == INF

    def test_a_baseline_that_always_misses_leaves_an_upper_bound(self) -> None:
        effect = paired_effect(censored_pairs([(500, arm) for arm in range(200, 280, 10)], 400), "ratio")
        assert (effect.p, effect.estimate, effect.low) == (smallest_p(8), 0.0, 0.0)
        assert 0.5 < effect.high < 0.7

    def test_an_arm_that_misses_opens_the_interval_upwards(self) -> None:
        effect = paired_effect(censored_pairs([(b, 500) for b in range(200, 280, 10)], 400), "ratio")
        assert (effect.direction, effect.estimate, effect.high) == (1, INF, INF)
        assert effect.low > 1.4

    def test_differences_keep_their_unit(self) -> None:
        pairs = [Pair(Measured.exactly(0.90), Measured.exactly(0.90 + 0.01 * i)) for i in range(1, 9)]
        effect = paired_effect(pairs, "difference", higher_is_better=True)
        assert effect.estimate == pytest.approx(0.045)
        assert effect.probability_of_improvement == 1.0

    def test_zero_is_infinitely_less_than_anything_and_ties_with_itself(self) -> None:
        zero, one = Measured.exactly(0.0), Measured.exactly(1.0)
        assert Pair(one, zero).difference("ratio") == -INF
        assert Pair(zero, zero).difference("ratio") == 0.0

    def test_no_pair_is_refused(self) -> None:
        with pytest.raises(ValueError, match="pairs must hold at least one pair, holds none"):
            paired_effect([], "ratio")

    @given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=9))
    @settings(max_examples=60, deadline=None)
    def test_swapping_the_arms_inverts_the_ratio(self, steps: list[tuple[int, int]]) -> None:
        there = paired_effect(censored_pairs(steps, 10), "ratio")
        back = paired_effect(censored_pairs([(a, b) for b, a in steps], 10), "ratio")
        assert there.p == back.p
        assert there.direction == -back.direction
        assert there.low * back.high == pytest.approx(1.0) or 0.0 in (there.low, back.high) or INF in (back.high,)
        assert there.probability_of_improvement == pytest.approx(1.0 - back.probability_of_improvement)
        assert there.low <= there.estimate <= there.high


class TestCensoredMedian:
    @pytest.mark.parametrize("num_missed", [0, 1, 3, 4, 7])
    def test_of_an_odd_number_it_is_kaplan_meiers(self, num_missed: int) -> None:
        times = [210.0, 150.0, 180.0, 300.0, 240.0, 170.0, 260.0]
        kept = times[num_missed:]
        sample = scipy.stats.CensoredData(uncensored=kept, right=[400.0] * num_missed)
        survival = scipy.stats.ecdf(sample).sf
        below = survival.quantiles[survival.probabilities <= 0.5 + 1e-12]
        expected = below[0] if len(below) and below[0] < 400.0 else INF
        assert censored_median([*kept, *[INF] * num_missed]) == expected

    def test_half_the_runs_missing_is_enough_for_infinity(self) -> None:
        assert censored_median([1.0, 2.0, INF, INF]) == INF

    def test_of_nothing_there_is_none(self) -> None:
        assert math.isnan(censored_median([]))


def test_probability_of_improvement_counts_ties_half() -> None:
    pairs = censored_pairs([(100, 90), (100, 110), (100, 100), (500, 500), (500, 100)], 400)
    assert probability_of_improvement(pairs) == (2 + 0.5 + 0.5) / 5
    assert probability_of_improvement(pairs, higher_is_better=True) == (1 + 0.5 + 0.5) / 5


class TestSmallestShift:
    def test_too_few_pairs_see_nothing(self) -> None:
        assert smallest_shift([0.1, -0.1, 0.2, -0.2, 0.05], 0.05) == INF

    def test_misses_on_both_sides_hide_every_shift(self) -> None:
        assert smallest_shift([INF, -INF, INF, -INF, 0.1, 0.2], 0.05) == INF

    def test_it_grows_with_the_scatter_and_falls_with_the_pairs(self) -> None:
        draw = np.random.default_rng(0).normal(size=8)
        few = smallest_shift(list(draw), 0.05)
        assert smallest_shift(list(2 * draw), 0.05) == pytest.approx(2 * few, rel=1e-6)
        assert smallest_shift([*draw, *(draw + 1e-3)], 0.05) < few

    def test_a_stricter_level_needs_a_larger_effect(self) -> None:
        draw = list(np.random.default_rng(1).normal(size=9))
        assert smallest_shift(draw, 0.01) > smallest_shift(draw, 0.05)

    def test_on_average_it_is_the_effect_that_is_seen_in_four_of_five_sweeps(self) -> None:
        rng = np.random.default_rng(2)
        shift = float(np.median([smallest_shift(list(rng.normal(size=8)), 0.05) for _ in range(60)]))
        seen = np.mean([signed_rank_p(list(rng.normal(shift, 1.0, 8))) <= 0.05 for _ in range(600)])
        assert 0.68 <= seen <= 0.92


def coverage(draw: np.random.Generator, num_sweeps: int, spread: float, budget: float) -> tuple[float, float]:
    """Simulate sweeps of eight seeds with a true ratio of .9: share of intervals with it, and of wrong signs."""
    hits, wrong = 0, 0
    for _ in range(num_sweeps):
        baseline = 200 * np.exp(draw.normal(0.0, 0.3, 8))
        arm = baseline * 0.9 * np.exp(draw.normal(0.0, spread, 8))
        effect = paired_effect(censored_pairs(list(zip(baseline, arm, strict=True)), budget), "ratio")
        hits += effect.low <= 0.9 <= effect.high
        wrong += effect.p <= 0.05 and effect.direction > 0
    return hits / num_sweeps, wrong / num_sweeps


@pytest.mark.parametrize("budget", [1e9, 220.0])
def test_intervals_cover_also_where_many_runs_are_censored(budget: float) -> None:
    covered, wrong = coverage(np.random.default_rng(0), 200, 0.1, budget)
    assert covered >= 0.92
    assert wrong <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "most"), [(1e9, 0.98), (250.0, 1.0)])
def test_intervals_cover_as_often_as_they_say(budget: float, most: float) -> None:
    covered, _ = coverage(np.random.default_rng(1), 1_500, 0.1, budget)
    assert 0.945 <= covered <= most


@pytest.mark.slow
def test_equal_arms_are_called_different_in_at_most_five_of_a_hundred_sweeps() -> None:
    rng = np.random.default_rng(3)
    num_sweeps, num_workloads, false_claims = 600, 3, 0
    for _ in range(num_sweeps):
        p_values = [signed_rank_p(list(rng.standard_t(3, 8))) for _ in range(num_workloads)]
        false_claims += min(holm(p_values)) <= 0.05
    assert false_claims / num_sweeps <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / num_sweeps)


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, orchestrator.statistics; print({'numpy', 'scipy', 'torch', 'ray'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
