"""Counts what a sweep runs, from its spec alone."""

from __future__ import annotations

from orchestrator.search.points import num_points
from orchestrator.spec import ALL, ConfirmGridOptions, Phase, SweepSpec, grid_range

# A grid of learning rates has so many points as a rule: four where the arms agree, up to nine where they do not.
USUAL_POINTS = 5


def num_candidates(spec: SweepSpec, workload: str, arm: str, num_failed: int = 0) -> int:
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

    Of the confirm phase this is what is usual: how many points its grid has follows from what the search finds. Arms
    with settings of their own are confirmed with those that each replicate of the search found.
    ``num_failed`` is the number of candidates of the search that gave no answer and are replaced.
    """
    if phase == "search":
        num_others = (spec.search.replicates - 1) * num_candidates(spec, workload, arm)
        return (num_candidates(spec, workload, arm, num_failed) + num_others) * len(spec.search.seeds)
    num_others = len(spec.confirm.candidates) - 1 if spec.is_shared(arm) else 0
    # Where nothing is searched the spec itself is the one candidate.
    num_chosen = min(spec.confirm.top_k + num_others, max(1, num_candidates(spec, workload, arm)))
    num_settings = spec.search.replicates if spec.arms[arm].distributions() or arm in spec.sources else 1
    return (num_chosen - 1 + num_grid_points(spec, workload) * num_settings) * len(spec.confirm_seeds)


def num_grid_points(spec: SweepSpec, workload: str) -> int:
    """Count the points at which each arm's first choice is confirmed, as far as that is known before the search."""
    grid = spec.confirm.grid
    if not isinstance(grid, ConfirmGridOptions):
        return 1
    if grid.values is not None:
        return len(grid.values)
    if grid_range(spec.workloads[workload], spec.confirm) is not None:
        return USUAL_POINTS
    return len(spec.arms) if spec.workloads[workload].distributions() else 1


def num_busy(spec: SweepSpec, concurrency: int | None = None) -> int:
    """Count the search trials that can run at once, however many workers there are.

    A study has up to ``concurrency`` candidates under way, each with all its runs; where a scheduler judges curves the
    seeds of a candidate run one after the other. An arm that takes its settings from another one does not run beside
    it, and a shared search does not run beside the baselines.

    Args:
        spec: of the sweep.
        concurrency: instead of ``search.concurrency``.
    """
    followers = {arm: [one for one, source in spec.sources.items() if source == arm] for arm in spec.arms}

    def most(workload: str, arm: str) -> int:
        at_once = min(concurrency or spec.search.concurrency, num_candidates(spec, workload, arm))
        num_runs = 1 if spec.search.scheduler.rungs else len(spec.search.seeds)
        own = at_once * num_runs * (len(spec.workloads) if workload == ALL else spec.search.replicates)
        return max(own, sum(most(workload, follower) for follower in followers[arm]))

    first = [(workload, most(workload, arm)) for workload, arm in spec.searches if arm not in spec.sources]
    shared = sum(num for workload, num in first if workload == ALL)
    return max(shared, sum(num for workload, num in first if workload != ALL))
