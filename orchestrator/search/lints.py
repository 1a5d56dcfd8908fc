"""What a careful reader would object to: warnings about a spec before it runs, and about a search after it.

Each is one sentence that names the study, the value and what to do. None stops a sweep.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.errors import DataCorrupt, DataNotFound
from orchestrator.home import Trial, TrialState
from orchestrator.search.candidates import Candidates
from orchestrator.search.early_stopping import judged_metric, rung_values
from orchestrator.search.points import num_points
from orchestrator.spec import (
    ALL,
    BASELINE,
    HIGHER_IS_BETTER,
    PHASES,
    Choice,
    Json,
    Range,
    SweepSpec,
    Template,
    Workload,
)
from orchestrator.spec.options import (
    WHOLE_BUDGET,
    GridOptions,
    SamplerOptions,
    ScheduleOptions,
    StoppingOptions,
    SymmetryOptions,
    WilcoxonOptions,
)
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
        (
            rung_values([(trial.history, trial.config.training.epochs)], trial.config.seeds, metric, scheduler.rungs),
            trial.result.value,
        )
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


BOUND_SHARE = 0.02
INVERTIBLE_ACTIVATIONS = frozenset({"leaky_relu", "tanh"})


def spec_lints(spec: SweepSpec) -> list[str]:
    """List what can be objected to before anything runs.

    Args:
        spec: of the sweep.

    Returns:
        A sentence each.
    """
    return list(_spec_lints(spec))


def lints(candidates: Candidates) -> list[str]:
    """List what can be objected to once the search has run, a sentence each, those of the spec first."""
    found = spec_lints(candidates.spec)
    for workload, arm in candidates.spec.searches:
        if workload == ALL:
            trials = [trial for each in candidates.shared[arm] if (trial := each.as_trial()) is not None]
        else:
            trials = [trial for trial in candidates.own.get((workload, arm), ()) if trial.result is not None]
        found += _study_lints(candidates.spec, workload, arm, trials)
    found += _device_lints(candidates.trials)
    return found


def _spec_lints(spec: SweepSpec) -> Iterator[str]:
    for label, template in spec.workloads.items():
        if not any(name.startswith("optimizer.") for name in (d.name for d in template.distributions())):
            yield (
                f"{label}: no optimizer setting is searched, so no arm is tuned and the comparison holds for these "
                "settings alone"
            )
    if len(spec.arms) == 1:
        yield f"only the {BASELINE} arm is there: nothing is compared"
    yield from _sampler_lints(spec)
    for label, template in spec.workloads.items():
        target = _value_at(template.raw, "target", "metric")
        if target is not None and spec.search.objective.metric not in (
            target,
            "steps_to_target",
            "seconds_to_target",
            "gradient_evaluations_to_target",
        ):
            yield f"{label}: the search improves {spec.search.objective.metric}, the target is on {target}"
    for event, hook in spec.hooks.by_event.items():
        if hook.has_secrets:
            yield (
                f"hooks.{event}: the webhook's user or query may be a secret, and the spec is kept and tracked; put it "
                "into an environment variable and write $NAME"
            )
    yield from _resource_lints(spec)
    yield from _precision_lints(spec)
    yield from _arm_lints(spec)
    yield from grace_lints(spec)
    yield from wilcoxon_lints(spec)


def _sampler_lints(spec: SweepSpec) -> Iterator[str]:
    """What the sampler cannot do with so few trials, or in these spaces."""
    sampler, trials = spec.search.sampler, spec.search.trials
    at_random = getattr(sampler, "n_startup_trials", getattr(sampler, "population_size", 0))
    if trials <= at_random:
        yield f"search.trials is {trials}: {sampler.name} proposes its first {at_random} at random"
    for workload, arm in spec.searches:
        size = num_points(spec.space(workload, arm), sampler)
        if isinstance(sampler, GridOptions) and trials < size:
            yield (
                f"{workload}/{arm}: search.trials is {trials}, the grid has {size:.6g} points: a part drawn at random "
                "is tried; raise search.trials or lower search.sampler.points"
            )
    for label, template in (*spec.workloads.items(), *spec.arms.items()):
        names = _unmodelled(sampler, template)
        if names:
            yield f"{label}: {sampler.name} draws {', '.join(names)} at random; tpe models choices and conditions"


def _unmodelled(sampler: SamplerOptions, template: Template) -> list[str]:
    """Parameters that a sampler does not learn about."""
    choices = [found for found in template.distributions() if isinstance(found, Choice)]
    inner = {
        distribution.name
        for choice in choices
        for option in choice.options
        for distribution in Template(option, None).distributions()
    }
    chosen = set() if sampler.models_choices else {choice.name for choice in choices}
    conditional = set() if sampler.models_conditional else inner
    return sorted(chosen | conditional)


def _resource_lints(spec: SweepSpec) -> Iterator[str]:
    """Seconds that are not a device's own, or of another kind of device than the search's."""
    search, confirm = (spec.resources.share(phase).gpu for phase in PHASES)
    if not confirm.is_integer():
        yield (
            f"resources.confirm.gpu is {confirm:g}: confirm trials share a GPU, so their seconds depend on each other; "
            f"give each {math.ceil(confirm)}"
        )
    if bool(search) != bool(confirm):
        lacks, has = ("search", "confirm") if confirm else ("confirm", "search")
        yield f"{has} trials are given a GPU and {lacks} trials none, so their devices differ; see resources"


def _precision_lints(spec: SweepSpec) -> Iterator[str]:
    """A precision that a CPU only pretends to have; it runs as asked all the same."""
    if all(spec.resources.share(phase).gpu for phase in PHASES):
        return
    for label, template in spec.workloads.items():
        trained = [Workload.model_validate(template.concretise(corner)) for corner in template.corners()]
        if any(one.precision == "float16" for one in trained):
            yield (
                f"{label}: float16 without a GPU is emulated, so its seconds say nothing; give trials a GPU "
                "(resources.gpu), or take bfloat16 or float32"
            )


def _arm_lints(spec: SweepSpec) -> Iterator[str]:
    """Arms that cannot do here what they are for."""
    for label, template in spec.workloads.items():
        trained = [Workload.model_validate(template.concretise(corner)) for corner in template.corners()]
        for arm in spec.arms:
            method = spec.example_of(arm)
            if method.state_reset is not None and all(map(_has_no_state, trained)):
                yield f"{label}/{arm}: plain sgd keeps no state, so resetting it is the baseline"
            if method.symmetry is not None:
                found = (_symmetry_objection(one, method.symmetry) for one in trained)
                yield from (f"{label}/{arm}: {objection}" for objection in dict.fromkeys(filter(None, found)))


def _has_no_state(workload: Workload) -> bool:
    settings = workload.optimizer.model_dump()
    return bool(settings["name"] == "sgd" and settings["momentum"] == 0.0)


def _symmetry_objection(workload: Workload, options: SymmetryOptions) -> str:
    """What is known of an MLP without building it; empty where nothing is wrong."""
    model = workload.model.model_dump()
    if model["name"] != "mlp":
        return ""
    if model["activation"] not in INVERTIBLE_ACTIVATIONS:
        known = " or ".join(sorted(INVERTIBLE_ACTIVATIONS))
        return f"{model['activation']} has no inverse, so the symmetry moves nothing; use {known}"
    size = options.batch_size or workload.data.batch_size
    narrow = [width for width in model["widths"][:-1] if width < size]
    if narrow:
        return (
            f"a batch of {size} is larger than the width {min(narrow)}, so the symmetry does not keep the loss; give "
            "it a smaller batch_size"
        )
    return ""


def _study_lints(spec: SweepSpec, workload: str, arm: str, trials: list[Trial]) -> Iterator[str]:
    complete = [trial for trial in trials if trial.result and trial.result.state is TrialState.COMPLETE]
    # One that was stopped could have gone on: it is worse than others, not infeasible.
    num_feasible = sum(trial.result is not None and trial.result.state is not TrialState.FAIL for trial in trials)
    if trials and num_feasible < len(trials) / 2:
        yield f"{workload}/{arm}: only {num_feasible} of {len(trials)} search trials are feasible; narrow the space"
    yield from rung_lints(spec, workload, arm, trials)
    if not complete:
        return
    sign = 1 if spec.search.objective.mode == "min" or workload == ALL else -1
    best = min(complete, key=lambda trial: sign * _value(trial))
    for template in spec.space(workload, arm):
        for distribution in template.distributions():
            if isinstance(distribution, Range) and distribution.name in best.config.values:
                bound = _bound_hit(distribution, best.config.values[distribution.name])
                if bound is not None:
                    yield (
                        f"{workload}/{arm}: the best {distribution.name} is at its bound {bound:g}; widen the range "
                        f"[{distribution.low:g}, {distribution.high:g}]"
                    )
    number = best.config.number or 0
    if len(trials) >= 8 and number >= 0.75 * max(trial.config.number or 0 for trial in trials):
        yield f"{workload}/{arm}: the best trial is #{number} of {len(trials)}: the search may still be improving"
    hits = [trial for trial in complete if _all_hit(trial)]
    if not hits:
        yield f"{workload}/{arm}: no configuration reached the target on every seed; the target may be out of reach"


def _device_lints(trials: Sequence[Trial]) -> Iterator[str]:
    asked = [trial for trial in trials if trial.config.share.gpu > 0 and trial.result and trial.result.machine]
    on_cpu = [
        trial for trial in asked if trial.result and trial.result.machine and trial.result.machine.device == "cpu"
    ]
    if on_cpu:
        yield f"{len(on_cpu)} trials asked for a GPU and ran on the CPU: their seconds compare with no GPU run"


def _value(trial: Trial) -> float:
    assert trial.result is not None
    assert trial.result.value is not None
    return trial.result.value


def _all_hit(trial: Trial) -> bool:
    return trial.result is not None and all(seed.steps_to_target is not None for seed in trial.result.seeds)


def _bound_hit(distribution: Range, value: Json) -> float | None:
    """Tell at which bound a value lies, within 2 % of the range; whole numbers must be at it."""
    assert isinstance(value, int | float)
    if distribution.low == distribution.high:
        return None
    scale = math.log if distribution.is_log else float
    low, high, at = scale(distribution.low), scale(distribution.high), scale(value)
    slack = 0.0 if distribution.is_integer else BOUND_SHARE * (high - low)
    if at <= low + slack:
        return distribution.low
    if at >= high - slack:
        return distribution.high
    return None


def _value_at(raw: Any, *keys: str) -> Any:
    for key in keys:
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw
