"""The spec: what a sweep is, read from YAML and checked whole."""

from orchestrator.spec.sources import kind_of
from orchestrator.spec.sweep import (
    BASELINE,
    Confirm,
    Resources,
    Search,
    SweepSpec,
    check_name,
    dump_yaml,
    load_spec,
    parse_spec,
    spec_from_text,
)
from orchestrator.spec.training import (
    EVALUATIONS_PER_RUN,
    HIGHER_IS_BETTER,
    Arm,
    CurveMetric,
    Evaluate,
    Mode,
    Objective,
    ObjectiveMetric,
    Phase,
    Share,
    Target,
    Workload,
)
from orchestrator.spec.tree import Choice, Distribution, Range, Template
from orchestrator.spec.yaml_text import read_file

__all__ = [
    "BASELINE",
    "EVALUATIONS_PER_RUN",
    "HIGHER_IS_BETTER",
    "Arm",
    "Choice",
    "Confirm",
    "CurveMetric",
    "Distribution",
    "Evaluate",
    "Mode",
    "Objective",
    "ObjectiveMetric",
    "Phase",
    "Range",
    "Resources",
    "Search",
    "Share",
    "SweepSpec",
    "Target",
    "Template",
    "Workload",
    "check_name",
    "dump_yaml",
    "kind_of",
    "load_spec",
    "parse_spec",
    "read_file",
    "spec_from_text",
]
