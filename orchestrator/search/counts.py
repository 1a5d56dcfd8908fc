"""Counts what a sweep runs, from its spec alone."""

from __future__ import annotations

from orchestrator.search.points import num_points
from orchestrator.spec import Phase, SweepSpec


def num_configurations(spec: SweepSpec, workload: str, arm: str, num_failed: int = 0) -> int:
    """Count the candidates of a search. A space that holds fewer than ``search.trials`` limits their number.

    Args:
        spec: of the sweep.
        workload: label; any label does for an arm whose search is shared.
        arm: label.
        num_failed: candidates that gave no answer; up to ``search.max_replaced`` of them are replaced.
    """
    size = num_points(spec.space(workload, arm), spec.search.sampler)
    return int(min(min(spec.search.trials, size) + min(num_failed, spec.search.num_replaceable), size))


def num_planned(spec: SweepSpec, workload: str, arm: str, phase: Phase, num_failed: int = 0) -> int:
    """Count the trials of an arm on a workload in one phase.

    In the confirm phase of a shared search this is an upper bound, because one candidate may be chosen for two reasons.
    ``num_failed`` is the number of candidates of the search that gave no answer and are replaced.
    """
    if phase == "search":
        return num_configurations(spec, workload, arm, num_failed) * len(spec.search.seeds)
    num_others = len(spec.confirm.candidates) - 1 if spec.is_shared(arm) else 0
    return min(spec.confirm.top_k + num_others, num_configurations(spec, workload, arm)) * len(spec.confirm_seeds)
