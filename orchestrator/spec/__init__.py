"""Reads and checks everything that may stand in a YAML file, without torch."""

from orchestrator.spec import plugins, stand_ins
from orchestrator.spec.arithmetic import ExpressionError
from orchestrator.spec.confirm_grid import LEARNING_RATE, grid_range
from orchestrator.spec.hooks import EVENT_KEYS, HookOptions, HooksOptions
from orchestrator.spec.identity import Json, canonical_json, digest
from orchestrator.spec.options import CurveMetric, Mode, is_higher_better
from orchestrator.spec.phases import ALL, LR_FACTOR, Aggregate, Confirm, ConfirmGridOptions, Role, Search, SharedScope
from orchestrator.spec.resources import BudgetOptions, Resources
from orchestrator.spec.scalars import Duration, check_name, duration_text
from orchestrator.spec.space import Branch, Choice, Distribution, Fixed, Items, Node, Range, Template
from orchestrator.spec.sweep import (
    FIRST_CONFIRM_SEED,
    SweepSpec,
    dump_yaml,
    kind_of,
    load_spec,
    parse_spec,
    spec_from_text,
)
from orchestrator.spec.training import (
    BASELINE,
    CHECKPOINT_EVERY,
    PHASES,
    Arm,
    Evaluate,
    Objective,
    Phase,
    Share,
    Target,
    Workload,
    target_metrics,
)
from orchestrator.spec.yaml_text import read_file

__all__ = [
    "ALL",
    "BASELINE",
    "CHECKPOINT_EVERY",
    "EVENT_KEYS",
    "FIRST_CONFIRM_SEED",
    "LEARNING_RATE",
    "LR_FACTOR",
    "PHASES",
    "Aggregate",
    "Arm",
    "Branch",
    "BudgetOptions",
    "Choice",
    "Confirm",
    "ConfirmGridOptions",
    "CurveMetric",
    "Distribution",
    "Duration",
    "Evaluate",
    "ExpressionError",
    "Fixed",
    "HookOptions",
    "HooksOptions",
    "Items",
    "Json",
    "Mode",
    "Node",
    "Objective",
    "Phase",
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
    "canonical_json",
    "check_name",
    "digest",
    "dump_yaml",
    "duration_text",
    "grid_range",
    "is_higher_better",
    "kind_of",
    "load_spec",
    "parse_spec",
    "plugins",
    "read_file",
    "spec_from_text",
    "stand_ins",
    "target_metrics",
]
