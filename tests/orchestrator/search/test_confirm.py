"""The confirm grid: which learning rates every arm meets, when the grid grows, and what a configuration there is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import SpecError
from orchestrator.home.records import Trial, TrialConfig, TrialResult
from orchestrator.search.candidates import Candidates
from orchestrator.search.confirm import MOST_POINTS, Confirmation, confirm_configs, confirm_grids, confirmed
from orchestrator.search.counts import num_planned
from orchestrator.spec import SweepSpec, Workload
from tests.orchestrator.shared_specs import shared_spec
from tests.orchestrator.shared_sweeps import costing
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import complete, failed

Cost = Callable[[TrialConfig], int | None]


def spec_of(*overrides: str) -> SweepSpec:
    return tiny_spec("confirm.grid={}", "workloads.digits.optimizer.lr={loguniform: [0.01, 1.0]}", *overrides)


def searched(spec: SweepSpec, rates: dict[str, float], **nuisance: float) -> tuple[Trial, ...]:
    """One search trial for each arm, at a learning rate of its own."""
    trials = []
    for arm, rate in rates.items():
        workload, method = spec.workloads["digits"], spec.arms[arm]
        values = {**workload.corners()[0], **method.corners()[0], "optimizer.lr": rate, **nuisance}
        config = TrialConfig(
            workload="digits",
            arm=arm,
            phase="search",
            seeds=spec.search.seeds,
            training=Workload.model_validate(workload.concretise(values)),
            method=type(spec.example_of(arm)).model_validate(method.concretise(values)),
            objective=spec.search.objective,
            values=values,
            number=0,
        )
        trials.append(Trial(config=config, result=complete(config)))
    return tuple(trials)


def rate_of(config: TrialConfig) -> float:
    return float(config.training.optimizer.model_dump()["lr"])


def run_out(spec: SweepSpec, search: tuple[Trial, ...], cost: Cost) -> tuple[Trial, ...]:
    """Confirm until nothing more is asked for."""
    trials = search
    while True:
        begun = {trial.config.trial_id for trial in trials}
        new = [config for config in confirm_configs(Candidates(spec, trials)) if config.trial_id not in begun]
        if not new:
            return trials
        trials += tuple(Trial(config=config, result=costing(config, cost(config))) for config in new)


def bowl(best: float) -> Cost:
    """Steps that are fewest at a rate, and double in a factor of two."""
    return lambda config: 1 + round(4 * abs(math.log2(rate_of(config) / best)))


def rates_of(spec: SweepSpec, trials: tuple[Trial, ...]) -> list[float]:
    return [point.rate or 0.0 for point in confirm_grids(Candidates(spec, trials))["digits"].points]


class TestPoints:
    def test_where_the_arms_agree_there_is_one_step_on_either_side(self) -> None:
        spec = spec_of()
        assert rates_of(spec, searched(spec, {"baseline": 0.1, "teleport": 0.1})) == [0.07143, 0.1, 0.14]

    def test_it_goes_from_the_lowest_best_to_the_highest_and_one_step_beyond(self) -> None:
        spec = spec_of()
        found = rates_of(spec, searched(spec, {"baseline": 0.1, "teleport": 0.19}))
        assert found == [0.07143, 0.1, 0.14, 0.196, 0.2744]

    @given(low=st.floats(0.01, 1.0), high=st.floats(0.01, 1.0))
    def test_it_holds_both_bests_in_equal_steps_and_begins_with_nine_points_at_most(
        self, low: float, high: float
    ) -> None:
        spec = spec_of()
        found = rates_of(spec, searched(spec, {"baseline": low, "teleport": high}))
        ratios = [after / before for before, after in itertools.pairwise(found)]
        assert 3 <= len(found) <= MOST_POINTS
        assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=2e-3)
        assert ratios[0] >= 1.4 * (1 - 1e-3)
        assert found[1] <= min(low, high) * (1 + 1e-3)
        assert found[-2] >= max(low, high) * (1 - 1e-3)

    def test_what_is_written_is_taken(self) -> None:
        spec = spec_of("confirm.grid={values: [0.05, 0.2, 0.8]}")
        trials = searched(spec, {"baseline": 0.1, "teleport": 0.5})
        assert rates_of(spec, run_out(spec, trials, bowl(1.0))) == [0.05, 0.2, 0.8], "and does not grow"

    def test_without_a_rate_on_a_logarithmic_scale_the_points_are_what_the_arms_found(self) -> None:
        choice = "workloads.digits.optimizer={choice: [{name: sgd, lr: 0.1}, {name: adam, lr: 0.01}]}"
        spec = spec_of(choice)
        trials = []
        for arm, chosen in (("baseline", "sgd"), ("teleport", "adam")):
            (one,) = searched(spec, {arm: 0.1})
            values = {**one.config.values, "optimizer": chosen}
            values.pop("optimizer.lr")
            template = spec.workloads["digits"]
            label = next(d for d in template.distributions() if d.name == "optimizer")
            values["optimizer"] = label.labels[("sgd", "adam").index(chosen)]  # type: ignore[union-attr]
            training = Workload.model_validate(template.concretise(values))
            plain = {name: getattr(one.config, name) for name in TrialConfig.model_fields}
            config = TrialConfig(**{**plain, "training": training, "values": values})
            trials.append(Trial(config=config, result=complete(config)))
        grid = confirm_grids(Candidates(spec, tuple(trials)))["digits"]
        assert [point.training.optimizer.name for point in grid.points] == ["sgd", "adam"]
        assert [point.rate for point in grid.points] == [None, None]
        assert len(confirm_configs(Candidates(spec, tuple(trials)))) == 2 * 2 * 2

    def test_none_confirms_each_arm_as_its_search_found_it(self) -> None:
        spec = spec_of("confirm.grid=none")
        trials = searched(spec, {"baseline": 0.1, "teleport": 0.2})
        assert confirm_grids(Candidates(spec, trials)) == {}
        assert sorted({(c.arm, rate_of(c)) for c in confirm_configs(Candidates(spec, trials))}) == [
            ("baseline", 0.1),
            ("teleport", 0.2),
        ]


class TestGrowth:
    def test_it_grows_while_an_arm_is_best_at_its_end(self) -> None:
        spec = spec_of()
        trials = run_out(spec, searched(spec, {"baseline": 0.1, "teleport": 0.1}), bowl(0.2))
        assert rates_of(spec, trials) == [0.07143, 0.1, 0.14, 0.196, 0.2744]
        grid = confirm_grids(Candidates(spec, trials))["digits"]
        assert {arm: grid.points[grid.best_place(arm)].rate for arm in grid.best} == {
            "baseline": 0.196,
            "teleport": 0.196,
        }
        assert grid.edges == ((), ())

    @pytest.mark.parametrize(("best", "end"), [(9.0, -1), (0.001, 0)])
    def test_it_ends_one_step_beyond_what_was_searched(self, best: float, end: int) -> None:
        spec = spec_of()
        trials = run_out(spec, searched(spec, {"baseline": 0.1, "teleport": 0.1}), bowl(best))
        rates = rates_of(spec, trials)
        beyond = [rate for rate in rates if not 0.01 <= rate <= 1.0]
        assert beyond == [rates[end]]
        grid = confirm_grids(Candidates(spec, trials))["digits"]
        assert grid.edges[end] == ("baseline", "teleport")

    def test_it_does_not_grow_before_everything_has_ended(self) -> None:
        spec = spec_of()
        search = searched(spec, {"baseline": 0.1, "teleport": 0.1})
        configs = confirm_configs(Candidates(spec, search))
        known = tuple(Trial(config=c, result=costing(c, bowl(0.2)(c))) for c in configs[:-1])
        assert len(rates_of(spec, (*search, *known))) == 3
        assert confirm_configs(Candidates(spec, (*search, *known))) == configs

    def test_an_arm_that_always_misses_asks_for_nothing_more(self) -> None:
        spec = spec_of()
        trials = run_out(spec, searched(spec, {"baseline": 0.1, "teleport": 0.1}), lambda config: None)
        assert len(rates_of(spec, trials)) == 3
        grid = confirm_grids(Candidates(spec, trials))["digits"]
        assert [grid.points[grid.best_place(arm)].rate for arm in grid.best] == [0.1, 0.1]


class TestConfigurations:
    def test_every_arm_runs_with_its_own_settings_at_every_rate_and_seed(self) -> None:
        spec = spec_of("arms.random={random_move: {}}")
        trials = searched(spec, {"baseline": 0.1, "teleport": 0.19})
        configs = confirm_configs(Candidates(spec, trials))
        assert len(configs) == len({config.trial_id for config in configs}) == 2 * 5 * 2
        for config in configs:
            assert config.values["optimizer.lr"] == rate_of(config)
            assert config.origin == next(t.config.trial_id for t in trials if t.config.arm == config.arm)
        methods = {config.arm: config.method for config in configs}
        assert methods == {trial.config.arm: trial.config.method for trial in trials}

    def test_arms_take_turns_and_every_other_seed_is_turned_round(self) -> None:
        spec = spec_of("confirm.seeds=3")
        configs = confirm_configs(Candidates(spec, searched(spec, {"baseline": 0.1, "teleport": 0.1})))
        turns = [[(c.arm, rate_of(c)) for c in configs if c.seeds == (seed,)] for seed in spec.confirm_seeds]
        assert [seed for c in configs for seed in c.seeds] == [seed for seed in spec.confirm_seeds for _ in range(6)]
        assert [arm for arm, _ in turns[0]] == ["baseline", "teleport"] * 3
        assert turns[1] == turns[0][::-1]
        assert turns[2] == turns[0]

    def test_other_parameters_are_those_of_the_nearest_best(self) -> None:
        momentum = (
            "workloads.digits.optimizer={name: momentum, lr: {loguniform: [0.01, 1]}, momentum: {uniform: [0.1, 0.95]}}"
        )
        spec = spec_of(momentum)
        (slow,) = searched(spec, {"baseline": 0.05}, **{"optimizer.momentum": 0.9})
        (fast,) = searched(spec, {"teleport": 0.4}, **{"optimizer.momentum": 0.2})
        grid = confirm_grids(Candidates(spec, (slow, fast)))["digits"]
        found = {point.rate: point.values["optimizer.momentum"] for point in grid.points}
        assert set(found.values()) == {0.9, 0.2}
        assert all((found[rate] == 0.9) == (rate < math.sqrt(0.05 * 0.4)) for rate in found if rate is not None)

    def test_further_candidates_run_as_they_were_found(self) -> None:
        spec = spec_of("confirm.top_k=2", "arms={}")
        (best,) = searched(spec, {"baseline": 0.1})
        (second,) = searched(spec, {"baseline": 0.3})
        plain = {name: getattr(second.config, name) for name in TrialConfig.model_fields}
        config = TrialConfig(**{**plain, "number": 1})
        second = Trial(config=config, result=complete(config, 0.9))
        rates = [rate_of(config) for config in confirm_configs(Candidates(spec, (best, second)))]
        assert sorted(set(rates)) == [0.07143, 0.1, 0.14, 0.3]

    def test_the_candidate_of_the_report_is_the_champion_at_its_best_point(self) -> None:
        spec = spec_of()
        search = searched(spec, {"baseline": 0.1, "teleport": 0.1})
        candidates = Candidates(spec, run_out(spec, search, bowl(0.14)))
        found = confirmed(candidates, confirm_grids(candidates))
        for arm in ("baseline", "teleport"):
            (trial,) = found["digits", arm]
            assert (rate_of(trial.config), trial.config.values["optimizer.lr"]) == (0.14, 0.14)
            assert trial.result is not None
            assert trial.result.trial_id == next(t.config.trial_id for t in search if t.config.arm == arm)

    def test_a_shared_candidate_is_confirmed_with_the_factor_that_makes_the_rate(self) -> None:
        spec = shared_spec("confirm.grid={}", "search.trials=1")
        trials = []
        for workload, tuned in (("narrow", 0.1), ("wide", 0.05)):
            template = spec.workloads[workload]
            values = {**template.corners()[0], "optimizer.lr": tuned}
            training = Workload.model_validate(template.concretise(values))
            config = TrialConfig(
                workload=workload,
                arm="baseline",
                phase="search",
                seeds=spec.search.seeds,
                training=training,
                method=spec.example_of("baseline"),
                objective=spec.search.objective,
                values=values,
                number=0,
            )
            trials.append(Trial(config=config, result=costing(config, 4)))
        candidates = Candidates(spec, tuple(trials))
        grids = confirm_grids(candidates)
        assert {workload: grid.points[1].rate for workload, grid in grids.items()} == {"narrow": 0.1, "wide": 0.05}


class TestConfirmation:
    def test_it_hands_out_each_trial_once_and_grows_when_asked(self) -> None:
        spec = spec_of()
        trials = searched(spec, {"baseline": 0.1, "teleport": 0.1})
        confirmation = Confirmation(Candidates(spec, trials))
        assert confirmation.num_planned == {("digits", "baseline"): 6, ("digits", "teleport"): 6}
        handed: list[TrialConfig] = []
        while True:
            while (config := confirmation.propose()) is not None:
                handed.append(config)
                trials += (Trial(config=config, result=costing(config, bowl(0.2)(config))),)
            confirmation.grow(Candidates(spec, trials))
            if confirmation.is_settled:
                break
        assert confirmation.is_exhausted
        assert len(handed) == len({config.trial_id for config in handed}) == 20
        again = Confirmation(Candidates(spec, trials))
        assert (again.is_exhausted, again.is_settled) == (True, True), "after a resume nothing runs again"

    def test_what_was_cut_off_runs_again(self) -> None:
        spec = spec_of()
        search = searched(spec, {"baseline": 0.1, "teleport": 0.1})
        first = confirm_configs(Candidates(spec, search))[0]
        assert Confirmation(Candidates(spec, (*search, Trial(config=first)))).propose() == first


def test_a_divergence_is_as_bad_as_a_miss_and_a_crash_is_no_answer() -> None:
    spec = spec_of("arms={}")

    def answer(kind: str) -> Callable[[TrialConfig], TrialResult]:
        def result(config: TrialConfig) -> TrialResult:
            is_bad = rate_of(config) > 0.12 and config.seeds == (spec.confirm_seeds[0],)
            return failed(config, kind) if is_bad else costing(config, 4)

        return result

    means = {}
    for kind in ("diverged", "crashed"):
        search = searched(spec, {"baseline": 0.1})
        configs = confirm_configs(Candidates(spec, search))
        trials = (*search, *(Trial(config=config, result=answer(kind)(config)) for config in configs))
        means[kind] = confirm_grids(Candidates(spec, trials))["digits"].mean_log_steps["baseline"][2]
    assert means["crashed"] == pytest.approx(math.log(4))
    assert means["diverged"] == pytest.approx((math.log(4) + math.log(20)) / 2)


def test_the_plan_counts_the_points_that_are_usual() -> None:
    assert num_planned(spec_of(), "digits", "teleport", "confirm") == 5 * 2
    assert num_planned(spec_of("confirm.grid={values: [0.1, 0.2]}"), "digits", "teleport", "confirm") == 2 * 2
    assert num_planned(spec_of("confirm.grid=none"), "digits", "teleport", "confirm") == 2
    assert num_planned(spec_of("confirm.top_k=2"), "digits", "baseline", "confirm") == 6 * 2


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            "{values: [0.1, 2.0]}",
            r"confirm\.grid\.values: 2 is outside of what workload digits searches, optimizer\.lr",
        ),
        ("{values: [0.2, 0.1]}", r"confirm\.grid.*values must rise, are \[0\.2, 0\.1\]"),
        (
            "{parameter: optimizer.lrr}",
            r"confirm\.grid\.parameter: workload digits searches no 'optimizer\.lrr'.*optimizer\.lr",
        ),
        ("{factor: 1.0}", r"confirm\.grid.*factor: must be greater than 1"),
        ("often", r"confirm\.grid"),
    ],
)
def test_what_a_grid_cannot_be_is_told(grid: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec_of(f"confirm.grid={grid}")


def test_no_more_candidates_are_confirmed_than_are_tried() -> None:
    with pytest.raises(SpecError, match=r"confirm\.top_k: must be at most search\.trials, which is 3, and is 4"):
        spec_of("confirm.top_k=4")


def test_a_fixed_rate_meets_a_written_grid_without_any_search() -> None:
    grid = "confirm.grid={values: [0.05, 0.1, 0.2]}"
    spec = spec_of("workloads.digits.optimizer.lr=0.1", grid, "arms={}")
    (trial,) = searched(spec, {"baseline": 0.1})
    plain = {name: getattr(trial.config, name) for name in TrialConfig.model_fields}
    config = TrialConfig(**{**plain, "values": {}})
    trial = Trial(config=config, result=complete(config))
    configs = confirm_configs(Candidates(spec, (trial,)))
    assert sorted({rate_of(config) for config in configs}) == [0.05, 0.1, 0.2]
    assert {tuple(config.values) for config in configs} == {()}
    with pytest.raises(SpecError, match=r"confirm\.grid\.values: workload digits has no one optimizer\.momentum"):
        spec_of("confirm.grid={parameter: optimizer.momentum, values: [0.5]}")
