"""The spec: what a sweep is, read from YAML and checked whole."""

from orchestrator.catalog import CurveMetric
from orchestrator.spec.budget import BudgetOptions
from orchestrator.spec.duration import Duration, duration_text
from orchestrator.spec.hooks import EVENT_KEYS, HookOptions, HooksOptions
from orchestrator.spec.names import check_name
from orchestrator.spec.phases import Confirm, Search
from orchestrator.spec.resources import Checkpoint, Resources
from orchestrator.spec.scope import ALL, LR_FACTOR, Aggregate, Role, SharedScope
from orchestrator.spec.sources import kind_of
from orchestrator.spec.sweep import BASELINE, SweepSpec, dump_yaml, load_spec, parse_spec, spec_from_text
from orchestrator.spec.targets import target_metrics
from orchestrator.spec.training import (
    CHECKPOINT_EVERY,
    EVALUATIONS_PER_RUN,
    HIGHER_IS_BETTER,
    PHASES,
    Arm,
    Evaluate,
    Mode,
    Objective,
    ObjectiveMetric,
    Phase,
    Precision,
    Share,
    Target,
    Workload,
)
from orchestrator.spec.tree import Choice, Distribution, Range, Template
from orchestrator.spec.yaml_text import read_file

__all__ = [
    "ALL",
    "BASELINE",
    "CHECKPOINT_EVERY",
    "EVALUATIONS_PER_RUN",
    "EVENT_KEYS",
    "HIGHER_IS_BETTER",
    "LR_FACTOR",
    "PHASES",
    "Aggregate",
    "Arm",
    "BudgetOptions",
    "Checkpoint",
    "Choice",
    "Confirm",
    "CurveMetric",
    "Distribution",
    "Duration",
    "Evaluate",
    "HookOptions",
    "HooksOptions",
    "Mode",
    "Objective",
    "ObjectiveMetric",
    "Phase",
    "Precision",
    "Range",
    "Resources",
    "Role",
    "Search",
    "Share",
    "SharedScope",
    "SweepSpec",
    "Target",
    "Template",
    "Workload",
    "check_name",
    "dump_yaml",
    "duration_text",
    "kind_of",
    "load_spec",
    "parse_spec",
    "read_file",
    "spec_from_text",
    "target_metrics",
]
