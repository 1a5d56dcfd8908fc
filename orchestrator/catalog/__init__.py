"""What a spec may name: NAME -> (torch-free options, where the builder lives)."""

from orchestrator.catalog.arms import (
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
from orchestrator.catalog.datasets import DATASETS, DataOptions
from orchestrator.catalog.entry import Entry, InputKind, NamedOptions, OneOf, Options
from orchestrator.catalog.expressions import LEAVES, ExpressionOptions, FactorExpression, LrExpression, TauExpression
from orchestrator.catalog.lr_schedules import LR_SCHEDULES, ConstantOptions, LrScheduleOptions
from orchestrator.catalog.models import MODELS, ModelOptions, models_for
from orchestrator.catalog.optimizers import OPTIMIZERS
from orchestrator.catalog.samplers import (
    SAMPLERS,
    GridOptions,
    RandomOptions,
    SamplerOptions,
    TpeOptions,
    samplers_that,
)
from orchestrator.catalog.schedulers import (
    SCHEDULERS,
    WHOLE_BUDGET,
    CurveMetric,
    NoSchedulerOptions,
    SchedulerOptions,
    StoppingOptions,
    WilcoxonOptions,
)
from orchestrator.catalog.workloads import WORKLOADS

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
