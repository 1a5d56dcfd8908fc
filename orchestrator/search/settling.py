"""Which of a candidate's runs settles it, and what the candidate then comes to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from orchestrator.home import TrialResult, TrialState
from orchestrator.search.costs import Pair, aggregate_of
from orchestrator.search.early_stopping import loses
from orchestrator.spec import SharedScope, SweepSpec
from orchestrator.spec.options import WilcoxonOptions


def never(num_runs: int) -> bool:
    """Say of a candidate that is compared with no other that it has not lost."""
    return False


def settle(
    results: Sequence[TrialResult | None], has_lost: Callable[[int], bool] = never, *, start: int = 0
) -> tuple[TrialState | None, int]:
    """Look at a candidate's runs in their order, up to the one that settles it.

    The first run that did not end well settles a candidate, and so does the run after which it has lost. Runs behind
    that one do not count, whether they were begun or not, so that a candidate comes to the same with one worker or
    with many.

    Args:
        results: of each run, in order; None where a run has not ended.
        has_lost: tells whether the candidate has lost by its first so many runs. It is not asked about all of them,
            since nothing is left to spare then.
        start: how many runs earlier calls have looked at.

    Returns:
        The candidate's state, None while a run that counts has not ended; and how many runs were looked at.
    """
    for place in range(start, len(results)):
        result = results[place]
        if result is None:
            return None, place
        if result.state is not TrialState.COMPLETE:
            return result.state, place + 1
        if place + 1 < len(results) and has_lost(place + 1):
            return TrialState.PRUNED, place + 1
    return TrialState.COMPLETE, len(results)


def aggregate_over(spec: SweepSpec, pairs: Sequence[Pair], log_ratios: Sequence[float]) -> float:
    """Aggregate a candidate's first ratios, which belong to the first of these pairs, as the spec says."""
    assert isinstance(spec.search.scope, SharedScope)
    by_workload: dict[str, list[float]] = defaultdict(list)
    for (workload, _), log_ratio in zip(pairs, log_ratios, strict=False):
        by_workload[workload].append(log_ratio)
    return aggregate_of(spec.search.scope.aggregate, by_workload)


def has_lost_to(
    spec: SweepSpec, pairs: Sequence[Pair], leader: Sequence[float] | None, log_ratios: Sequence[float]
) -> bool:
    """Tell whether a candidate of a shared search has lost to the best of those that its proposal knew of.

    Args:
        spec: of the sweep; a candidate can lose under the scheduler ``wilcoxon`` alone.
        pairs: of workload and seed, in the order of the runs.
        leader: logarithm of the other candidate's cost over the baseline's on every pair; None where no other
            candidate has ended well.
        log_ratios: the same of this candidate, on the first pairs.
    """
    scheduler = spec.search.scheduler
    if leader is None or not isinstance(scheduler, WilcoxonOptions):
        return False
    # The signed-rank test speaks of most pairs, the aggregate may be of the worst workload.
    is_behind = aggregate_over(spec, pairs, log_ratios) > aggregate_over(spec, pairs, leader)
    return is_behind and loses(scheduler, log_ratios, leader)
