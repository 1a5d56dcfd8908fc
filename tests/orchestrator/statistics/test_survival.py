"""Kaplan-Meier and log-rank against a published example, scipy and twins that count."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from orchestrator.statistics import Measured, Pair, arrivals, log_rank_differences, log_rank_p, share_interval

INF = math.inf
# Freireich et al. (1963), as Gehan (1965) gives it: weeks of remission of matched pairs of patients under placebo and
# 6-mercaptopurine. False: still in remission.
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
TREATED = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
ENDED = [True, True, True, False, True, False, True, False, False, True, True] + [False] * 3 + [True] * 2 + [False] * 5
LEUKAEMIA = [
    Pair(Measured(float(placebo)), Measured(float(treated) if ended else INF, float(treated)))
    for placebo, treated, ended in zip(PLACEBO, TREATED, ENDED, strict=True)
]
CENSORED = scipy.stats.CensoredData(
    uncensored=[time for time, ended in zip(TREATED, ENDED, strict=True) if ended],
    right=[time for time, ended in zip(TREATED, ENDED, strict=True) if not ended],
)


class TestArrivals:
    def test_it_is_the_published_curve(self) -> None:
        found = arrivals([pair.arm for pair in LEUKAEMIA])
        assert list(found.times) == [6.0, 7.0, 10.0, 13.0, 16.0, 22.0, 23.0]
        assert [round(1 - share, 3) for share in found.share] == [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]
        assert found.num_waiting == (21, 17, 15, 12, 11, 7, 6)

    def test_it_is_scipys(self) -> None:
        expected = scipy.stats.ecdf(CENSORED).cdf
        found = arrivals([pair.arm for pair in LEUKAEMIA])
        assert found.share == pytest.approx(list(expected.evaluate(np.array(found.times))))

    def test_bands_are_exact_where_nothing_was_cut_off_before_and_wider_where_it_was(self) -> None:
        sides = [Measured(10.0, 40.0), Measured(30.0, 40.0), Measured(INF, 20.0), Measured(INF, 40.0)]
        found = arrivals(sides)
        assert (found.low[0], found.high[0]) == share_interval(1, 0, 4)
        assert (found.low[1], found.high[1]) == share_interval(2, 1, 4)

    def test_where_no_run_arrives_there_is_no_step(self) -> None:
        assert arrivals([Measured(INF, 40.0)] * 3).times == ()

    def test_a_run_that_diverged_waits_for_ever(self) -> None:
        assert arrivals([Measured(INF), Measured(5.0, 40.0)]).share == (0.5,)


class TestLogRank:
    def test_the_statistic_is_the_published_one_and_scipys(self) -> None:
        observed_less_expected = sum(log_rank_differences(LEUKAEMIA)) / 2
        assert observed_less_expected == pytest.approx(9 - 19.25, abs=0.001)
        # scipy's is in standard deviations, whose variance here is published as 6.257 (chi-square 16.79).
        statistic = scipy.stats.logrank(CENSORED, scipy.stats.CensoredData(uncensored=PLACEBO)).statistic
        assert statistic == pytest.approx(observed_less_expected / math.sqrt(6.257), rel=1e-3)

    def test_p_counts_the_swaps_within_pairs_that_are_as_extreme(self) -> None:
        pairs = LEUKAEMIA[3:11]

        def statistic(signs: tuple[bool, ...]) -> float:
            swapped = [Pair(p.arm, p.baseline) if s else p for p, s in zip(pairs, signs, strict=True)]
            return abs(sum(log_rank_differences(swapped)))

        found = [statistic(signs) for signs in itertools.product((False, True), repeat=len(pairs))]
        assert log_rank_p(pairs) == sum(value >= found[0] - 1e-9 for value in found) / len(found)

    def test_arms_that_both_always_miss_are_alike(self) -> None:
        assert log_rank_p([Pair(Measured(INF, 9.0), Measured(INF, 9.0))] * 8) == 1.0
