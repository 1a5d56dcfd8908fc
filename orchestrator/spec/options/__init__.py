"""What a spec may name: NAME -> (torch-free options, where the builder lives)."""

from orchestrator.spec.options.arms import (
    AdaptiveOptions,
    AutoTauOptions,
    FixedStepOptions,
    FollowerOptions,
    GrowthStepOptions,
    InitScaledOptions,
    LevelSetOptions,
    LrScaledOptions,
    MeasuringOptions,
    RandomMoveOptions,
    ScheduleOptions,
    StateResetOptions,
    SymmetryOptions,
    TeleportOptions,
)
from orchestrator.spec.options.datasets import DATASETS, DataOptions
from orchestrator.spec.options.entry import Entry, InputKind, NamedOptions, OneOf, Options
from orchestrator.spec.options.expressions import (
    LEAVES,
    ExpressionOptions,
    FactorExpression,
    LrExpression,
    TauExpression,
)
from orchestrator.spec.options.lr_schedules import LR_SCHEDULES, ConstantOptions, LrScheduleOptions
from orchestrator.spec.options.models import MODELS, ModelOptions, models_for
from orchestrator.spec.options.optimizers import OPTIMIZERS
from orchestrator.spec.options.samplers import (
    SAMPLERS,
    GridOptions,
    RandomOptions,
    SamplerOptions,
    TpeOptions,
    samplers_that,
)
from orchestrator.spec.options.schedulers import (
    SCHEDULERS,
    WHOLE_BUDGET,
    CurveMetric,
    NoSchedulerOptions,
    SchedulerOptions,
    StoppingOptions,
    WilcoxonOptions,
)
from orchestrator.spec.options.workloads import WORKLOADS

__all__ = [
    "DATASETS",
    "LEAVES",
    "LR_SCHEDULES",
    "MODELS",
    "OPTIMIZERS",
    "SAMPLERS",
    "SCHEDULERS",
    "WHOLE_BUDGET",
    "WORKLOADS",
    "AdaptiveOptions",
    "AutoTauOptions",
    "ConstantOptions",
    "CurveMetric",
    "DataOptions",
    "Entry",
    "ExpressionOptions",
    "FactorExpression",
    "FixedStepOptions",
    "FollowerOptions",
    "GridOptions",
    "GrowthStepOptions",
    "InitScaledOptions",
    "InputKind",
    "LevelSetOptions",
    "LrExpression",
    "LrScaledOptions",
    "LrScheduleOptions",
    "MeasuringOptions",
    "ModelOptions",
    "NamedOptions",
    "NoSchedulerOptions",
    "OneOf",
    "Options",
    "RandomMoveOptions",
    "RandomOptions",
    "SamplerOptions",
    "ScheduleOptions",
    "SchedulerOptions",
    "StateResetOptions",
    "StoppingOptions",
    "SymmetryOptions",
    "TauExpression",
    "TeleportOptions",
    "TpeOptions",
    "WilcoxonOptions",
    "models_for",
    "samplers_that",
]
