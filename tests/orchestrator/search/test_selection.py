"""Which configurations are confirmed, and what is exported as the best."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from orchestrator.errors import UserError
from orchestrator.home.records import SweepRecord, Trial
from orchestrator.report import best_spec
from orchestrator.report.best import MAX_NAME, best_name
from orchestrator.search.candidates import Candidates
from orchestrator.search.selection import champions
from orchestrator.spec import check_name, spec_from_text
from tests.orchestrator.report.build import (
    PROVENANCE,
    Effects,
    failing,
    missing,
    search_configs,
    sweep,
    sweep_spec,
    trained,
)

STUDY = ("mlp_digits", "teleport")


def with_values(*values: float | None, steps: tuple[int, ...] | None = None, mode: str = "min") -> SweepRecord:
    """A search of one arm with the objectives given; None is a failure."""
    objective = {"min": "train_loss", "max": "validation_accuracy"}[mode]
    spec = sweep_spec(f"search.objective={{metric: {objective}, mode: {mode}}}", "confirm.top_k=2")
    configs = [config for config in search_configs(spec) if config.arm == "teleport"]
    trials = []
    for index, (config, value) in enumerate(zip(configs, values, strict=False)):
        trial = trained(config, Effects())
        assert trial.result is not None
        if value is None:
            trials.append(failing(trial, "diverged"))
            continue
        seeds = trial.result.seeds
        if steps is not None:
            seeds = tuple(seed.model_copy(update={"steps_to_target": steps[index]}) for seed in seeds)
        trials.append(
            trial.model_copy(update={"result": trial.result.model_copy(update={"value": value, "seeds": seeds})})
        )
    return SweepRecord(spec, PROVENANCE, tuple(trials))


def numbers(record: SweepRecord) -> list[int | None]:
    return [trial.config.number for trial in champions(Candidates.of(record))[STUDY]]


def test_champions_are_the_best_by_objective_best_first() -> None:
    assert numbers(with_values(0.5, 0.1, None, 0.3)) == [1, 3]


def test_where_more_is_better_the_highest_wins() -> None:
    assert numbers(with_values(0.5, 0.1, 0.9, mode="max")) == [2, 0]


def test_ties_go_to_fewer_steps_then_to_the_earlier_trial() -> None:
    assert numbers(with_values(0.1, 0.1, 0.1, steps=(50, 40, 40))) == [1, 2]


def test_with_several_objectives_the_pareto_fronts_come_in_turn() -> None:
    record = with_values(0.1, 0.2, 0.3, 0.4, 0.15)
    spec = sweep_spec("search.also=[{metric: validation_accuracy}]", "confirm.top_k=9", "search.trials=9")
    accuracies = (0.5, 0.9, 0.8, 0.95, 0.4)  # dominated: the third by the second, the last by the first
    trials = [
        trial.model_copy(update={"result": trial.result.model_copy(update={"values": (trial.result.value, accuracy)})})
        for trial, accuracy in zip(record.trials, accuracies, strict=True)
        if trial.result is not None
    ]
    for order in itertools.permutations(trials):
        assert numbers(SweepRecord(spec, record.provenance, order)) == [0, 1, 3, 4, 2]


def test_the_order_of_the_files_does_not_matter() -> None:
    record = with_values(0.2, 0.1, 0.1, 0.3, steps=(50, 40, 40, 60))
    for order in itertools.permutations(record.trials):
        assert numbers(SweepRecord(record.spec, record.provenance, order)) == [1, 2]


def test_confirm_results_and_other_studies_do_not_count() -> None:
    record = sweep()
    searched = SweepRecord(
        record.spec, record.provenance, tuple(t for t in record.trials if t.config.phase == "search")
    )
    assert champions(Candidates.of(record)) == champions(Candidates.of(searched))
    assert all(t.config.arm == arm for (_, arm), trials in champions(Candidates.of(record)).items() for t in trials)


def test_every_study_has_an_entry_also_where_nothing_ran_or_all_failed() -> None:
    assert champions(Candidates.of(sweep(phases=()))) == {("mlp_digits", "baseline"): (), STUDY: ()}
    assert not any(champions(Candidates.of(sweep(change=lambda trial: failing(trial, "crashed")))).values())


@pytest.mark.parametrize("arm", ["baseline", "teleport"])
def test_the_best_configuration_reads_back_as_a_spec_with_the_same_values(arm: str) -> None:
    record = sweep(sweep_spec("confirm.seeds=[7, 8, 9]", "resources.cpu=2"))
    spec = spec_from_text(best_spec(record, "mlp_digits", arm))
    (champion,) = champions(Candidates.of(record))["mlp_digits", arm]
    (config,) = {c.configuration_id: c for c in search_configs(spec) if c.arm == arm}.values()
    assert config.configuration_id == champion.config.configuration_id
    assert (spec.search.trials, spec.confirm, spec.resources) == (1, record.spec.confirm, record.spec.resources)
    assert spec.name == f"quickstart-best-mlp_digits-{arm}"
    assert not spec.workloads["mlp_digits"].distributions()


def test_a_comment_says_where_it_comes_from_and_what_it_is_not() -> None:
    text = best_spec(sweep(), "mlp_digits", "teleport")
    (champion,) = champions(Candidates.of(sweep()))[STUDY]
    first, second = text.splitlines()[:2]
    assert first.startswith("# The best of sweep quickstart, workload mlp_digits, arm teleport")
    assert champion.trial_id in first
    assert PROVENANCE.codes[0].in_words in first
    assert "was not tuned there" in second
    assert "was not tuned" not in best_spec(sweep(), "mlp_digits", "baseline")


@pytest.mark.parametrize(("factor", "arm"), [(0.7, "teleport"), (1.4, "baseline")])
def test_without_an_arm_the_best_by_confirm_is_meant(factor: float, arm: str) -> None:
    record = sweep(effects=Effects(factor={"teleport": factor}))
    assert f"arm {arm}:" in best_spec(record, "mlp_digits").splitlines()[0]


@pytest.mark.parametrize("spoiled", [missing, lambda trial: failing(trial, "diverged", after=395)])
def test_an_arm_whose_confirm_runs_miss_or_diverge_is_not_the_best(spoiled: Callable[[Trial], Trial]) -> None:
    def spoil(trial: Trial) -> Trial:
        if trial.config.phase == "search" or trial.config.arm == "baseline":
            return trial
        return spoiled(trial)

    record = sweep(effects=Effects(factor={"teleport": 0.5}), change=spoil)
    assert "arm baseline:" in best_spec(record, "mlp_digits").splitlines()[0]


def test_before_confirm_the_best_by_search_is_meant() -> None:
    record = sweep(effects=Effects(factor={"teleport": 0.5}), phases=("search",))
    assert "arm teleport:" in best_spec(record, "mlp_digits").splitlines()[0]


def test_where_nothing_ended_well_there_is_no_best() -> None:
    with pytest.raises(UserError, match="mlp_digits: no trial of the search ended well yet"):
        best_spec(sweep(phases=()), "mlp_digits")
    record = sweep(change=lambda t: failing(t, "crashed") if t.config.arm == "teleport" else t)
    with pytest.raises(UserError, match="mlp_digits/teleport: no trial of the search ended well"):
        best_spec(record, "mlp_digits", "teleport")


@pytest.mark.parametrize(
    "text", ['<script>"x"</script>', "a\nb: c\n# d", "\u202egnirts", "😀" * 100, "y" * 10_000, "- [", "'"]
)
def test_a_hostile_description_survives_the_round_trip(text: str) -> None:
    spec = sweep_spec().model_copy(update={"description": text})
    assert spec_from_text(best_spec(sweep(spec), "mlp_digits")).description == text


def test_names_are_valid_however_long_and_stay_apart() -> None:
    names = {best_name("s" * 64, "w" * 64, arm) for arm in ("a", "b", "c" * 64)}
    assert len(names) == 3
    assert all(check_name(name) and len(name) <= MAX_NAME for name in names)
