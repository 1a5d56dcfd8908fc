"""What ``search.scope`` may say, what it goes with, and how it is told where it makes no sense."""

from __future__ import annotations

import inspect
import re

import optuna
import pytest

from orchestrator.errors import SpecError
from orchestrator.search.points import num_points
from orchestrator.spec import SharedScope, SweepSpec, spec_from_text
from orchestrator.spec.options import WilcoxonOptions
from tests.orchestrator.shared_specs import shared_spec
from tests.orchestrator.specs import tiny_spec

FIXED = "arms={teleport: {teleport: {step: {rule: growth, factor: 1.5}}}}"
SAME_LR = "workloads.wide.optimizer.lr={loguniform: [0.05, 0.5]}"


def faults(*overrides: str) -> list[str]:
    with pytest.raises(SpecError, match=re.escape("shared.yaml")) as caught:
        shared_spec(*overrides)
    return [str(fault) for fault in caught.value.faults]


def names(spec: SweepSpec, arm: str = "teleport") -> list[str]:
    return [each.name for template in spec.space("narrow", arm) for each in template.distributions()]


def test_a_scope_reads_back_and_changes_the_sweep() -> None:
    spec = shared_spec("search.scope={name: shared, aggregate: worst, common: [optimizer.lr]}", SAME_LR)
    assert spec_from_text(spec.to_yaml()) == spec
    assert isinstance(spec.search.scope, SharedScope)
    assert spec.search.scope.aggregate == "worst"
    assert spec.identity != shared_spec().identity
    assert shared_spec("search.scope=shared").search.scope == SharedScope(name="shared")


def test_own_is_the_default_and_leaves_sweeps_as_they_were() -> None:
    assert tiny_spec("search.scope=own", "confirm.candidates=[chosen]").identity == tiny_spec().identity


def test_the_shared_space_is_the_common_parameters_the_factor_and_the_arms_own() -> None:
    spec = shared_spec()
    assert names(spec) == ["lr_factor", "teleport.tau", "teleport.step.factor"]
    assert names(spec, "baseline") == ["optimizer.lr"], "the baseline is tuned on each workload by itself"
    common = shared_spec("search.scope={name: shared, common: [optimizer.lr]}", SAME_LR)
    assert names(common) == ["optimizer.lr", "teleport.tau", "teleport.step.factor"]
    assert spec.searches == [("narrow", "baseline"), ("wide", "baseline"), ("*", "teleport")]
    nothing = shared_spec("search.scope=shared")
    assert num_points(nothing.space("*", "teleport")[:1], nothing.search.sampler) == 1


def test_a_choice_is_common_with_all_that_stands_under_it() -> None:
    choice = "{choice: [{name: sgd, lr: {loguniform: [0.01, 0.1]}}, {name: adam, lr: 0.01}]}"
    both = [f"workloads.{label}.optimizer={choice}" for label in ("narrow", "wide")]
    spec = shared_spec(*both, "search.scope={name: shared, common: [optimizer]}")
    assert names(spec)[0] == "optimizer"
    inner = names(spec)[1]
    assert inner.startswith("optimizer[")
    [fault] = faults(*both, f"search.scope={{name: shared, common: ['{inner}']}}")
    assert f"{inner} must be a parameter of every workload; narrow has it under optimizer only" in fault


@pytest.mark.parametrize(
    ("overrides", "place", "told"),
    [
        (["search.scope=sharde"], "search.scope", "did you mean 'shared'?"),
        (["search.scope={name: shared, agregate: worst}"], "search.scope", "did you mean 'aggregate'?"),
        (["search.scope={name: shared, lr_factor: [2, 1]}"], "search.scope.lr_factor", "low must not be above high"),
        (["search.scope={name: shared, lr_factor: [0, 1]}"], "search.scope.lr_factor", "greater than 0"),
        (["search.objective.metric=train_loss"], "search.objective", "a ratio of train_loss says nothing"),
        (["search.also=[{metric: seconds}]"], "search.also", "a setting has one value"),
        (["search.scheduler=asha"], "search.scheduler", "asha compares the curves of one workload's trials"),
        (["search.scope=own", "search.scheduler=wilcoxon"], "search.scheduler", "write search.scope: shared"),
        (["search.scope=own", "confirm.candidates=[chosen, own]"], "confirm.candidates", "need search.scope: shared"),
        (
            ["confirm.candidates=[chosen, leave_architecture_out]"],
            "confirm.candidates",
            "at least two architectures, but all are mlp; leave_one_out",
        ),
        (["confirm.candidates=[own]"], "confirm.candidates", "must hold chosen"),
        (["confirm.candidates=[chosen, chosen]"], "confirm.candidates", "must differ from each other"),
        (["confirm.candidates=[chosen, best]"], "confirm.candidates", "best is none of the valid values"),
        (
            ["search.scope={name: shared, common: [optimizer.lr]}"],
            "search.scope.common",
            "narrow loguniform [0.05, 0.5], wide loguniform [0.01, 0.2]",
        ),
        (
            ["search.scope={name: shared, common: [optimizer.rl]}"],
            "search.scope.common",
            "narrow has optimizer.lr; wide has optimizer.lr; did you mean 'optimizer.lr'?",
        ),
        (
            ["search.scope={name: shared, common: [optimizer.lr], lr_factor: [0.5, 2]}", SAME_LR],
            "search.scope.lr_factor",
            "the learning rate would be chosen twice",
        ),
        (
            ["search.scope=shared", FIXED],
            "arms.teleport",
            "nothing to search; name common ones in search.scope.common, or give search.scope.lr_factor. Parameters of "
            "narrow: optimizer.lr; wide: optimizer.lr",
        ),
        (["search.scheduler={name: wilcoxon, p_threshold: 0}"], "search.scheduler.p_threshold", "greater than 0"),
    ],
)
def test_a_scope_that_makes_no_sense_is_told_with_its_place(overrides: list[str], place: str, told: str) -> None:
    [fault] = faults(*overrides)
    assert f" {place}" in fault
    assert told in fault


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = faults("search.objective.metric=train_loss", "search.scheduler=median", FIXED, "search.scope=shared")
    assert len(found) == 3


def test_one_workload_has_nothing_to_share() -> None:
    only = "workloads={narrow: {model: {name: mlp, widths: [8]}, data: {name: digits, batch_size: 128}, "
    only += "optimizer: {name: sgd, lr: 0.1}, epochs: 1, target: {metric: train_loss, value: 2.0}}}"
    [fault] = faults(only)
    assert "shared needs at least two workloads, and the spec has one" in fault


def test_the_race_has_optunas_arguments_and_defaults() -> None:
    theirs = inspect.signature(inspect.unwrap(optuna.pruners.WilcoxonPruner.__init__)).parameters
    assert WilcoxonOptions.model_fields["n_startup_steps"].default == theirs["n_startup_steps"].default
    assert set(WilcoxonOptions.model_fields) == {"name", "p_threshold", "n_startup_steps"} <= {"name", *theirs}
    assert theirs["p_threshold"].default < 1 / 8 < WilcoxonOptions(name="wilcoxon").p_threshold, "ours goes by three"
    bare, written = shared_spec("search.scheduler=wilcoxon"), shared_spec("search.scheduler={name: wilcoxon}")
    assert bare.search.scheduler == written.search.scheduler
    assert spec_from_text(bare.to_yaml()) == bare


@pytest.mark.parametrize(("p", "num_pairs"), [(0.1, 4), (0.13, 3), (0.0625, 5), (0.3, 2), (0.9, 2)])
def test_the_fewest_pairs_that_can_decide(p: float, num_pairs: int) -> None:
    assert WilcoxonOptions(name="wilcoxon", p_threshold=p).min_pairs == num_pairs
    assert WilcoxonOptions(name="wilcoxon", p_threshold=p, n_startup_steps=7).min_pairs == 7
