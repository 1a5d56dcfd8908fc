"""Expressions of a spec as the engine's rules: a number for each layer, or each step, of what it measures there."""

from __future__ import annotations

from typing import Literal

from orchestrator.spec.options import (
    AutoTauOptions,
    ExpressionOptions,
    FixedStepOptions,
    GrowthStepOptions,
    TauExpression,
)
from teleport_engine import (
    AutoTau,
    FixedStep,
    GrowthStep,
    LayerFacts,
    LayerRule,
    LayerwiseStep,
    LayerwiseTau,
    MeasuredGrowth,
    ModelFacts,
    StepRule,
)


def tau_of(
    tau: float | Literal["auto"] | AutoTauOptions | TauExpression,
) -> float | Literal["auto"] | AutoTau | LayerwiseTau:
    """Make the engine's tau.

    Args:
        tau: as the options have it.

    Returns:
        What ``Teleporter(tau=...)`` takes; for an expression a rule that measures what it names and no more.
    """
    if isinstance(tau, TauExpression):
        return LayerwiseTau(_per_layer(tau), tau.uses("grad_norm"), tau.uses("stable_rank"))
    return AutoTau(**tau.model_dump()) if isinstance(tau, AutoTauOptions) else tau


def step_rule_of(options: FixedStepOptions | GrowthStepOptions | None) -> StepRule:
    """Make the engine's step rule.

    Args:
        options: of the step; a teleport has none only where it is adaptive, which makes its own.

    Returns:
        What ``Teleporter(step=...)`` takes.
    """
    assert options is not None, "a teleport without step and adaptive is not valid"
    if isinstance(options, FixedStepOptions):
        lr = options.lr
        return FixedStep(lr) if isinstance(lr, float) else LayerwiseStep(_per_layer(lr))
    factor = options.factor
    if isinstance(factor, float):
        return GrowthStep(factor)

    def rho(model: ModelFacts) -> float:
        return factor.value({name: getattr(model, name) for name in factor.leaf().names})

    return MeasuredGrowth(rho)


def _per_layer(options: ExpressionOptions) -> LayerRule:
    def rule(layer: LayerFacts) -> float:
        measured = {name: getattr(layer, name) for name in options.leaf().names if options.uses(name)}
        return options.value(measured, f"layer {layer.name!r}")

    return rule
