"""What a careful reader would object to in early stopping and racing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.errors import DataCorrupt, DataNotFound
from orchestrator.home.records import Trial, TrialState
from orchestrator.racing import MIN_PAIRS
from orchestrator.rungs import judged_metric, rung_values
from orchestrator.spec import HIGHER_IS_BETTER, SweepSpec, Workload
from orchestrator.spec.options import WHOLE_BUDGET, ScheduleOptions, StoppingOptions, WilcoxonOptions
from orchestrator.statistics import rank_correlation

# What a run is given after its first teleports to show what they were good for, as a share of it.
RECOVERY_SHARE = 0.05
MIN_COMPLETE = 3
# Below five points a rank correlation takes any value by chance.
MIN_CORRELATED = 5
LOW_CORRELATION = 0.5


def grace_lints(spec: SweepSpec) -> Iterator[str]:
    """Object to a grace that ends before teleports can have paid.

    Args:
        spec: of the sweep.

    Yields:
        A sentence for each study.
    """
    scheduler = spec.search.scheduler
    if not isinstance(scheduler, StoppingOptions):
        return
    for label, template in spec.workloads.items():
        trained = [Workload.model_validate(template.concretise(corner)) for corner in template.corners()]
        for arm in spec.arms:
            when = spec.example_of(arm).schedule
            ends = [end for one in trained if when is not None and (end := _first_end(one, when)) is not None]
            needed = (max(ends) + RECOVERY_SHARE) / len(spec.search.seeds) if ends else 0.0
            if scheduler.grace < needed:
                yield (
                    f"{label}/{arm}: search.scheduler judges from {scheduler.grace:g} of a trial's budget, but its "
                    f"first teleports and {RECOVERY_SHARE:.0%} of a run to recover take until {needed:.2g}; raise grace"
                )


def _first_end(workload: Workload, when: ScheduleOptions) -> float | None:
    """Where the teleports of the first epoch that has any end, as a share of a run; None where there are none."""
    try:
        batches_per_epoch = max(1, workload.data.train_size // workload.data.batch_size)
    except (DataNotFound, DataCorrupt):
        return None  # the dry run tells that the data is not here
    num_steps = batches_per_epoch * workload.epochs
    if when.at is not None:
        first = min(when.at, default=num_steps)
        return (first + 1) / num_steps if first < num_steps else None
    epoch_end = (when.warmup // batches_per_epoch + 1) * batches_per_epoch
    if when.warmup >= min(when.epochs, workload.epochs) * batches_per_epoch:
        return None
    last = when.warmup + (when.batches - 1) // when.every * when.every
    return min(last + 1, epoch_end) / num_steps


def race_lints(spec: SweepSpec) -> Iterator[str]:
    """Object to a race that nobody can lose.

    Args:
        spec: of the sweep.

    Yields:
        At most one sentence.
    """
    if not spec.confirm.race:
        return
    num_seeds = len(spec.confirm_seeds)
    if spec.confirm.top_k == len(spec.confirm.candidates) == 1:
        yield "confirm.race is on and confirm.top_k is 1: there is nothing to drop; raise top_k or leave race out"
    elif num_seeds <= MIN_PAIRS:
        yield (
            f"confirm.race is on with {num_seeds} confirm seeds: none is dropped before it has had {MIN_PAIRS}; give "
            "it more seeds or leave race out"
        )


def wilcoxon_lints(spec: SweepSpec) -> Iterator[str]:
    """Object to a race of settings that has too few pairs to give any up.

    Args:
        spec: of the sweep.

    Yields:
        At most one sentence.
    """
    scheduler = spec.search.scheduler
    if not isinstance(scheduler, WilcoxonOptions):
        return
    num_pairs = len(spec.workloads) * len(spec.search.seeds)
    if num_pairs <= scheduler.min_pairs:
        yield (
            f"search.scheduler: wilcoxon gives no setting up before it has had {scheduler.min_pairs} pairs of workload "
            f"and seed, and there are {num_pairs}: nothing is saved; give search.seeds more, or leave it out"
        )


def rung_lints(spec: SweepSpec, workload: str, arm: str, trials: Sequence[Trial]) -> Iterator[str]:
    """Object to a scheduler that stopped nearly all, or whose early values say little of the final ones.

    Args:
        spec: of the sweep.
        workload: label.
        arm: label.
        trials: of the study's search; those without a history cannot be judged by their early values.

    Yields:
        A sentence each.
    """
    scheduler = spec.search.scheduler
    if not isinstance(scheduler, StoppingOptions):
        return
    states = [trial.result.state for trial in trials if trial.result is not None]
    num_complete, num_pruned = states.count(TrialState.COMPLETE), states.count(TrialState.PRUNED)
    if num_pruned and num_complete < MIN_COMPLETE:
        yield (
            f"{workload}/{arm}: {num_pruned} of {len(states)} search trials were stopped and {num_complete} ran in "
            "full: too few to judge the stopping by; give it more trials or a longer grace"
        )
    metric = judged_metric(spec, workload)
    sign = 1.0 if (metric in HIGHER_IS_BETTER) == (spec.search.objective.mode == "max") else -1.0
    points = [
        (rung_values(trial.config, trial.history, metric, scheduler.rungs), trial.result.value)
        for trial in trials
        if trial.result is not None and trial.result.value is not None and trial.history
    ]
    for rung in scheduler.rungs:
        at_rung = [(sign * early[rung], final) for early, final in points if rung in early]
        if len(at_rung) < MIN_CORRELATED:
            continue
        correlation = rank_correlation(*zip(*at_rung, strict=True))
        if correlation is not None and correlation < LOW_CORRELATION:
            yield (
                f"{workload}/{arm}: {metric} at {rung / WHOLE_BUDGET:g} of the budget ranks {len(at_rung)} complete "
                f"trials unlike their final {spec.search.objective.metric} (Spearman {correlation:.2f}); a longer "
                "grace stops fewer good ones"
            )
