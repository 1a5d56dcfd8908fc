"""Estimators against closed forms, scipy, dense twins that count every case, and simulation."""

from __future__ import annotations

import itertools
import math
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
    holm_levels,
    paired_effect,
    paired_interval,
    probability_of_improvement,
    rank_correlation,
    seeds_needed,
    share_interval,
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

    @given(st.lists(st.integers(1, 256).map(lambda k: k / 256), min_size=1, max_size=6), st.integers(0, 3))
    def test_the_interval_of_a_decision_agrees_with_its_adjusted_p(self, p_values: list[float], others: int) -> None:
        for p, decision in zip(p_values, holm_levels(p_values, len(p_values) + others), strict=True):
            assert (p <= decision.alpha) == (decision.p_adjusted <= 0.05)
            assert (decision.method == "bonferroni") == (decision.alpha == 0.05 / (len(p_values) + others))

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

    def test_with_hundreds_of_pairs_it_is_nearly_scipys_exact_test(self) -> None:
        differences = np.random.default_rng(0).normal(0.12, 1.0, 300)
        expected = scipy.stats.wilcoxon(differences, method="exact").pvalue
        assert 0.01 < signed_rank_p(list(differences)) == pytest.approx(expected, rel=0.01)

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


def censored_pairs(steps: Sequence[tuple[float, float]], budget: float) -> list[Pair]:
    """Pairs of a sweep whose runs end at ``budget``."""

    def cut(value: float) -> Measured:
        return Measured(value if value <= budget else INF, budget)

    return [Pair(cut(baseline), cut(arm)) for baseline, arm in steps]


class TestPairedEffect:
    def test_a_constant_factor_is_found_exactly(self) -> None:
        pairs = censored_pairs([(b, 0.8 * b) for b in (100, 110, 130, 90, 95, 120, 105, 150)], 1e9)
        effect = paired_effect(pairs, "ratio")
        assert [effect.estimate, *paired_interval(pairs, "ratio")] == pytest.approx([0.8, 0.8, 0.8])
        assert (effect.direction, effect.p, effect.probability_of_improvement) == (-1, smallest_p(8), 1.0)

    def test_pairs_that_both_miss_show_nothing(self) -> None:
        pairs = censored_pairs([(500, 500)] * 8, 400)
        effect = paired_effect(pairs, "ratio")
        assert (effect.p, effect.num_ties, effect.direction) == (1.0, 8, 0)
        assert paired_interval(pairs, "ratio") == (0.0, INF)
        assert effect.smallest_effect == INF

    def test_a_pair_that_both_miss_does_not_open_the_interval_of_those_that_agree(self) -> None:
        pairs = censored_pairs([(500, 500), *((b, 0.8 * b) for b in (200, 210, 230, 290, 195, 220, 250))], 400)
        effect = paired_effect(pairs, "ratio")
        assert (effect.p, effect.num_ties) == (smallest_p(7), 1)
        assert paired_interval(pairs, "ratio") == pytest.approx((0.8, 0.8))

    def test_a_pair_that_both_miss_takes_no_part_in_what_could_have_been_seen(self) -> None:
        known = [
            (b, factor * b)
            for b, factor in zip(range(200, 280, 10), (0.7, 0.8, 0.9, 1.0, 1.1, 0.75, 0.85, 0.95), strict=True)
        ]
        alone = paired_effect(censored_pairs(known, 400), "ratio")
        beside = paired_effect(censored_pairs([*known, (500, 500), (600, 600)], 400), "ratio")
        assert 1.0 < alone.smallest_effect < INF
        assert beside.smallest_effect == alone.smallest_effect

    @pytest.mark.parametrize("missed", [(300, 500), (500, 300), (500, 500)])
    def test_a_miss_leaves_no_mean(self, missed: tuple[int, int]) -> None:
        known = [(200 + i, 180 + 2 * i) for i in range(20)]
        whole = paired_effect(censored_pairs(known, 400), "ratio")
        assert whole.mean is not None
        assert whole.mean_interval is not None
        assert whole.mean_interval[0] < whole.mean < whole.mean_interval[1]
        cut = paired_effect(censored_pairs([*known, missed], 400), "ratio")
        assert (cut.mean, cut.mean_interval) == (None, None)

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_a_p_of_exactly_alpha_rejects(self, sign: float) -> None:
        pairs = [Pair(Measured(0.0), Measured(sign * i)) for i in (1.0, 2.0, 4.0, 8.0, 16.0)]
        assert paired_effect(pairs, "difference").p == 0.0625
        low, high = paired_interval(pairs, "difference", 0.0625)
        assert sorted([abs(low), abs(high)]) == [1.0, 16.0]
        assert paired_interval(pairs, "difference", 0.0624) == (-INF, INF)

    def test_a_probability_has_a_lower_and_an_upper_end(self) -> None:
        pairs = censored_pairs([(100, 90), (100, 110), (100, 90), (100, 95)], 400)
        low, high = paired_effect(pairs, "ratio").probability_interval
        assert (low, high) == share_interval(3, 0, 4)
        assert low < 0.75 < high

    def test_a_baseline_that_always_misses_leaves_an_upper_bound(self) -> None:
        pairs = censored_pairs([(500, arm) for arm in range(200, 280, 10)], 400)
        effect = paired_effect(pairs, "ratio")
        assert (effect.p, effect.estimate) == (smallest_p(8), 0.0)
        # A factor of .63 would leave six of the arm's runs within the shifted budget, enough for p = .031.
        assert paired_interval(pairs, "ratio") == pytest.approx((0.0, 250 / 400))

    def test_an_arm_that_misses_opens_the_interval_upwards(self) -> None:
        pairs = censored_pairs([(b, 500) for b in range(200, 280, 10)], 400)
        effect = paired_effect(pairs, "ratio")
        assert (effect.direction, effect.estimate) == (1, INF)
        assert paired_interval(pairs, "ratio") == pytest.approx((400 / 250, INF))

    def test_differences_keep_their_unit(self) -> None:
        pairs = [Pair(Measured(0.90), Measured(0.90 + 0.01 * i)) for i in range(1, 9)]
        effect = paired_effect(pairs, "difference", higher_is_better=True)
        assert effect.estimate == pytest.approx(0.045)
        assert effect.probability_of_improvement == 1.0

    def test_zero_is_infinitely_less_than_anything_and_ties_with_itself(self) -> None:
        zero, one = Measured(0.0), Measured(1.0)
        assert Pair(one, zero).difference("ratio") == -INF
        assert Pair(zero, zero).difference("ratio") == 0.0

    def test_no_pair_is_refused(self) -> None:
        with pytest.raises(ValueError, match="pairs must hold at least one pair, holds none"):
            paired_effect([], "ratio")

    @given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=9))
    @settings(max_examples=60, deadline=None)
    def test_swapping_the_arms_inverts_the_ratio(self, steps: list[tuple[int, int]]) -> None:
        pairs, swapped = censored_pairs(steps, 10), censored_pairs([(a, b) for b, a in steps], 10)
        there, back = paired_effect(pairs, "ratio"), paired_effect(swapped, "ratio")
        assert there.p == back.p
        assert there.direction == -back.direction
        low, high = paired_interval(pairs, "ratio")
        mirrored = tuple(INF if end == 0.0 else 1.0 / end for end in reversed(paired_interval(swapped, "ratio")))
        assert (low, high) == pytest.approx(mirrored)
        assert there.probability_of_improvement == pytest.approx(1.0 - back.probability_of_improvement)
        assert low <= there.estimate <= high


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
    assert probability_of_improvement(pairs) == ((2 + 0.5 + 0.5) / 5, *share_interval(2, 2, 5))
    assert probability_of_improvement(pairs, higher_is_better=True) == ((1 + 0.5 + 0.5) / 5, *share_interval(1, 2, 5))


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


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, orchestrator.statistics; print({'numpy', 'scipy', 'torch', 'ray'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
