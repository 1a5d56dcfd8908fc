"""Counts what a sweep runs: candidates, trials and the seeds of each, from the spec alone."""

from __future__ import annotations

from orchestrator.search.points import num_points
from orchestrator.spec import ConfirmGridOptions, Phase, SweepSpec, grid_range

# A grid of learning rates has so many points as a rule: four where the arms agree, up to nine where they do not.
USUAL_POINTS = 5


def num_configurations(spec: SweepSpec, workload: str, arm: str, num_failed: int = 0) -> int:
    """Count the configurations that a search tries, the settings of a shared one; a space that holds fewer has fewer.

    Args:
        spec: of the sweep.
        workload: label; any for an arm whose search is shared.
        arm: label.
        num_failed: of them that gave no answer and are replaced, up to ``search.max_replaced``.

    Returns:
        The number.
    """
    size = num_points(spec.space(workload, arm), spec.search.sampler)
    return int(min(min(spec.search.trials, size) + min(num_failed, spec.search.num_replaceable), size))


def num_planned(spec: SweepSpec, workload: str, arm: str, phase: Phase, num_failed: int = 0) -> int:
    """Count the trials on file that an arm has on a workload in a phase; a setting of a shared search has its seeds.

    Args:
        spec: of the sweep.
        workload: label.
        arm: label.
        phase: search or confirm.
        num_failed: configurations of its search that gave no answer and are replaced.

    Returns:
        The number of trials; of the confirm phase of a shared search the most there can be, since a setting may be
        chosen for two reasons.
    """
    if phase == "search":
        return num_configurations(spec, workload, arm, num_failed) * len(spec.search.seeds)
    num_others = len(spec.confirm.candidates) - 1 if spec.is_shared(arm) else 0
    num_candidates = min(spec.confirm.top_k + num_others, num_configurations(spec, workload, arm))
    return (num_candidates - 1 + num_grid_points(spec, workload)) * len(spec.confirm_seeds)


def num_grid_points(spec: SweepSpec, workload: str) -> int:
    """Count the points at which each arm's first choice is confirmed, before the search has told how many there are."""
    grid = spec.confirm.grid
    if not isinstance(grid, ConfirmGridOptions):
        return 1
    if grid.values is not None:
        return len(grid.values)
    if grid_range(spec.workloads[workload], spec.confirm) is not None:
        return USUAL_POINTS
    return len(spec.arms) if spec.workloads[workload].distributions() else 1
