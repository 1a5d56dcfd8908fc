"""Options are checked when they are made, all at once, and given in one place."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from teleport_engine import (
    AutoTau,
    DriftTau,
    FixedStep,
    GrowthStep,
    LayerwiseStep,
    Limits,
    Options,
    RandomMove,
    Schedule,
    Teleporter,
)
from tests.teleport_engine.cases import make, mlp


def test_the_named_options_are_those_of_the_object() -> None:
    case = make("tanh")
    named: dict[str, Any] = {"tau": 0.99, "step": FixedStep(0.05), "num_steps": 2}
    weights = []
    for given in ({"options": Options(**named)}, named):
        model = copy.deepcopy(case.model)
        Teleporter(model, case.loss_fn, **given).teleport(case.inputs, case.targets)
        weights.append(list(model.parameters()))
    assert all(torch.equal(left, right) for left, right in zip(*weights, strict=True))
    assert not torch.equal(weights[0][2], list(case.model.parameters())[2])


def test_options_in_two_places_are_refused() -> None:
    with pytest.raises(ValueError, match=r"in one place.*got options and tau, num_steps: write Options\(tau=...,"):
        Teleporter(mlp(3, 4, 2), nn.functional.cross_entropy, Options(), tau=0.9, num_steps=3)
    with pytest.raises(ValueError, match=r"options must be an object such as .* got 0\.9"):
        Teleporter(mlp(3, 4, 2), nn.functional.cross_entropy, 0.9)  # type: ignore[arg-type]


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"step must .*; tau must .*; num_steps must be .* got 0; route must"):
        Options(tau=2.0, step=0.1, num_steps=0, route="magic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"grad_norm_cap must be > 0 .*; max_backoffs must be .*, got -1"):
        Limits(grad_norm_cap=-1.0, max_backoffs=-1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(), Limits(max_growth=10.0)),
        (Options(step=GrowthStep(1.1)), Limits()),
        (Options(step=LayerwiseStep(lambda layer: 1.0, GrowthStep(1.1))), Limits()),
        (Options(limits=Limits(grad_norm_cap=2.0)), Limits(grad_norm_cap=2.0)),
        (Options(tau=0.9), Limits(max_growth=10.0, max_drift_share=1.0)),
        (Options(tau=0.9, limits=Limits(max_loss_drift=2.0)), Limits(max_growth=10.0, max_loss_drift=2.0)),
        (Options(tau="auto"), Limits(max_loss_drift=0.01, max_relative_step=0.1, max_growth=10.0)),
        (Options(tau=AutoTau(drift=0.2)), Limits(max_loss_drift=0.2, max_relative_step=0.1, max_growth=10.0)),
        (Options(tau=DriftTau(0.3)), Limits(max_drift_share=0.3, max_relative_step=0.1, max_growth=10.0)),
        (
            Options(tau="auto", limits=Limits(max_loss_drift=1.0, max_relative_step=0.5)),
            Limits(max_loss_drift=1.0, max_relative_step=0.5, max_growth=10.0),
        ),
    ],
)
def test_a_rule_that_lowers_tau_brings_limits_along(options: Options, expected: Limits) -> None:
    assert options.limits_in_force == expected


def test_adaptive_options_keep_further_limits() -> None:
    options = Options.adaptive(drift=0.1, limits=Limits(grad_norm_cap=5.0), schedule=Schedule(), move=RandomMove(0))
    assert options.limits.grad_norm_cap == 5.0
    assert options.limits.max_probe_drift_share == pytest.approx(0.015)
    assert Options.adaptive(limits=Limits(max_probe_drift_share=0.5)).limits.max_probe_drift_share == 0.5
    assert dataclasses.replace(options, num_steps=3).num_steps == 3
