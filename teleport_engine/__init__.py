"""Loss-level-set teleportation in torch: move the weights, keep the loss, raise the gradient.

`Teleporter` works inside any training loop and needs torch alone. Method: arXiv 2502.11362.
"""

from teleport_engine.controls import IdentityMove, Move, RandomMove, reset_state, scale_initial_weights, scaled_lr
from teleport_engine.curvature import GradCurvature, HutchinsonTrace
from teleport_engine.facts import LayerFacts, LayerRule, LayerwiseTau, ModelFacts, RuleError
from teleport_engine.layerwise import LayerwiseStep, MeasuredGrowth
from teleport_engine.lowering import AutoTau, DriftTau
from teleport_engine.objectives import Gradient, GradNorm, LogGradNorm, Measured, Objective
from teleport_engine.optimizer import TeleportOptimizer
from teleport_engine.report import GuardEvent, LayerReport, Outcome, Seconds, StepTrace, TeleportReport
from teleport_engine.schedule import Schedule, Timetable, WhileItPays
from teleport_engine.step_rule import FixedStep, GrowthStep, Line, NormalisedStep, StepRule
from teleport_engine.subspace import Subspace
from teleport_engine.teleporter import Teleporter

__all__ = [
    "AutoTau",
    "DriftTau",
    "FixedStep",
    "GradCurvature",
    "GradNorm",
    "Gradient",
    "GrowthStep",
    "GuardEvent",
    "HutchinsonTrace",
    "IdentityMove",
    "LayerFacts",
    "LayerReport",
    "LayerRule",
    "LayerwiseStep",
    "LayerwiseTau",
    "Line",
    "LogGradNorm",
    "Measured",
    "MeasuredGrowth",
    "ModelFacts",
    "Move",
    "NormalisedStep",
    "Objective",
    "Outcome",
    "RandomMove",
    "RuleError",
    "Schedule",
    "Seconds",
    "StepRule",
    "StepTrace",
    "Subspace",
    "TeleportOptimizer",
    "TeleportReport",
    "Teleporter",
    "Timetable",
    "WhileItPays",
    "reset_state",
    "scale_initial_weights",
    "scaled_lr",
]
