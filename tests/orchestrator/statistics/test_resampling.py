"""Sign flips and the bootstrap against scipy's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from orchestrator.statistics import bca_interval, sign_flip_p


@pytest.mark.parametrize("num_values", [2, 5, 8, 12])
def test_sign_flips_are_scipys_exact_permutations(num_values: int) -> None:
    values = np.random.default_rng(num_values).normal(0.5, 1.0, num_values)
    found = scipy.stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_p(list(values)) == pytest.approx(found.pvalue, abs=1e-12)


def test_ties_among_the_patterns_count_as_extreme() -> None:
    values = [0.1, 0.2, 0.3, -0.3, 0.1]
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in itertools.product((-1, 1), repeat=5)
    ]
    assert sign_flip_p(values) == sum(total >= 0.4 - 1e-9 for total in sums) / 32


def test_many_values_are_sampled_and_never_give_zero() -> None:
    values = list(np.random.default_rng(0).normal(0.4, 1.0, 30))
    assert sign_flip_p(values) == pytest.approx(scipy.stats.ttest_1samp(values, 0.0).pvalue, abs=0.02)
    assert sign_flip_p([1.0] * 40) == 1 / 65_537


@pytest.mark.parametrize("skewed", [False, True])
def test_bca_is_scipys(skewed: bool) -> None:
    rng = np.random.default_rng(5)
    values = rng.exponential(1.0, 25) if skewed else rng.normal(0.0, 1.0, 25)
    found = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1))
    low, high = found.confidence_interval
    assert bca_interval(list(values)) == pytest.approx((low, high), abs=0.04 * (high - low))


def test_below_twenty_values_there_is_no_bootstrap() -> None:
    with pytest.raises(ValueError, match="values must hold at least 20 for a bootstrap, hold 19"):
        bca_interval([1.0] * 19)


def test_values_that_are_all_alike_have_no_width() -> None:
    assert bca_interval([2.5] * 20) == (2.5, 2.5)
