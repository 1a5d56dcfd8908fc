"""Loss-level-set teleportation in torch: move the weights, keep the loss, raise the gradient.

`Teleporter` works inside any training loop and needs torch alone. Method: arXiv 2502.11362.
"""

from teleport_engine.compare import IdentityMove, RandomMove, reset_state, scale_initial_weights, scaled_lr
from teleport_engine.nullspace import (
    AutoTau,
    DriftTau,
    LayerFacts,
    LayerRule,
    LayerwiseTau,
    ModelFacts,
    RuleError,
    Subspace,
)
from teleport_engine.objective import (
    GradCurvature,
    Gradient,
    GradNorm,
    LogGradNorm,
    Measured,
    Objective,
)
from teleport_engine.optimizer import TeleportOptimizer
from teleport_engine.options import Options
from teleport_engine.report import GuardEvent, LayerReport, Outcome, Seconds, StepTrace, TeleportReport
from teleport_engine.schedule import Schedule, Timetable, WhileItPays
from teleport_engine.step import (
    FixedStep,
    GrowthStep,
    LayerwiseStep,
    Limits,
    Line,
    MeasuredGrowth,
    Move,
    StepRule,
)
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
    "IdentityMove",
    "LayerFacts",
    "LayerReport",
    "LayerRule",
    "LayerwiseStep",
    "LayerwiseTau",
    "Limits",
    "Line",
    "LogGradNorm",
    "Measured",
    "MeasuredGrowth",
    "ModelFacts",
    "Move",
    "Objective",
    "Options",
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
