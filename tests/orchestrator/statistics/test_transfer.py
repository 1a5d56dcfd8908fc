"""Regret, one setting for all, leaving one workload out: against worked examples and obvious twins."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from orchestrator.statistics import (
    ComparedSetting,
    Cost,
    Measured,
    Pair,
    SettingTable,
    against_baseline,
    cost_ratio,
    leave_one_out,
    paired_effect,
    paired_interval,
    regret_of,
    shared_settings,
)

WORKLOADS = ("mlp", "cnn", "vit")


def runs(*values: float, limit: float = 400.0) -> dict[int, Cost]:
    """Runs on seeds 1000, 1001, …; infinity is a miss."""
    made = (Cost.of_miss(limit) if math.isinf(value) else Cost(value, limit) for value in values)
    return dict(enumerate(made, start=1000))


def table(costs: dict[str, dict[str, dict[int, Cost]]], baseline: float = 100.0) -> SettingTable:
    """Settings that are called after the workload on which they were tuned."""
    workloads = tuple(costs)
    return SettingTable(
        workloads=workloads,
        settings=tuple(ComparedSetting(of, f"from {of}", sources=frozenset({of})) for of in workloads),
        costs={(of, on): found for on, by in costs.items() for of, found in by.items()},
        baseline={on: runs(baseline, baseline) for on in workloads},
        own={on: on for on in workloads},
    )


def drawn(seed: int, num_seeds: int = 6) -> SettingTable:
    draw = random.Random(seed)

    def value() -> float:
        return math.inf if draw.random() < 0.1 else draw.uniform(40.0, 400.0)

    base = table({on: {of: runs(*(value() for _ in range(num_seeds))) for of in WORKLOADS} for on in WORKLOADS})
    return SettingTable(
        base.workloads,
        base.settings,
        base.costs,
        {on: runs(*(value() for _ in range(num_seeds))) for on in WORKLOADS},
        base.own,
    )


def mean_ratio(table: SettingTable, setting: str, workload: str, other: dict[int, float]) -> float:
    """The twin: an array of logarithms, misses at 800."""
    costs = np.array([table.costs[setting, workload][seed].value for seed in other])
    return float(np.exp(np.mean(np.log(costs / np.array(list(other.values()))))))


def values_of(found: object) -> dict[int, float]:
    return {seed: cost.value for seed, cost in found.items()}  # type: ignore[attr-defined]


class TestCosts:
    def test_a_miss_costs_twice_its_budget_and_is_no_number_to_a_test(self) -> None:
        missed = Cost.of_miss(400.0)
        assert (missed.value, missed.is_miss) == (800.0, True)
        assert missed.measured == Measured(math.inf, 400.0)
        assert Cost(120.0, 400.0).measured == Measured(120.0, 400.0)

    def test_a_ratio_is_within_seeds(self) -> None:
        assert cost_ratio(runs(50.0, 200.0), runs(100.0, 100.0)) == pytest.approx(1.0)
        assert cost_ratio({1: Cost(50.0)}, {1: Cost(100.0), 2: Cost(1.0)}) == pytest.approx(0.5)
        assert cost_ratio({1: Cost(50.0)}, {2: Cost(1.0)}) is None


class TestRegret:
    def test_a_worked_example(self) -> None:
        """The own setting takes 100 on each seed; the other 110 on one, 440 = 4.4 times on the next, once missed."""
        made = table({"mlp": {"mlp": runs(100, 100, 100), "cnn": runs(110, 440, math.inf, limit=450)}, "cnn": {}})
        found = regret_of(made, "cnn", "mlp")
        assert found is not None
        assert found.ratio == pytest.approx((1.1 * 4.4 * 9.0) ** (1 / 3))
        assert (found.num_misses, found.num_own_misses, found.seeds) == (1, 0, (1000, 1001, 1002))

    @pytest.mark.parametrize("seed", range(5))
    def test_estimate_and_interval_are_those_of_the_paired_comparison(self, seed: int) -> None:
        made = drawn(seed, num_seeds=8)
        for setting, workload in itertools.permutations(WORKLOADS, 2):
            found = regret_of(made, setting, workload)
            assert found is not None
            here, own = made.costs[setting, workload], made.costs[workload, workload]
            pairs = [Pair(own[s].measured, here[s].measured) for s in here]
            assert found.estimate == paired_effect(pairs, "ratio").estimate
            assert (found.low, found.high) == paired_interval(pairs, "ratio")
            assert found.ratio == pytest.approx(mean_ratio(made, setting, workload, values_of(own)))

    def test_the_own_setting_has_none(self) -> None:
        found = regret_of(drawn(0), "cnn", "cnn")
        assert found is not None
        assert found.ratio == found.estimate == 1.0

    def test_without_a_common_seed_or_an_own_setting_there_is_none(self) -> None:
        made = table({"mlp": {"mlp": runs(100), "cnn": {7: Cost(90.0)}}, "cnn": {}})
        assert regret_of(made, "cnn", "mlp") is None
        assert regret_of(made, "mlp", "cnn") is None
        assert regret_of(SettingTable(("mlp",), made.settings, made.costs, made.baseline, {}), "mlp", "mlp") is None


class TestShared:
    @pytest.mark.parametrize("seed", range(5))
    def test_against_the_obvious_twin(self, seed: int) -> None:
        made = drawn(seed)
        ratios = {
            (of, on): mean_ratio(made, of, on, values_of(made.baseline[on])) for of in WORKLOADS for on in WORKLOADS
        }
        regrets = {
            (of, on): mean_ratio(made, of, on, values_of(made.costs[on, on])) for of in WORKLOADS for on in WORKLOADS
        }
        found = shared_settings(made)
        assert [each.geometric_mean for each in found] == sorted(each.geometric_mean for each in found)
        for each in found:
            of = each.setting
            assert each.geometric_mean == pytest.approx(np.prod([ratios[of, on] for on in WORKLOADS]) ** (1 / 3))
            assert each.worst == pytest.approx(max(ratios[of, on] for on in WORKLOADS))
            assert ratios[of, each.worst_on] == pytest.approx(each.worst)
            assert each.regret == pytest.approx(np.prod([regrets[of, on] for on in WORKLOADS]) ** (1 / 3))
            assert each.worst_regret == pytest.approx(max(regrets[of, on] for on in WORKLOADS))
            assert regrets[of, each.worst_regret_on] == pytest.approx(each.worst_regret)

    def test_a_setting_that_did_not_run_everywhere_is_none_for_all(self) -> None:
        costs = {on: {of: runs(90.0, 95.0) for of in ("mlp", "cnn")} for on in ("mlp", "cnn")}
        del costs["mlp"]["cnn"]
        assert [each.setting for each in shared_settings(table(costs))] == ["mlp"]


class TestLeaveOneOut:
    def test_a_worked_example(self) -> None:
        """Left out mlp: of cnn's and vit's settings, vit's has the smaller mean, and cnn's the smaller worst case."""
        costs = {
            "mlp": {of: runs(100.0, 100.0) for of in WORKLOADS},
            "cnn": {"mlp": runs(10.0, 10.0), "cnn": runs(90.0, 90.0), "vit": runs(120.0, 120.0)},
            "vit": {"mlp": runs(10.0, 10.0), "cnn": runs(110.0, 110.0), "vit": runs(50.0, 50.0)},
        }
        by_mean, *_ = leave_one_out(table(costs))
        assert (by_mean.workload, by_mean.setting, by_mean.num_candidates) == ("mlp", "vit", 2)
        assert by_mean.others == pytest.approx(math.sqrt(1.2 * 0.5))
        by_worst, *_ = leave_one_out(table(costs), "worst")
        assert by_worst.setting == "cnn"
        assert by_worst.others == pytest.approx(1.1)

    @pytest.mark.parametrize("seed", range(5))
    def test_the_choice_never_depends_on_the_workload_left_out(self, seed: int) -> None:
        made = drawn(seed)
        for found in leave_one_out(made):
            out = found.workload
            blind = {(of, on): runs(*([1.0] * 6)) if on == out else costs for (of, on), costs in made.costs.items()}
            again = SettingTable(made.workloads, made.settings, blind, made.baseline, made.own)
            assert found in leave_one_out(again)
            assert found.setting != out

    def test_what_shares_its_architecture_is_left_out_with_a_workload(self) -> None:
        """cnn and vit are of one kind: mlp's setting is all that is left for them, and chosen on mlp alone."""
        costs = {on: {of: runs(*([50.0 + 10 * len(on + of)] * 2)) for of in WORKLOADS} for on in WORKLOADS}
        costs["mlp"]["cnn"] = runs(20.0, 20.0)
        groups = {"mlp": "dense", "cnn": "square", "vit": "square"}
        found = {each.workload: each for each in leave_one_out(table(costs), groups=groups)}
        assert {workload: (each.setting, each.num_candidates) for workload, each in found.items()} == {
            "mlp": ("cnn", 2),
            "cnn": ("mlp", 1),
            "vit": ("mlp", 1),
        }
        assert found["cnn"].others == pytest.approx(1.1)
        alone = {each: each for each in WORKLOADS}
        assert leave_one_out(table(costs), groups=alone) == leave_one_out(table(costs))

    def test_one_that_others_found_too_is_a_candidate(self) -> None:
        costs = {on: {of: runs(90.0, 95.0) for of in ("mlp", "cnn")} for on in ("mlp", "cnn")}
        made = table(costs)
        both = (ComparedSetting("mlp", "from both", sources=frozenset({"mlp", "cnn"})),)
        found = leave_one_out(SettingTable(made.workloads, both, made.costs, made.baseline, {}))
        assert [(each.workload, each.setting) for each in found] == [("mlp", "mlp"), ("cnn", "mlp")]

    def test_what_did_not_run_on_the_others_is_no_candidate(self) -> None:
        costs = {on: {on: runs(90.0, 95.0)} for on in ("mlp", "cnn", "vit")}
        assert leave_one_out(table(costs)) == ()


def test_against_the_baseline() -> None:
    made = table({"mlp": {"mlp": runs(50.0, 200.0)}, "cnn": {}})
    assert against_baseline(made, "mlp", "mlp") == pytest.approx(1.0)
    assert against_baseline(made, "mlp", "cnn") is None
