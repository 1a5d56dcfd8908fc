"""Lints: what a careful reader would object to in a spec before it runs, and in a search after it.

Each is one sentence that names the study, the value and what to do. None of them stops a sweep.
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
    PHASES,
    Choice,
    Json,
    Range,
    SweepSpec,
    Template,
    Workload,
    is_higher_better,
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

# Share of a run that is allowed after the first teleports for their effect to show.
RECOVERY_SHARE = 0.05
MIN_COMPLETE = 3
# With fewer points a rank correlation takes any value by chance.
MIN_CORRELATED = 5
LOW_CORRELATION = 0.5
BOUND_SHARE = 0.02
INVERTIBLE_ACTIVATIONS = frozenset({"leaky_relu", "tanh"})
# Evaluations further apart than this share of the steps to target hide small effects: at a true -10 % and 8 seeds the
# power falls from .63 to .58 at 5 %, to .43 at 10 % and to .13 at 20 %, if times to target are not interpolated.
COARSE_SHARE = 0.05
# Objectives in seconds -> the one that counts work instead.
TIMED_METRICS = {"seconds": "gradient_evaluations", "seconds_to_target": "gradient_evaluations_to_target"}


def grace_lints(spec: SweepSpec) -> Iterator[str]:
    """Object to a grace that ends before teleports can have paid."""
    scheduler = spec.search.scheduler
    if not isinstance(scheduler, StoppingOptions):
        return
    for label, template in spec.workloads.items():
        trained = _trained(template)
        for arm in spec.arms:
            when = spec.example_of(arm).schedule
            ends = [end for one in trained if when is not None and (end := _first_end(one, when)) is not None]
            needed = (max(ends) + RECOVERY_SHARE) / len(spec.search.seeds) if ends else 0.0
            if scheduler.grace < needed:
                yield (
                    f"{label}/{arm}: search.scheduler judges a trial from {scheduler.grace:g} of its budget, but the "
                    f"first teleports and {RECOVERY_SHARE:.0%} of a run to recover last until {needed:.2g}; raise grace"
                )


def _trained(template: Template) -> list[Workload]:
    return [Workload.model_validate(template.concretise(corner)) for corner in template.corners()]


def _first_end(workload: Workload, when: ScheduleOptions) -> float | None:
    """Tell at which share of a run the teleports of its first epoch with teleports end; None where there are none."""
    try:
        batches_per_epoch = max(1, workload.data.train_size // workload.data.batch_size)
    except (DataNotFound, DataCorrupt):
        return None  # the plan warns that the data is not here
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
    """Object to ``wilcoxon`` where there are too few pairs of workload and seed to give any candidate up."""
    scheduler = spec.search.scheduler
    if not isinstance(scheduler, WilcoxonOptions):
        return
    num_pairs = len(spec.workloads) * len(spec.search.seeds)
    if num_pairs <= scheduler.min_pairs:
        yield (
            f"search.scheduler: wilcoxon gives no candidate up before it has had {scheduler.min_pairs} pairs of "
            f"workload and seed, and there are {num_pairs}, so it saves nothing; add seeds to search.seeds, or leave "
            "the scheduler out"
        )


def rung_lints(spec: SweepSpec, workload: str, arm: str, trials: Sequence[Trial]) -> Iterator[str]:
    """Object to a scheduler that stopped nearly all candidates, or whose early values say little of the final ones.

    Each candidate is one trial; those without a history cannot be judged by their early values.
    """
    scheduler = spec.search.scheduler
    if not isinstance(scheduler, StoppingOptions):
        return
    states = [trial.result.state for trial in trials if trial.result is not None]
    num_complete, num_pruned = states.count(TrialState.COMPLETE), states.count(TrialState.PRUNED)
    if num_pruned and num_complete < MIN_COMPLETE:
        yield (
            f"{workload}/{arm}: {num_pruned} of {len(states)} candidates were stopped and {num_complete} ran in full, "
            "which is too few to judge the stopping by; give the search more trials or a longer grace"
        )
    metric = judged_metric(spec, workload)
    sign = 1.0 if is_higher_better(metric) == (spec.search.objective.mode == "max") else -1.0
    known = [trial for trial in trials if trial.result is not None and trial.result.value is not None]
    points = [
        (rung_values(each.history, each.config.training.epochs, each.config.seeds, metric, scheduler.rungs), each)
        for each in known
    ]
    for rung in scheduler.rungs:
        at_rung = [(sign * early[rung], _value(trial)) for early, trial in points if rung in early]
        if len(at_rung) < MIN_CORRELATED:
            continue
        correlation = rank_correlation(*zip(*at_rung, strict=True))
        if correlation is not None and correlation < LOW_CORRELATION:
            yield (
                f"{workload}/{arm}: {metric} at {rung / WHOLE_BUDGET:g} of the budget ranks {len(at_rung)} complete "
                f"candidates unlike their final {spec.search.objective.metric} (Spearman {correlation:.2f}); a longer "
                "grace stops fewer good ones"
            )


def coarse_evaluation(every: int, steps_to_target: float | None) -> str:
    """Object to evaluations that are far apart for the steps that a run takes to its target; empty where they are not.

    Args:
        every: optimizer steps between two evaluations.
        steps_to_target: optimizer steps to the target; None where they are not known.
    """
    if steps_to_target is None or not 0.0 < steps_to_target < math.inf or every <= COARSE_SHARE * steps_to_target:
        return ""
    finer = max(1, math.floor(COARSE_SHARE * steps_to_target))
    cure = f"; evaluate.every: {finer} is fine enough" if finer < every else ""
    return (
        f"it is evaluated every {every} steps, which is {every / steps_to_target:.0%} of the {steps_to_target:.4g} "
        "steps to its target, so the steps to target are interpolated over wide gaps and small effects are hidden"
        f"{cure}"
    )


def time_lints(spec: SweepSpec) -> Iterator[str]:
    """Name everything that makes the results of a spec depend on how fast its trials run."""
    search = spec.search
    if isinstance(search.scheduler, StoppingOptions) and (search.concurrency > 1 or len(search.seeds) > 1):
        yield (
            f"search.scheduler: {search.scheduler.name} compares a trial with what has arrived by then, so the trials "
            "that it stops depend on how fast others run; search.concurrency: 1 with one seed in search.seeds avoids "
            "this"
        )
    for objective in search.objectives:
        if objective.metric in TIMED_METRICS:
            yield (
                f"search: the objective {objective.metric} is measured by a clock, so another run of this sweep may "
                f"propose and choose other candidates; {TIMED_METRICS[objective.metric]} does not depend on time"
            )
    for key in ("wall_clock", "gpu_hours", "per_trial"):
        if getattr(spec.budget, key) is not None:
            yield f"budget.{key} is a limit of time, so the speed of the machine decides what is cut off by it"


def lints(candidates: Candidates) -> list[str]:
    """List the lints of a search that has run, those of its spec first."""
    found = spec_lints(candidates.spec)
    for workload, arm in candidates.spec.searches:
        if workload == ALL:
            trials = [trial for each in candidates.shared[arm] if (trial := each.as_trial()) is not None]
        else:
            trials = [trial for trial in candidates.own.get((workload, arm), ()) if trial.result is not None]
        found += _study_lints(candidates.spec, workload, arm, trials)
    found += _device_lints(candidates.trials)
    return found


def spec_lints(spec: SweepSpec) -> list[str]:
    """List the lints of a spec."""
    parts = (_comparison_lints, _sampler_lints, _target_lints, _hook_lints, _resource_lints, _precision_lints)
    return [lint for part in (*parts, _arm_lints, grace_lints, wilcoxon_lints) for lint in part(spec)]


def _comparison_lints(spec: SweepSpec) -> Iterator[str]:
    for label, template in spec.workloads.items():
        # A choice among optimizers is named "optimizer", and what one of them searches "optimizer[name=adam].lr".
        names = {distribution.name.partition("[")[0] for distribution in template.distributions()}
        if not any(name.split(".")[0] == "optimizer" for name in names):
            yield (
                f"{label}: no optimizer setting is searched, so no arm is tuned, and the comparison holds for these "
                "settings alone"
            )
    if len(spec.arms) == 1:
        yield f"the spec has only the {BASELINE} arm, so nothing is compared"


def _target_lints(spec: SweepSpec) -> Iterator[str]:
    metric = spec.search.objective.metric
    for label, template in spec.workloads.items() if spec.search.trials else ():
        target = _value_at(template.raw, "target", "metric")
        if target not in (None, metric) and not metric.endswith("_to_target"):
            yield f"{label}: the search improves {metric}, the target is on {target}"


def _hook_lints(spec: SweepSpec) -> Iterator[str]:
    for event, hook in spec.hooks.by_event.items():
        if hook.has_secrets:
            yield (
                f"hooks.{event}: the webhook's user or query may be a secret, and the spec is stored and tracked; put "
                "it into an environment variable and write $NAME"
            )


def _sampler_lints(spec: SweepSpec) -> Iterator[str]:
    """Object where the sampler cannot do its work with so few trials, or in these spaces."""
    sampler, trials = spec.search.sampler, spec.search.trials
    at_random = getattr(sampler, "n_startup_trials", getattr(sampler, "population_size", 0))
    has_space = any(template.distributions() for one in spec.searches for template in spec.space(*one))
    if has_space and trials <= at_random:
        yield f"search.trials is {trials}, and {sampler.name} proposes its first {at_random} candidates at random"
    for workload, arm in spec.searches:
        size = num_points(spec.space(workload, arm), sampler)
        if isinstance(sampler, GridOptions) and trials < size:
            yield (
                f"{workload}/{arm}: search.trials is {trials} and the grid has {size:.6g} points, so the search tries "
                "a random part of them; raise search.trials or lower search.sampler.points"
            )
    for label, template in (*spec.workloads.items(), *spec.arms.items()):
        names = _unmodelled(sampler, template)
        if names:
            yield f"{label}: {sampler.name} draws {', '.join(names)} at random; tpe models choices and conditions"


def _unmodelled(sampler: SamplerOptions, template: Template) -> list[str]:
    """List the parameters about which a sampler learns nothing."""
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
    """Object to seconds of a shared device, and to phases on different kinds of device."""
    search, confirm = (spec.resources.share(phase).gpu for phase in PHASES)
    if not confirm.is_integer():
        yield (
            f"resources.confirm.gpu is {confirm:g}, so confirm trials share a GPU and their seconds depend on each "
            f"other; give each {math.ceil(confirm)}"
        )
    if bool(search) != bool(confirm):
        lacks, has = ("search", "confirm") if confirm else ("confirm", "search")
        yield f"{has} trials are given a GPU and {lacks} trials none, so their devices differ; see resources"


def _precision_lints(spec: SweepSpec) -> Iterator[str]:
    """Object to a precision that a CPU emulates; it runs as asked all the same."""
    if all(spec.resources.share(phase).gpu for phase in PHASES):
        return
    for label, template in spec.workloads.items():
        if any(one.precision == "float16" for one in _trained(template)):
            yield (
                f"{label}: a CPU emulates float16, so its seconds say nothing; give trials a GPU (resources.gpu), or "
                "take bfloat16 or float32"
            )


def _arm_lints(spec: SweepSpec) -> Iterator[str]:
    """Object to arms that cannot do here what they are for."""
    for label, template in spec.workloads.items():
        trained = _trained(template)
        for arm in spec.arms:
            method = spec.example_of(arm)
            if method.state_reset is not None and all(map(_has_no_state, trained)):
                yield f"{label}/{arm}: plain sgd keeps no state, so this arm does the same as the baseline"
            if method.symmetry is not None:
                found = (_symmetry_objection(one, method.symmetry) for one in trained)
                yield from (f"{label}/{arm}: {objection}" for objection in dict.fromkeys(filter(None, found)))


def _has_no_state(workload: Workload) -> bool:
    settings = workload.optimizer.model_dump()
    return bool(settings["name"] == "sgd" and settings["momentum"] == 0.0)


def _symmetry_objection(workload: Workload, options: SymmetryOptions) -> str:
    """Say why a symmetry cannot work on an MLP, without building it; empty where nothing is known against it."""
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
    # A stopped trial is worse than others, and not infeasible: it could have gone on.
    num_feasible = sum(trial.result is not None and trial.result.state is not TrialState.FAIL for trial in trials)
    has_space = any(template.distributions() for template in spec.space(workload, arm))
    if has_space and num_feasible < len(trials) / 2:
        yield f"{workload}/{arm}: only {num_feasible} of {len(trials)} candidates are feasible; narrow the space"
    yield from rung_lints(spec, workload, arm, trials)
    if not complete:
        return
    sign = 1 if spec.search.objective.mode == "min" or workload == ALL else -1
    best = min(complete, key=lambda trial: sign * _value(trial))
    for template in spec.space(workload, arm):
        for distribution in template.distributions():
            name = distribution.name
            if not isinstance(distribution, Range) or name not in best.config.values:
                continue
            low, high = distribution.low, distribution.high
            if (bound := _bound_hit(distribution, best.config.values[name])) is not None:
                told = f"{workload}/{arm}: the best {name} is at its bound {bound:g}"
                yield f"{told}; widen the range [{low:g}, {high:g}]"
    number = best.config.number or 0
    if len(trials) >= 8 and number >= 0.75 * max(trial.config.number or 0 for trial in trials):
        yield f"{workload}/{arm}: candidate #{number} of {len(trials)} is the best, so the search may still improve"
    if not any(_all_hit(trial) for trial in complete):
        yield f"{workload}/{arm}: no candidate reached the target on every seed; the target may be out of reach"


def _device_lints(trials: Sequence[Trial]) -> Iterator[str]:
    results = [trial.result for trial in trials if trial.config.share.gpu > 0 and trial.result is not None]
    on_cpu = [result for result in results if result.machine is not None and result.machine.device == "cpu"]
    if on_cpu:
        yield f"{len(on_cpu)} trials asked for a GPU and ran on the CPU, so their seconds compare with no run on a GPU"


def _value(trial: Trial) -> float:
    assert trial.result is not None
    assert trial.result.value is not None
    return trial.result.value


def _all_hit(trial: Trial) -> bool:
    return trial.result is not None and all(seed.steps_to_target is not None for seed in trial.result.seeds)


def _bound_hit(distribution: Range, value: Json) -> float | None:
    """Tell at which bound a value lies: within 2 % of the range, or for whole numbers exactly at it."""
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
