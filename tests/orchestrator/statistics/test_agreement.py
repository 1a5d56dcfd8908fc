"""Kendall's W and tau against scipy, enumeration and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from orchestrator.statistics import concordance, rank_agreement, rank_agreement_interval

TIED = st.lists(st.integers(0, 5), min_size=3, max_size=9)


class TestConcordance:
    @given(st.integers(0, 1_000), st.integers(3, 5), st.integers(3, 9), st.booleans())
    def test_it_is_friedmans_statistic_over_its_largest_value(self, seed: int, m: int, n: int, tied: bool) -> None:
        rng = np.random.default_rng(seed)
        costs = rng.integers(0, 9, (m, n)).astype(float) if tied else rng.normal(size=(m, n))
        if any(len(set(row)) < 2 for row in costs):
            return
        found = concordance(costs.tolist())
        assert found is not None
        assert found.w == pytest.approx(stats.friedmanchisquare(*costs.T).statistic / (m * (n - 1)))

    def test_the_ends_of_the_scale(self) -> None:
        same = concordance([[1, 2, 3, 4, 5]] * 3)
        opposite = concordance([[1, 2, 3], [3, 2, 1]])
        assert same is not None
        assert opposite is not None
        assert [same.w, opposite.w] == pytest.approx([1.0, 0.0])
        assert same.p == pytest.approx(1 / 120**2)
        assert opposite.p == 1.0

    @pytest.mark.parametrize(("num_subjects", "method"), [(7, "exact"), (8, "permutation")])
    def test_up_to_seven_subjects_every_arrangement_is_counted(self, num_subjects: int, method: str) -> None:
        found = concordance([range(num_subjects)] * 2)
        assert found is not None
        assert (found.w, found.method) == (1.0, method)
        if method == "exact":
            assert found.p == 1 / math.factorial(num_subjects)

    def test_exact_p_by_enumerating_both_judges(self) -> None:
        costs = np.array([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0, 4.0]])
        observed = ((costs.sum(axis=0) - 5.0) ** 2).sum()
        orders = list(itertools.permutations([1.0, 2.0, 3.0, 4.0]))
        sums = [np.array(a) + np.array(b) for a in orders for b in orders]
        found = concordance(costs.tolist())
        assert found is not None
        assert found.method == "exact"
        assert found.p == pytest.approx(np.mean([((s - 5.0) ** 2).sum() >= observed - 1e-9 for s in sums]))

    def test_drawn_p_is_close_to_friedmans_for_many_judges(self) -> None:
        """With few judges the chi-square is known to be conservative, so that it is no yardstick there."""
        rng = np.random.default_rng(3)
        costs = rng.normal(size=(40, 8)) + 0.25 * rng.normal(size=8)
        found = concordance(costs.tolist())
        assert found is not None
        assert found.method == "permutation"
        assert found.p == pytest.approx(stats.friedmanchisquare(*costs.T).pvalue, abs=0.02)

    def test_a_judge_without_an_order_leaves_nothing_to_measure(self) -> None:
        assert concordance([[1, 1, 1], [1, 2, 3]]) is None

    def test_one_judge_is_too_few(self) -> None:
        with pytest.raises(ValueError, match="at least two judges and two subjects, was given 1 and 3"):
            concordance([[1, 2, 3]])


class TestRankAgreement:
    @given(TIED, st.randoms())
    def test_it_is_scipys(self, xs: list[int], random: object) -> None:
        ys = list(xs)
        random.shuffle(ys)  # type: ignore[attr-defined]
        expected = stats.kendalltau(xs, ys).statistic
        found = rank_agreement(xs, ys)
        if np.isnan(expected):
            assert found is None
        else:
            assert found == pytest.approx(expected)

    def test_no_interval_below_twenty_subjects(self) -> None:
        xs = list(range(19))
        assert rank_agreement_interval(xs, xs) is None
        assert list(rank_agreement_interval([*xs, 19], [*xs, 19]) or ()) == pytest.approx([1.0, 1.0])
        assert rank_agreement_interval([1.0] * 30, list(range(30))) is None

    def test_a_resample_is_scipys_tau_of_the_repeated_subjects(self) -> None:
        from orchestrator.statistics.agreement import _signs, _taus

        rng = np.random.default_rng(5)
        xs, ys = rng.integers(0, 8, 25), rng.integers(0, 8, 25)
        drawn = rng.integers(0, 25, 25)
        counts = np.bincount(drawn, minlength=25).astype(float)[None]
        expected = stats.kendalltau(xs[drawn], ys[drawn]).statistic
        assert _taus(*_signs(xs.tolist(), ys.tolist()), counts)[0] == pytest.approx(expected)

    def test_the_interval_holds_the_true_tau_about_as_often_as_it_says(self) -> None:
        """Normal pairs of correlation .6: tau = 2 arcsin(.6) / pi. Measured over 600 samples: 96 %."""
        rng = np.random.default_rng(11)
        truth = 2.0 / np.pi * np.arcsin(0.6)
        held = 0
        for _ in range(40):
            xs = rng.normal(size=25)
            ys = 0.6 * xs + 0.8 * rng.normal(size=25)
            ends = rank_agreement_interval(xs.tolist(), ys.tolist())
            assert ends is not None
            held += ends[0] <= truth <= ends[1]
        assert held >= 34
