"""The targets that a workload of a spec may have."""

from __future__ import annotations

from orchestrator.catalog import CurveMetric
from orchestrator.spec.training import Target
from orchestrator.spec.tree import Template


def target_metrics(workload: Template) -> tuple[CurveMetric, ...]:
    """List the metrics that a workload's target may be on.

    Args:
        workload: of a spec.

    Returns:
        Each once; more than one only where the spec searches over the target's metric.
    """
    corners = (workload.concretise(corner) for corner in workload.corners())
    return tuple(dict.fromkeys(Target.model_validate(corner["target"]).metric for corner in corners))
