"""What a spec may name: NAME -> (torch-free options, where the builder lives)."""

from orchestrator.catalog.arms import (
    FixedStepOptions,
    FollowerOptions,
    GrowthStepOptions,
    InitScaledOptions,
    LevelSetOptions,
    LrScaledOptions,
    RandomMoveOptions,
    ScheduleOptions,
    StateResetOptions,
    SymmetryOptions,
    TeleportOptions,
)
from orchestrator.catalog.datasets import DATASETS, DataOptions
from orchestrator.catalog.entry import Entry, NamedOptions, OneOf, Options
from orchestrator.catalog.models import MODELS
from orchestrator.catalog.optimizers import OPTIMIZERS
from orchestrator.catalog.samplers import SAMPLERS

__all__ = [
    "DATASETS",
    "MODELS",
    "OPTIMIZERS",
    "SAMPLERS",
    "DataOptions",
    "Entry",
    "FixedStepOptions",
    "FollowerOptions",
    "GrowthStepOptions",
    "InitScaledOptions",
    "LevelSetOptions",
    "LrScaledOptions",
    "NamedOptions",
    "OneOf",
    "Options",
    "RandomMoveOptions",
    "ScheduleOptions",
    "StateResetOptions",
    "SymmetryOptions",
    "TeleportOptions",
]
