"""The search's memory: budgets, duplicates, determinism, and being brought level after a crash."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import optuna
import pytest

from orchestrator.errors import SearchNotReproducible
from orchestrator.home.records import TrialConfig, TrialResult
from orchestrator.search.journal import open_journal
from orchestrator.search.points import suggest
from orchestrator.search.samplers import Draw, make_sampler
from orchestrator.search.study import Study
from orchestrator.spec import Arm, SweepSpec, Workload
from orchestrator.spec.options import SAMPLERS
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import complete, failed


def study(spec: SweepSpec, journal: Path, arm: str = "baseline", results: tuple[TrialResult, ...] = ()) -> Study:
    return Study(spec, "digits", arm, open_journal(journal), {result.trial_id: result for result in results})


def value_of(config: TrialConfig) -> float:
    lr: float = config.training.optimizer.model_dump()["lr"]
    return abs(lr - 0.1)


def drain(searched: Study) -> list[TrialConfig]:
    configs = []
    while (config := searched.propose()) is not None:
        configs.append(config)
        searched.tell(complete(config, value_of(config)))
    return configs


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


def states(spec: SweepSpec, journal: Path, name: str) -> list[str]:
    loaded = optuna.load_study(study_name=name, storage=open_journal(journal))
    return [trial.state.name for trial in loaded.get_trials(deepcopy=False)]


def test_a_study_proposes_its_budget_and_no_more(journal: Path) -> None:
    spec = tiny_spec("search.trials=12")
    searched = study(spec, journal, "teleport")
    configs = drain(searched)
    assert len({config.trial_id for config in configs}) == len(configs) == 12
    assert searched.is_exhausted
    assert states(spec, journal, "digits/teleport") == ["COMPLETE"] * 12


def test_conditional_parameters_are_there_only_where_their_choice_was_made(journal: Path) -> None:
    for config in drain(study(tiny_spec("search.trials=20"), journal, "teleport")):
        assert config.method.teleport is not None
        rule = config.method.teleport.step.rule  # type: ignore[union-attr]
        assert ("teleport.step[rule=fixed].lr" in config.values) == (rule == "fixed")
        assert ("teleport.step[rule=growth].factor" in config.values) == (rule == "growth")


def test_same_spec_and_seed_propose_the_same(tmp_path: Path) -> None:
    spec = tiny_spec("search.trials=14")
    one, two = (drain(study(spec, tmp_path / name)) for name in ("a", "b"))
    assert one == two
    assert drain(study(tiny_spec("search.trials=14", "search.seed=1"), tmp_path / "c")) != one


def test_a_resumed_search_proposes_what_the_undisturbed_one_does(tmp_path: Path) -> None:
    spec = tiny_spec("search.trials=14")
    whole = drain(study(spec, tmp_path / "whole"))
    first = study(spec, tmp_path / "cut")
    done = []
    for _ in range(11):
        config = first.propose()
        assert config is not None
        done.append(complete(config, value_of(config)))
        first.tell(done[-1])
    lost = first.propose()
    again = study(spec, tmp_path / "cut", results=tuple(done))
    assert [config.trial_id for config in drain(again)] == [config.trial_id for config in whole[11:]]
    assert lost == whole[11]


def test_an_interrupted_trial_goes_on_under_its_own_number(journal: Path) -> None:
    spec = tiny_spec()
    lost = study(spec, journal).propose()
    assert lost is not None
    again = study(spec, journal)
    assert again.propose() == lost
    again.tell(complete(lost))
    assert len(drain(again)) == spec.search.trials - 1
    assert states(spec, journal, "digits/baseline") == ["COMPLETE"] * spec.search.trials


def test_a_result_on_file_that_the_journal_never_heard_of_is_told(journal: Path) -> None:
    spec = tiny_spec()
    config = study(spec, journal).propose()
    assert config is not None
    again = study(spec, journal, results=(complete(config, 0.25),))
    again.tell(complete(config, 0.25))
    assert len(drain(again)) == spec.search.trials - 1
    assert states(spec, journal, "digits/baseline") == ["COMPLETE"] * spec.search.trials


def test_a_failed_trial_reaches_optuna_as_fail_and_never_stays_running(journal: Path) -> None:
    spec = tiny_spec()
    searched = study(spec, journal)
    config = searched.propose()
    assert config is not None
    searched.tell(failed(config))
    searched.tell(failed(config))
    drain(searched)
    assert states(spec, journal, "digits/baseline") == ["FAIL"] + ["COMPLETE"] * (spec.search.trials - 1)


def test_a_small_space_is_searched_whole_without_repeats(journal: Path) -> None:
    spec = tiny_spec("search.trials=16", "workloads.digits.optimizer.lr={choice: [0.01, 0.02, 0.05, 0.1, 0.2]}")
    searched = study(spec, journal)
    assert searched.num_planned == 5
    assert sorted(config.values["optimizer.lr"] for config in drain(searched)) == [0.01, 0.02, 0.05, 0.1, 0.2]  # type: ignore[type-var]


def test_a_space_of_one_point_has_one_trial(journal: Path) -> None:
    spec = tiny_spec("search.trials=16", "workloads.digits.optimizer.lr=0.1")
    assert [config.values for config in drain(study(spec, journal))] == [{}]


def test_studies_share_a_journal_and_not_their_trials(journal: Path) -> None:
    spec = tiny_spec()
    storage = open_journal(journal)
    one, two = (Study(spec, "digits", arm, storage, {}) for arm in spec.arms)
    assert {config.arm for config in drain(one)} == {"baseline"}
    assert {config.arm for config in drain(two)} == {"teleport"}
    assert len(states(spec, journal, "digits/baseline")) == spec.search.trials


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_proposes_within_the_space(name: str) -> None:
    spec = tiny_spec(f"search.sampler={name}")
    templates = (spec.workloads["digits"], spec.arms["teleport"])
    searched = optuna.create_study()
    for number in range(15):
        searched.sampler = make_sampler(spec.search.sampler, Draw(0, "s", number, templates, {}))
        trial = searched.ask()
        values = suggest(templates, trial)
        Workload.model_validate(templates[0].concretise(values))
        Arm.model_validate(templates[1].concretise(values))
        searched.tell(trial, 1.0)


def run_study(searched: Study, *, crash: frozenset[int] = frozenset(), kind: str = "crashed") -> list[TrialConfig]:
    configs = []
    while (config := searched.propose()) is not None:
        configs.append(config)
        searched.tell(failed(config, kind) if config.number in crash else complete(config, value_of(config)))
    return configs


@pytest.mark.parametrize(
    ("kind", "num_failed", "num_run"),
    [("crashed", 2, 10), ("lost", 1, 9), ("crashed", 5, 10), ("diverged", 5, 8)],
)
def test_trials_that_gave_no_answer_are_replaced_up_to_a_bound(
    kind: str, num_failed: int, num_run: int, journal: Path
) -> None:
    searched = study(tiny_spec("search.trials=8", "search.max_replaced=2"), journal)
    assert len(run_study(searched, crash=frozenset(range(num_failed)), kind=kind)) == num_run
    assert searched.num_planned == num_run
    assert searched.is_over


def test_replacing_survives_a_resume(journal: Path) -> None:
    spec = tiny_spec("search.trials=8", "search.max_replaced=2")
    configs = run_study(study(spec, journal), crash=frozenset({0, 1, 2}))
    results = tuple(
        failed(config, "crashed") if config.number in (0, 1, 2) else complete(config) for config in configs[:-1]
    )
    again = study(spec, journal, results=results)
    assert again.num_planned == 10
    assert drain(again) == configs[-1:]


def test_a_grid_is_searched_whole_and_no_more(journal: Path) -> None:
    spec = tiny_spec("search.trials=99", "search.sampler={name: grid, points: 2}")
    searched = study(spec, journal, "teleport")
    assert searched.num_planned == 2 * 2 * (2 + 2)
    configs = drain(searched)
    assert len({config.trial_id for config in configs}) == len(configs) == 16
    assert configs != drain(
        study(
            tiny_spec("search.trials=99", "search.sampler={name: grid, points: 2}", "search.seed=1"),
            journal.with_name("b"),
            "teleport",
        )
    )


def test_points_come_first_and_once(journal: Path) -> None:
    points = [{"optimizer.lr": 0.1}, {"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}]
    searched = Study(tiny_spec("search.trials=4"), "digits", "baseline", open_journal(journal), {}, points)
    found = [config.values["optimizer.lr"] for config in drain(searched)]
    assert found[:2] == [0.1, 0.2]
    assert len(found) == 4


def test_a_proposal_is_one_line_of_the_journal(journal: Path) -> None:
    searched = study(tiny_spec("search.concurrency=1"), journal, "teleport")
    before = len(journal.read_text().splitlines())
    config = searched.propose()
    assert len(journal.read_text().splitlines()) == before + 1
    assert config is not None
    searched.tell(complete(config))
    assert searched.propose() is not None
    assert len(journal.read_text().splitlines()) == before + 3, "what came of the first, and the second"


def test_a_study_keeps_no_configuration_of_a_trial_that_ended(journal: Path) -> None:
    searched = study(tiny_spec("search.trials=12"), journal)
    references = [weakref.ref(config) for config in drain(searched)]
    gc.collect()
    assert len(references) == 12
    assert not any(reference() for reference in references)


def test_several_objectives_are_as_many_directions(journal: Path) -> None:
    spec = tiny_spec(
        "search.also=[{metric: validation_accuracy}, {metric: seconds}]", "search.sampler=nsga2", "search.trials=1"
    )
    searched = study(spec, journal)
    config = searched.propose()
    assert config is not None
    assert [one.metric for one in config.also] == ["validation_accuracy", "seconds"]
    searched.tell(complete(config).model_copy(update={"values": (0.5, 0.9, 0.1)}))
    loaded = optuna.load_study(study_name=searched.name, storage=open_journal(journal))
    assert [direction.name for direction in loaded.directions] == ["MINIMIZE", "MAXIMIZE", "MINIMIZE"]
    assert loaded.trials[0].values == [0.5, 0.9, 0.1]


def test_a_journal_in_which_another_program_has_proposed_is_refused(journal: Path) -> None:
    searched = study(tiny_spec(), journal)
    assert searched.propose() is not None
    optuna.load_study(study_name=searched.name, storage=open_journal(journal)).ask()
    with pytest.raises(SearchNotReproducible, match=r"digits/baseline: proposal 1 in the journal .* another program"):
        study(tiny_spec(), journal)
