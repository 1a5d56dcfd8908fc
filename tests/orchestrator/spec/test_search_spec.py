"""What `search` may say: samplers with Optuna's arguments, several objectives, and what goes together."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest

from orchestrator.errors import SpecError
from orchestrator.spec import Objective, spec_from_text
from orchestrator.spec.options import SAMPLERS, SamplerOptions, TpeOptions
from tests.orchestrator.specs import TINY, tiny_spec

OPTUNA: dict[str, Any] = {
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "qmc": optuna.samplers.QMCSampler,
    "random": optuna.samplers.RandomSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
    "nsga3": optuna.samplers.NSGAIIISampler,
}
OTHER_DEFAULTS = {
    ("tpe", "multivariate"): "conditional spaces are modelled jointly",
    ("tpe", "group"): "conditional spaces are modelled jointly",
    ("qmc", "scramble"): "else no seed would change anything, and the first point would be a corner",
}


@pytest.mark.parametrize("name", sorted(OPTUNA))
def test_arguments_and_defaults_are_optunas(name: str) -> None:
    theirs = inspect.signature(inspect.unwrap(OPTUNA[name].__init__)).parameters
    for key, field in SAMPLERS[name].options.model_fields.items():
        if key == "name":
            continue
        assert key in theirs
        if (name, key) not in OTHER_DEFAULTS:
            assert field.default == theirs[key].default


def test_every_sampler_has_a_signature_to_compare_with() -> None:
    assert set(SAMPLERS) - set(OPTUNA) == {"grid"}, "Optuna's grid knows no conditions, so ours is our own"


@pytest.mark.parametrize("name", sorted(OPTUNA))
def test_what_a_sampler_takes_is_what_optuna_lets_it_take(name: str) -> None:
    options = SAMPLERS[name].options
    assert issubclass(options, SamplerOptions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(directions=["minimize"] * 2, sampler=OPTUNA[name](seed=0))
        try:
            for number in range(3):
                trial = study.ask()
                trial.suggest_float("x", 0, 1)
                study.tell(trial, [number, 1.0])
        except ValueError:
            assert not options.takes_several_objectives
        else:
            assert options.takes_several_objectives


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_bare_name_is_the_sampler_at_its_defaults(name: str) -> None:
    spec = tiny_spec(f"search.sampler={name}")
    assert spec.search.sampler == SAMPLERS[name].options.model_validate({"name": name})
    assert spec.model_dump(mode="json")["search"]["sampler"] == name
    assert tiny_spec(f"search.sampler={{name: {name}}}").identity == spec.identity
    assert spec_from_text(spec.to_yaml()) == spec


def test_arguments_survive_yaml_and_count_for_the_identity() -> None:
    spec = tiny_spec("search.sampler={name: tpe, n_startup_trials: 20}")
    assert spec.search.sampler == TpeOptions(name="tpe", n_startup_trials=20)
    assert spec_from_text(spec.to_yaml()) == spec
    assert "sampler:\n    name: tpe\n    n_startup_trials: 20" in spec.to_yaml()
    assert spec.identity != tiny_spec().identity


def test_older_specs_are_who_they_were() -> None:
    assert tiny_spec("confirm.grid={}").identity == "5cb25652954b"
    assert tiny_spec("confirm.grid={}", "search.sampler=random").identity == "b3d6e9689f59"


def test_the_mode_suits_the_metric_where_it_is_not_written() -> None:
    assert Objective.model_validate({"metric": "validation_accuracy"}).mode == "max"
    assert Objective.model_validate({"metric": "seconds"}).mode == "min"
    spec = tiny_spec("search.objective={metric: validation_accuracy}", "search.also=[{metric: seconds}]")
    assert [(one.metric, one.mode) for one in spec.search.objectives] == [
        ("validation_accuracy", "max"),
        ("seconds", "min"),
    ]
    assert spec_from_text(spec.to_yaml()) == spec


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["sampler={name: tpe, n_startup_trial: 3}"], "search.sampler.n_startup_trial: unknown key .* 'n_startup_tri"),
        (["sampler={name: cmeas}"], r"search.sampler: cmeas is not registered; did you mean 'cmaes'\?"),
        (["sampler={n_startup_trials: 3}"], "search.sampler: missing key 'name'"),
        (["sampler={name: cmaes, popsize: 1}"], "search.sampler.popsize: must be greater than or equal to 4, is 1"),
        (["sampler={name: cmaes, with_margin: true, lr_adapt: true}"], "with_margin and lr_adapt exclude each other"),
        (["sampler={name: tpe, multivariate: false}"], "group needs multivariate"),
        (["sampler=cmaes", "also=[{metric: seconds}]"], "takes one objective only; those that take several: gp, grid"),
        (["sampler=qmc", "divergence=constraint"], "takes no constraints; those that do: gp, nsga2, nsga3, tpe"),
        (["also=[{metric: train_loss}]"], "objectives must differ from each other; they are train_loss, train_loss"),
        (["also=[{metric: second}]"], r"search.also\[0\].metric: second is none of the valid values; .*'seconds'"),
        (["divergence=penalty"], "search.divergence: 'penalty'|search.divergence: penalty is none"),
        (["warm_start={sweep: tiny}"], r"search.warm_start.sweep: must be another sweep, is this one \(tiny\)"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_is_told(settings: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        tiny_spec(*(f"search.{setting}" for setting in settings))


def test_a_quarter_of_the_trials_may_be_replaced() -> None:
    assert tiny_spec("search.trials=16").search.num_replaceable == 4
    assert tiny_spec("search.trials=2").search.num_replaceable == 1
    assert tiny_spec("search.max_replaced=0").search.num_replaceable == 0


def test_the_table_of_the_document_is_true() -> None:
    text = (Path(__file__).parents[3] / "docs" / "search.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    rows = [row for row in rows if len(row) == 6]
    assert {row[0].strip("`") for row in rows} == set(SAMPLERS)
    for name, _, choices, conditional, several, constraints in rows:
        options = SAMPLERS[name.strip("`")].options
        assert issubclass(options, SamplerOptions)
        assert several == ("yes" if options.takes_several_objectives else "no")
        assert constraints == ("yes" if options.takes_constraints else "no")
        if options.__name__ != "RandomOptions":
            assert (choices == "at random") == (not options.models_choices)
            assert (conditional == "at random") == (not options.models_conditional)


def test_the_settings_of_the_document_can_be_read() -> None:
    text = (Path(__file__).parents[3] / "docs" / "search.md").read_text(encoding="utf-8")
    written = text.split("```yaml\n")[1].split("```")[0]
    kept = [line for line in TINY.splitlines() if not line.startswith("search:")]
    assert spec_from_text("\n".join([*kept, written])).search.max_replaced == 8
