"""What a careful reader would object to, each lint by a sweep that deserves it and one that does not."""

from __future__ import annotations

import pytest

from orchestrator.home.records import Trial, TrialConfig
from orchestrator.search.candidates import Candidates
from orchestrator.search.early_stopping import pruned_result
from orchestrator.search.lints import lints, spec_lints
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import complete, config, failed, row

CLEAN = tiny_spec("search.trials=16", "search.objective.metric=train_loss")


def record(*trials: Trial) -> Candidates:
    return Candidates(CLEAN, trials)


def searched(lr: float, value: float, number: int = 0) -> Trial:
    of = config(lr=lr, number=number)
    return Trial(config=of, result=complete(of, value))


def test_a_sound_spec_has_none() -> None:
    assert spec_lints(CLEAN) == []


def test_arms_that_can_do_nothing_here_are_told() -> None:
    reset = tiny_spec("search.trials=16", "arms.reset={state_reset: {}}")
    assert spec_lints(reset) == ["digits/reset: plain sgd keeps no state, so this arm does the same as the baseline"]
    momentum = tiny_spec("search.trials=16", "arms.r={state_reset: {}}", "workloads.digits.optimizer.momentum=0.9")
    assert spec_lints(momentum) == []


def test_a_symmetry_without_its_conditions_is_told() -> None:
    def told(*overrides: str) -> list[str]:
        return spec_lints(tiny_spec("search.trials=16", *overrides))

    assert told("arms.s={symmetry: {}}") == [
        "digits/s: relu has no inverse, so the symmetry moves nothing; use leaky_relu or tanh"
    ]
    tanh = "workloads.digits.model={name: mlp, widths: [32, 16], activation: tanh}"
    assert told("arms.s={symmetry: {}}", tanh) == [
        "digits/s: a batch of 128 is larger than the width 32, so the symmetry does not keep the loss; give it a "
        "smaller batch_size"
    ]
    assert told("arms.s={symmetry: {batch_size: 32}}", tanh) == []


def test_a_comparison_without_tuning_is_told() -> None:
    [found] = spec_lints(tiny_spec("search.trials=16", "workloads.digits.optimizer.lr=0.1"))
    assert found.startswith("digits: no optimizer setting is searched")


@pytest.mark.parametrize(
    "optimizer",
    [
        "{choice: [{name: sgd, lr: 0.1}, {name: adam, lr: 0.001}]}",
        "{choice: [{name: sgd, lr: {loguniform: [0.01, 1.0]}}, {name: adam, lr: {loguniform: [0.0001, 0.01]}}]}",
    ],
    ids=["fixed", "searched"],
)
def test_a_choice_of_optimizers_is_tuning(optimizer: str) -> None:
    assert spec_lints(tiny_spec("search.trials=16", f"workloads.digits.optimizer={optimizer}")) == []


def test_a_search_without_a_space_is_not_asked_to_narrow_it_or_to_try_more() -> None:
    spec = tiny_spec("search.trials=1", "arms={}", "workloads.digits.optimizer.lr=0.1")
    of = config(lr=0.1, values={})
    found = lints(Candidates(spec, (Trial(config=of, result=failed(of)),)))
    assert not [lint for lint in found if "feasible" in lint or "at random" in lint]


def test_a_sweep_that_compares_nothing_is_told() -> None:
    assert any("has only the baseline arm" in lint for lint in spec_lints(tiny_spec("arms={}")))


def test_a_search_that_is_all_random_is_told() -> None:
    assert any(
        "tpe proposes its first 10 candidates at random" in lint for lint in spec_lints(tiny_spec("search.trials=10"))
    )


def test_an_objective_beside_the_target_is_told() -> None:
    spec = tiny_spec("search.trials=16", "search.objective={metric: validation_accuracy, mode: max}")
    assert spec_lints(spec) == ["digits: the search improves validation_accuracy, the target is on train_loss"]
    assert spec_lints(tiny_spec("search.trials=16", "search.objective.metric=steps_to_target")) == []


def test_a_best_at_its_bound_is_told() -> None:
    found = lints(record(searched(0.5, 0.1), searched(0.1, 0.2, 1)))
    assert found == ["digits/baseline: the best optimizer.lr is at its bound 0.5; widen the range [0.01, 0.5]"]
    assert lints(record(searched(0.5, 0.2), searched(0.1, 0.1, 1))) == []


def test_too_few_feasible_trials_are_told() -> None:
    bad: list[TrialConfig] = [config(lr=0.02 + i / 100, number=i + 1) for i in range(3)]
    trials = [searched(0.1, 0.1), *(Trial(config=of, result=failed(of)) for of in bad)]
    assert lints(record(*trials)) == ["digits/baseline: only 1 of 4 candidates are feasible; narrow the space"]


def test_a_search_that_still_improves_is_told() -> None:
    trials = [searched(0.05 + i / 100, 1.0 - i / 10, number=i) for i in range(8)]
    assert lints(record(*trials)) == ["digits/baseline: candidate #7 of 8 is the best, so the search may still improve"]
    trials = [searched(0.05 + i / 100, i / 10, number=i) for i in range(8)]
    assert lints(record(*trials)) == []


def test_a_target_out_of_reach_is_told() -> None:
    of = config()
    hit = complete(of)
    missed = hit.model_copy(update={"seeds": (hit.seeds[0].model_copy(update={"steps_to_target": None}),)})
    [found] = lints(record(Trial(config=of, result=missed)))
    assert "no candidate reached the target on every seed" in found


def test_a_gpu_trial_that_ran_on_the_cpu_is_told() -> None:
    of = config(share={"cpu": 1.0, "gpu": 1.0})
    machine = {"host": "h", "device": "cpu", "num_threads": 1, "versions": {}}
    result = complete(of).model_validate({**complete(of).model_dump(), "machine": machine})
    [found] = lints(record(Trial(config=of, result=result)))
    assert found.startswith("1 trials asked for a GPU and ran on the CPU")


class TestEarlyStopping:
    ASHA = ("search.trials=16", "search.objective.metric=train_loss")

    def test_a_grace_that_ends_before_teleports_can_have_paid_is_told(self) -> None:
        def told(grace: float, *overrides: str) -> list[str]:
            scheduler = f"search.scheduler={{name: asha, grace: {grace}}}"
            return [lint for lint in spec_lints(tiny_spec(*self.ASHA, scheduler, *overrides)) if "grace" in lint]

        # Two teleport batches of nine in the only epoch.
        assert told(0.1) == [
            "digits/teleport: search.scheduler judges a trial from 0.1 of its budget, but the first teleports and 5% "
            "of a run to recover last until 0.27; raise grace"
        ]
        assert told(0.3) == []
        assert told(0.14, "search.seeds=[0, 1]") == []
        assert told(0.1, "workloads.digits.epochs=10") == []
        when = "arms.teleport.teleport.schedule"
        assert len(told(0.3, f"{when}={{at: [3]}}")) == 1
        assert told(0.1, f"{when}={{epochs: 0}}") == []
        assert len(told(0.3, "workloads.digits.epochs=2", f"{when}={{epochs: 2, batches: 2, warmup: 9}}")) == 1

    def test_stopping_nearly_all_is_told_and_is_not_infeasible(self) -> None:
        spec = tiny_spec(*self.ASHA, "search.scheduler={name: asha, grace: 0.3}")
        bad = [config(lr=0.02 + i / 100, number=i + 1) for i in range(3)]
        rows = [row(step) for step in range(4)]
        stopped = [Trial(config=of, result=pruned_result(of, rows, started_at=1.0, ended_at=2.0)) for of in bad]
        found = lints(Candidates(spec, (searched(0.1, 0.1), *stopped)))
        assert found == [
            "digits/baseline: 3 of 4 candidates were stopped and 1 ran in full, which is too few to judge the stopping "
            "by; give the search more trials or a longer grace"
        ]

    def test_early_values_that_say_nothing_of_the_final_ones_are_told(self) -> None:
        spec = tiny_spec(*self.ASHA, "search.scheduler={name: asha, grace: 0.5}")

        def told(early: list[float]) -> list[str]:
            trials = []
            for number, loss in enumerate(early):
                trial = searched(0.05 + number / 100, number / 10, number=number)
                rows = (row(0), row(5, loss=loss), row(10, loss=number / 10))
                trials.append(trial.model_copy(update={"history": rows}))
            found = lints(Candidates(spec, tuple(trials)))
            return [lint for lint in found if "Spearman" in lint]

        assert told([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]) == [
            "digits/baseline: train_loss at 0.5 of the budget ranks 6 complete candidates unlike their final "
            "train_loss (Spearman -1.00); a longer grace stops fewer good ones"
        ]
        assert told([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]) == []
        assert told([3.0, 2.0, 1.0]) == []


@pytest.mark.parametrize(
    ("sampler", "names"),
    [
        ("cmaes", "teleport.step, teleport.step[rule=fixed].lr, teleport.step[rule=growth].factor, teleport.tau"),
        ("gp", "teleport.step[rule=fixed].lr, teleport.step[rule=growth].factor"),
        ("{name: nsga2, population_size: 4}", "teleport.step[rule=fixed].lr, teleport.step[rule=growth].factor"),
    ],
    ids=["cmaes", "gp", "nsga2"],
)
def test_what_a_sampler_draws_at_random_is_told(sampler: str, names: str) -> None:
    found = spec_lints(tiny_spec("search.trials=16", f"search.sampler={sampler}"))
    assert len(found) == 1
    assert f"draws {names} at random; tpe models choices and conditions" in found[0]


@pytest.mark.parametrize("sampler", ["qmc", "random", "tpe"])
def test_other_samplers_leave_nothing_to_chance_that_they_could_model(sampler: str) -> None:
    assert spec_lints(tiny_spec("search.trials=16", f"search.sampler={sampler}")) == []


def test_a_grid_with_more_points_than_trials_is_told() -> None:
    found = spec_lints(tiny_spec("search.trials=16", "search.sampler={name: grid, points: 3}"))
    assert found == [
        "digits/teleport: search.trials is 16 and the grid has 36 points, so the search tries a random part of them; "
        "raise search.trials or lower search.sampler.points"
    ]
    assert spec_lints(tiny_spec("search.trials=36", "search.sampler={name: grid, points: 3}")) == []


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ("{gpu: 0.25}", None),
        ("{search: {gpu: 0.5}, confirm: {gpu: 1}}", None),
        ("{search: {gpu: 0.5}, confirm: {gpu: 0.5}}", "resources.confirm.gpu is 0.5, so confirm trials share a GPU"),
        ("{search: {gpu: 0.5}}", "search trials are given a GPU and confirm trials none"),
    ],
)
def test_confirm_is_given_devices_whose_seconds_count(resources: str, told: str | None) -> None:
    found = [lint for lint in spec_lints(tiny_spec(f"resources={resources}")) if "GPU" in lint]
    assert len(found) == (told is not None)
    assert all(told is not None and told in lint for lint in found)
