"""Expressions in an arm: what the spec refuses, and what a trial does with them."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import TrialConfig, TrialState
from orchestrator.launch import InlineLauncher
from orchestrator.spec import Arm, load_spec
from orchestrator.spec.arithmetic import is_name
from orchestrator.spec.options import LEAVES, FactorExpression, LrExpression, TauExpression, TeleportOptions
from orchestrator.sweep.run import run as sweep
from orchestrator.trial.arms import step_rule_of, tau_of
from orchestrator.trial.run import run_trial
from teleport_engine import (
    FixedStep,
    GrowthStep,
    LayerFacts,
    LayerwiseStep,
    LayerwiseTau,
    MeasuredGrowth,
    ModelFacts,
    TeleportReport,
)
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.track.faulty_store import FaultyStore, in_memory
from tests.orchestrator.trial.tasks import config

SCHEDULE = {"epochs": 1, "batches": 2, "steps": 2}
LR = {"expression": "a * fan_in ** b", "where": {"a": 0.5, "b": -1}}
BY_LAYER: dict[str, Any] = {"step": {"rule": "fixed", "lr": LR}, "schedule": SCHEDULE}
EXPRESSIONS = {"lr": LrExpression, "tau": TauExpression, "factor": FactorExpression}
TRAINING: dict[str, Any] = {"data": {"name": "digits", "batch_size": 32}, "epochs": 1, "evaluate": {"every": 20}}


def run(method: dict[str, Any]) -> Any:
    return run_trial(config(method, seeds=(0,), training=TRAINING), lambda rows: None)


def metrics(method: dict[str, Any]) -> Any:
    result = run(method)
    assert result.state is TrialState.COMPLETE, result.failure
    return result.seeds[0].metrics


@pytest.mark.parametrize("key", LEAVES)
def test_every_name_of_a_leaf_is_a_fact_of_the_engine(key: str) -> None:
    leaf, facts = LEAVES[key], ModelFacts if key == "factor" else LayerFacts
    known = {field.name for field in dataclasses.fields(facts)} | {"null_share"} - {"name"}
    assert set(leaf.names) <= known
    assert all(is_name(name) for name in leaf.names)
    assert EXPRESSIONS[key].leaf is leaf
    layer = LayerFacts("2", 64, 32, 32, 1, 2, 1.0, 0.5, 16, 48, 4.0)
    model = ModelFacts(2.0, 0.5, 1.0, 2)
    for name in leaf.names:
        # Above 1, then below: the value is what the rule was told.
        text = f"max({name}, 1.5)" if key == "factor" else f"min({name}, 1)" if key == "tau" else name
        options = EXPRESSIONS[key].model_validate({"expression": text})
        given = float(getattr(model if key == "factor" else layer, name))
        expected = {"factor": max(given, 1.5), "tau": min(given, 1.0)}.get(key, given)
        assert options.value({name: given}) == expected


def test_the_page_lists_the_names_of_each_leaf_and_its_examples_are_valid() -> None:
    page = (Path(__file__).parents[3] / "docs" / "expressions.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\| (✓?) ?\| (✓?) ?\| (✓?) ?\|$", page, re.MULTILINE)
    for place, key in enumerate(("lr", "tau", "factor"), 1):
        assert {row[0] for row in rows if row[place]} == set(LEAVES[key].names)
    examples = re.findall(r"^(lr|tau|factor): (\{.*\}) *(?:#.*)?$", page, re.MULTILINE)
    assert len(examples) == 5
    for key, text in examples:
        rule = {"lr": "fixed", "factor": "growth", "tau": ""}[key]
        leaf = f"step={{rule: {rule}, {key}: {text}}}" if rule else f"{key}={text}"
        tiny_spec(f"arms.teleport.teleport.{leaf}")


def test_what_is_no_expression_is_the_plain_rule() -> None:
    options = TeleportOptions.model_validate({"step": {"rule": "fixed", "lr": 0.2}, "tau": 0.9})
    assert (tau_of(options.tau), step_rule_of(options.step)) == (0.9, FixedStep(0.2))
    growth = TeleportOptions.model_validate({"step": {"rule": "growth", "factor": 1.5}})
    assert step_rule_of(growth.step) == GrowthStep(1.5)


def test_a_rule_measures_what_it_names_and_no_more() -> None:
    def tau(text: str) -> Any:
        return tau_of(TauExpression(expression=text))

    assert isinstance(tau("1 - 1 / width"), LayerwiseTau)
    told = [tau(text) for text in ("1 - 1 / width", "min(1, grad_norm)", "1 - 1 / (9 * stable_rank)")]
    assert [(one.with_gradient, one.with_spectrum) for one in told] == [(False, False), (True, False), (False, True)]
    layer = LayerFacts("2", fan_in=64, fan_out=32, width=32, position=1, num_layers=2, weight_norm=1.0)
    assert told[0].of(layer) == 1 - 1 / 32
    lr = step_rule_of(TeleportOptions.model_validate(BY_LAYER).step)
    assert isinstance(lr, LayerwiseStep)
    assert lr.scale(layer) == 0.5 / 64
    factor = step_rule_of(
        TeleportOptions.model_validate(
            {"step": {"rule": "growth", "factor": {"expression": "1 + 1 / num_layers"}}}
        ).step
    )
    assert isinstance(factor, MeasuredGrowth)
    assert factor.rho(ModelFacts(2.0, 0.5, 1.0, 4)) == 1.25


def faults(key: str, text: str) -> str:
    with pytest.raises(SpecError, match=r".+") as caught:
        tiny_spec(f"arms.teleport.teleport.{key}={text}")
    return "\n".join(str(fault) for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        (
            "tau",
            "{expression: 1 - c / widht, where: {c: 1}}",
            "unknown name 'widht'; did you mean 'width'? (known: c, fan_",
        ),
        (
            "tau",
            "{expression: 1 - 1 / null_dim}",
            "column 9: 'null_dim' follows from tau, so tau cannot depend on it; (known",
        ),
        ("tau", "{expression: 1 - 1 / (2 - 2)}", "column 5: division by zero in '1 / (2 - 2)'"),
        ("tau", "{expression: 2 * c, where: {c: {uniform: [0.1, 1]}}}", "must lie in (0, 1], is 2, with c = 1"),
        ("tau", "{expression: 1 - c / width, where: {c: 1, d: 2}}", "where.d: the expression does not use it"),
        ("tau", "{expression: width - 1, where: {width: 1}}", "where.width: is the name of what the engine measures"),
        ("tau", "{expression: 1 - log, where: {log: 1}}", "where.log: is the name of a function; take another"),
        ("tau", "{where: {c: 1}}", "tau.expression: missing: this key is required"),
        (
            "tau",
            "{expresion: 1 - c / width, where: {c: 1}}",
            "tau.expresion: unknown key expresion; did you mean 'expression'?",
        ),
        ("tau", "{expression: 1 - c / width, where: {c: x}}", "tau.where.c: must be a valid number"),
        (
            "step",
            "{rule: fixed, lr: {expression: '__import__(1)'}}",
            "step.lr: expression '__import__(1)': column 1: there is no funct",
        ),
        ("step", "{rule: fixed, lr: {expression: a / fan_in, where: {a: {uniform: [-1, 1]}}, x: 1}}", "unknown key x"),
        (
            "step",
            "{rule: fixed, lr: {expression: -a, where: {a: {loguniform: [0.1, 1]}}}}",
            "must be above 0, is -0.1, with a",
        ),
        (
            "step",
            "{rule: fixed, lr: 0.1 / fan_in}",
            "must be a number, or an expression written as {expression: '0.1 / fan_in'}",
        ),
        ("step", "{rule: fixed, lr: -1}", "step.lr: must be greater than 0, is -1"),
        (
            "step",
            "{rule: growth, factor: {expression: 1 + fan_in}}",
            "'fan_in' belongs to one layer, and this number is for the",
        ),
        (
            "step",
            "{rule: growth, factor: {expression: 0.5 + c, where: {c: 0.5}}}",
            "must be above 1, is 1, with c = 0.5",
        ),
        ("step", "{rule: fixed, lr: {expression: a * fanin + b}}", "unknown name 'a'"),
    ],
)
def test_what_the_spec_refuses(key: str, text: str, told: str) -> None:
    found = faults(key, text)
    assert told in found
    assert "tiny.yaml" in found
    assert f"arms.teleport.teleport.{key}" in found


def test_a_fault_that_no_coefficient_changes_is_told_once() -> None:
    found = faults("step", "{rule: fixed, lr: {expression: a / 0, where: {a: {uniform: [0.1, 1]}}}}")
    assert found.count("division by zero") == 1


def test_all_faults_of_an_expression_are_told_at_once() -> None:
    found = faults("step", "{rule: fixed, lr: {expression: a * fanin + nul_dim, where: {c: 1}}}")
    for told in (
        "where.c: the expression does not",
        "unknown name 'a'",
        "did you mean 'fan_in'?",
        "did you mean 'null_dim'?",
    ):
        assert told in found


def test_coefficients_are_searched_by_name_and_shape_the_trials_id() -> None:
    spec = tiny_spec(
        "arms.teleport.teleport.step={rule: fixed, lr: {expression: a * fan_in ** b, "
        "where: {a: {loguniform: [0.01, 1]}, b: {uniform: [-1, 0]}}}}",
        "arms.teleport.teleport.tau={choice: [1.0, {expression: 1 - c / width, where: {c: {loguniform: [0.01, 1]}}}]}",
    )
    assert [one.name for one in spec.arms["teleport"].distributions()] == [
        "teleport.tau",
        "teleport.tau[expression=1 - c / width].where.c",
        "teleport.step.lr.where.a",
        "teleport.step.lr.where.b",
    ]

    def trial(**lr: Any) -> TrialConfig:
        return config({"teleport": {"step": {"rule": "fixed", "lr": {**LR, **lr}}}})

    ids = [one.trial_id for one in (trial(), trial(expression="a * width ** b"), trial(where={"a": 0.5, "b": -0.9}))]
    assert len(set(ids)) == 3
    again = TrialConfig.model_validate(json.loads(trial().model_dump_json()))
    assert again == trial()
    assert again.trial_id == ids[0]
    plain = config({"teleport": {"step": {"rule": "fixed", "lr": 0.2}}})
    assert plain.method.model_dump(mode="json", exclude_defaults=True) == {
        "teleport": {"step": {"rule": "fixed", "lr": 0.2}}
    }


def test_a_constant_expression_is_the_plain_number() -> None:
    plain = metrics({"teleport": {**BY_LAYER, "step": {"rule": "growth", "factor": 1.3}, "tau": 0.99}})
    by_rule = {"rule": "growth", "factor": {"expression": "1 + c", "where": {"c": 0.3}}}
    assert metrics({"teleport": {**BY_LAYER, "step": by_rule, "tau": {"expression": "0.99"}}}) == plain
    # A scale of the direction rounds elsewhere than a length.
    fixed = metrics({"teleport": {**BY_LAYER, "step": {"rule": "fixed", "lr": 0.05}}})
    assert metrics(
        {"teleport": {**BY_LAYER, "step": {"rule": "fixed", "lr": {"expression": "0.1 / 2"}}}}
    ) == pytest.approx(fixed, rel=1e-3)


def test_each_layer_has_the_tau_of_the_expression(reports: list[TeleportReport]) -> None:
    tau = {"expression": "1 - c / (width * min(stable_rank, 1e9)) * min(1, grad_norm)", "where": {"c": 0.1}}
    metrics({"teleport": {**BY_LAYER, "tau": tau}})
    first, last = reports[0].layers
    assert first.tau is not None
    assert last.tau is not None
    assert 1.0 - 0.1 / 160 < first.tau < 1.0
    assert 1.0 - 0.1 / 10 < last.tau < 1.0
    assert last.tau < first.tau


@pytest.mark.parametrize("kind", ["random_move", "lr_scaled"])
def test_a_control_makes_the_teleports_of_the_rules(kind: str, reports: list[TeleportReport]) -> None:
    once = {**BY_LAYER, "schedule": {"at": [4], "steps": 1}, "tau": {"expression": "1 - 0.1 / width"}}
    options = TeleportOptions.model_validate(once)
    followed = Arm.model_validate({kind: {"of": "teleport"}}).following(options)
    metrics({"teleport": once})
    metrics(json.loads(followed.model_dump_json()))
    directed, control = reports
    assert [layer.tau for layer in control.layers] == [layer.tau for layer in directed.layers]
    if kind == "random_move":
        for one, other in zip(directed.layers, control.layers, strict=True):
            assert other.step_length == pytest.approx(one.step_length, rel=1e-4)
    else:
        assert control.trace[0].eta == directed.trace[0].eta


@pytest.mark.parametrize(
    ("teleport", "told"),
    [
        (
            {**BY_LAYER, "step": {"rule": "fixed", "lr": {"expression": "a / (fan_in - 160)", "where": {"a": 1}}}},
            r"step.lr of layer '\S+': expression 'a / \(fan_in - 160\)': column 1: division by zero in "
            r"'a / \(fan_in - 160\)', with a = 1, fan_in = 160",
        ),
        (
            {**BY_LAYER, "tau": {"expression": "1 - c / width", "where": {"c": 100}}},
            r"tau of layer '\S+': expression '1 - c / width': must lie in \(0, 1\], is -9, with c = 100, width = 10",
        ),
        (
            {**BY_LAYER, "step": {"rule": "growth", "factor": {"expression": "loss - loss"}}},
            r"step.factor: expression 'loss - loss': must be above 1, is 0, with loss = \d",
        ),
    ],
)
def test_a_rule_without_a_value_is_a_fail_with_expression_and_values(teleport: dict[str, Any], told: str) -> None:
    result = run({"teleport": teleport})
    assert result.state is TrialState.FAIL
    assert result.failure is not None
    assert result.failure.kind == "expression"
    assert re.fullmatch(told + r"[^\n]*", result.failure.message), result.failure.message
    assert result.failure.is_answer, "another trial in its place would be one more try for this arm"


def test_a_sweep_searches_the_coefficients_and_shows_them(tmp_path: Path) -> None:
    """One arm of rules that hold, one whose tau is never any: its trials are spent, and the report says why."""
    spec = tiny_spec(
        "arms.teleport.teleport.step={rule: fixed, lr: {expression: a * fan_in ** b, "
        "where: {a: {loguniform: [0.01, 1]}, b: {uniform: [-1, 0]}}}}",
        "arms.teleport.teleport.tau={expression: 1 - c / width, where: {c: {loguniform: [0.01, 1]}}}",
        "arms.broken.teleport={step: {rule: growth, factor: 1.3}, tau: {expression: 1 - c / width, where: {c: 100}}}",
        "search.trials=2",
        "confirm.seeds=1",
    )
    paths, store = SweepPaths(tmp_path, "tiny"), FaultyStore()
    outcome = sweep(spec, paths, InlineLauncher(), in_memory(store), command="c", observe=lambda progress: None)
    studies = {study.arm: study for study in outcome.report.studies}
    assert {name for trial in studies["teleport"].search for name in trial.values} == {
        "optimizer.lr",
        "teleport.tau.where.c",
        "teleport.step.lr.where.a",
        "teleport.step.lr.where.b",
    }
    assert studies["teleport"].num_complete == 2
    assert studies["teleport"].tau == "1 - c / width"
    assert (studies["broken"].num_undefined, studies["broken"].num_crashed, studies["broken"].num_trials) == (2, 0, 2)
    assert any("digits/broken: in 2 of 2 trials an expression gave no number" in lint for lint in outcome.report.lints)
    page = (paths.report / "report.md").read_text()
    assert "a * fan_in ** b" in page
    exported = load_spec(paths.best / "digits.teleport.yaml")
    best = Arm.model_validate(exported.arms["teleport"].concretise({})).teleport
    assert best is not None
    assert isinstance(best.tau, TauExpression)
    chosen = studies["teleport"].best
    assert chosen is not None
    assert best.tau.where == {"c": chosen.values["teleport.tau.where.c"]}
    params = [run.facts.params for run in store.runs.values() if run.parent is not None]
    told = next(one for one in params if "teleport.step.lr.expression" in one)
    assert told["teleport.step.lr.expression"] == "a * fan_in ** b"
    assert float(told["teleport.step.lr.where.a"]) > 0.0
