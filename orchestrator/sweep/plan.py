"""The dry run: what a spec will do, what it will cost, what it can show; nothing is started."""

from __future__ import annotations

import statistics as stdlib_statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from orchestrator.errors import UserError, nearest
from orchestrator.home import Trial, TrialConfig, TrialState
from orchestrator.launch import Node, num_concurrent, shortfall, this_machine
from orchestrator.search import num_planned, spec_lints
from orchestrator.spec import PHASES, Arm, Json, Phase, SweepSpec, Workload, canonical_json
from orchestrator.statistics import ALPHA, seeds_needed, smallest_p
from orchestrator.sweep.budgets import SECONDS_PER_HOUR, shortfalls
from orchestrator.trial import Budget
from orchestrator.trial.data import locate_for

SecondsPerStep = Callable[[Workload, Arm], float | None]


@final
@dataclass(frozen=True)
class StudyPlan:
    """What one study will do.

    Args:
        workload: label.
        arm: label.
        parameters: names of what is searched.
        num_search: search trials.
        num_confirm: confirm trials.
        steps_per_seed: optimizer steps of one seed, at most.
        num_steps: optimizer steps of the whole study, at most.
        seconds: on one worker; None where the pace is not known.
        wall_clock: its part of the sweep's seconds, as many trials at once as fit; None where the pace is not known.
        gpu_hours: GPUs that its trials hold times the hours they hold them; None where the pace is not known.
        trial_seconds: of the longest trial.
    """

    workload: str
    arm: str
    parameters: tuple[str, ...]
    num_search: int
    num_confirm: int
    steps_per_seed: int
    num_steps: int
    seconds: float | None
    wall_clock: float | None
    gpu_hours: float | None
    trial_seconds: float | None


@final
@dataclass(frozen=True)
class Plan:
    """What a sweep will do.

    Args:
        name: of the sweep.
        description: its question.
        studies: workload by workload.
        place: where it is to run: this machine, or the address of a cluster.
        num_concurrent: search trials at once there.
        num_concurrent_confirm: confirm trials at once there.
        seconds: wall-clock estimate there; None where the pace is not known.
        gpu_hours: of all studies; None where the pace is not known.
        power: what the confirm seeds can show, a sentence each.
        warnings: what that place lacks.
        lints: what can be objected to.
    """

    name: str
    description: str
    studies: tuple[StudyPlan, ...]
    place: str
    num_concurrent: int
    num_concurrent_confirm: int
    seconds: float | None
    gpu_hours: float | None
    power: tuple[str, ...]
    warnings: tuple[str, ...]
    lints: tuple[str, ...]

    @property
    def num_trials(self) -> int:
        """Trials in all."""
        return sum(study.num_search + study.num_confirm for study in self.studies)

    @property
    def num_steps(self) -> int:
        """Optimizer steps in all, at most."""
        return sum(study.num_steps for study in self.studies)

    def to_json(self) -> dict[str, Any]:
        """Write the plan as plain data."""
        return {**asdict(self), "num_trials": self.num_trials, "num_steps": self.num_steps}


@final
@dataclass(frozen=True)
class Place:
    """Where a sweep is to run.

    Args:
        name: for people.
        nodes: its machines.
        warnings: what is wrong with it as a whole.
    """

    name: str
    nodes: Sequence[Node]
    warnings: tuple[str, ...] = ()


def make_plan(
    spec: SweepSpec,
    seconds_per_step: SecondsPerStep = lambda workload, arm: None,
    place: Place | None = None,
    sweeps: Collection[str] | None = None,
) -> Plan:
    """Work out what a sweep will do.

    Args:
        spec: of the sweep.
        seconds_per_step: how long an optimizer step takes, teleports included; None where it is not known.
        place: where it is to run; None: on this machine.
        sweeps: names of those in the home; None: not looked at.

    Returns:
        The plan.
    """
    here = this_machine()
    place = place or Place(here.name, [here])
    at_once = {phase: _num_concurrent(spec, phase, place) for phase in PHASES}
    studies = tuple(_study(spec, workload, arm, seconds_per_step, at_once) for workload, arm in spec.studies)
    return Plan(
        name=spec.name,
        description=spec.description,
        studies=studies,
        place=place.name,
        num_concurrent=at_once["search"],
        num_concurrent_confirm=at_once["confirm"],
        seconds=_sum(study.wall_clock for study in studies),
        gpu_hours=_sum(study.gpu_hours for study in studies),
        power=tuple(power(spec.num_primary, len(spec.confirm_seeds))),
        warnings=(
            *place.warnings,
            *_warnings(spec, place),
            *_over_budget(spec, studies),
            *_source_warnings(spec, sweeps),
        ),
        lints=tuple(spec_lints(spec)),
    )


def _over_budget(spec: SweepSpec, studies: Sequence[StudyPlan]) -> Iterable[str]:
    longest = [study.trial_seconds for study in studies if study.trial_seconds is not None]
    seconds = _sum(study.wall_clock for study in studies)
    gpu_hours = _sum(study.gpu_hours for study in studies)
    return shortfalls(spec, seconds, gpu_hours, max(longest, default=None))


def power(num_comparisons: int, num_seeds: int) -> list[str]:
    """Say what the confirm seeds can show.

    The smallest p of an exact two-sided sign-flip test over n pairs is 2^(1-n); Holm multiplies it by the number
    of primary comparisons. The smallest effect is the normal approximation for 80 % power at 5 %, in standard
    deviations of the paired differences: (1.960 + 0.842) / sqrt(n).

    Args:
        num_comparisons: primary ones, one per workload and teleport arm.
        num_seeds: pairs.

    Returns:
        A sentence each.
    """
    smallest = min(1.0, smallest_p(num_seeds) * num_comparisons)
    needed = seeds_needed(num_comparisons, ALPHA)
    family = f"{num_comparisons} primary comparison" + ("" if num_comparisons == 1 else "s")
    if smallest > ALPHA:
        return [
            f"not enough seeds: {num_seeds} pairs cannot go below p = {smallest:.3g} with {family}; confirm.seeds must "
            f"be at least {needed}"
        ]
    normal = stdlib_statistics.NormalDist()
    effect = (normal.inv_cdf(1 - ALPHA / 2) + normal.inv_cdf(0.8)) / num_seeds**0.5
    return [
        f"{num_seeds} seeds can reach p = {smallest:.3g} with {family} (at least {needed} needed)",
        f"an effect of about {effect:.2f} standard deviations of the paired difference is seen in 4 of 5 sweeps",
    ]


def measured_pace(trials: Iterable[Trial]) -> SecondsPerStep:
    """Look up the pace of earlier trials with the same model, data and kind of arm.

    Args:
        trials: of earlier sweeps on this machine.

    Returns:
        The median seconds per optimizer step, evaluation included; None for what never ran.
    """
    paces: dict[tuple[str, str], list[float]] = {}
    for trial in trials:
        result = trial.result
        if result is not None and result.state is TrialState.COMPLETE:
            steps = sum(seed.num_steps for seed in result.seeds)
            key = _pace_key(trial.config.training, trial.config.method)
            paces.setdefault(key, []).append((result.ended_at - result.started_at) / max(steps, 1))

    def look_up(workload: Workload, arm: Arm) -> float | None:
        found = paces.get(_pace_key(workload, arm))
        return stdlib_statistics.median(found) if found else None

    return look_up


def pilot_pace(workload: Workload, arm: Arm) -> float:
    """Time one epoch of a configuration here and now; imports torch.

    Args:
        workload: what is trained.
        arm: how.

    Returns:
        Seconds per optimizer step over a full run: teleports stop after their epochs, so their time is spread.

    Raises:
        UserError: the configuration does not run.
    """
    from orchestrator.trial import run_trial

    short = Workload.model_validate({**workload.model_dump(exclude_unset=True), "epochs": 1})
    config = TrialConfig(workload="pilot", arm="pilot", phase="search", seeds=(0,), training=short, method=arm)
    run_trial(config, lambda rows: None)
    result = run_trial(config, lambda rows: None)
    if result.state is not TrialState.COMPLETE:
        assert result.failure is not None
        raise UserError(f"the pilot failed: {result.failure.message}")
    seed = result.seeds[0]
    teleport_epochs = _epochs_with_teleports(arm, short, workload)
    wall = result.ended_at - result.started_at
    total = (wall - seed.teleport_seconds) * workload.epochs + seed.teleport_seconds * teleport_epochs
    return total / (seed.num_steps * workload.epochs)


def _epochs_with_teleports(arm: Arm, short: Workload, workload: Workload) -> float:
    """How many times the teleports of the first epoch a whole run has."""
    when = arm.schedule
    if when is None:
        return 0.0
    if when.at is None:
        return min(when.epochs, workload.epochs)
    timed, due = (sum(step < _num_steps(of) for step in when.at) for of in (short, workload))
    return due / timed if timed else 0.0


def _pace_key(workload: Workload, arm: Arm) -> tuple[str, str]:
    plain: Json = workload.model_dump(mode="json", include={"model", "data"})
    return canonical_json(plain), arm.kind


def _study(
    spec: SweepSpec, workload: str, arm: str, seconds_per_step: SecondsPerStep, at_once: Mapping[Phase, int]
) -> StudyPlan:
    template = spec.workloads[workload]
    corners = [Workload.model_validate(template.concretise(corner)) for corner in template.corners()]
    largest = max(corners, key=_num_steps)
    method = spec.example_of(arm)
    num_search = num_planned(spec, workload, arm, "search")
    num_confirm = num_planned(spec, workload, arm, "confirm")
    num_trials: dict[Phase, int] = {"search": num_search, "confirm": num_confirm}
    steps = {phase: _num_steps(largest) * num for phase, num in num_trials.items()}
    pace = seconds_per_step(largest, method)
    return StudyPlan(
        workload=workload,
        arm=arm,
        parameters=tuple(d.name for part in spec.space(workload, arm) for d in part.distributions()),
        num_search=num_search,
        num_confirm=num_confirm,
        steps_per_seed=_num_steps(largest),
        num_steps=sum(steps.values()),
        seconds=None if pace is None else pace * sum(steps.values()),
        wall_clock=None if pace is None else sum(pace * steps[phase] / at_once[phase] for phase in PHASES),
        gpu_hours=None
        if pace is None
        else sum(pace * steps[phase] * spec.resources.share(phase).gpu for phase in PHASES) / SECONDS_PER_HOUR,
        trial_seconds=None if pace is None else pace * _num_steps(largest),
    )


def _num_steps(workload: Workload) -> int:
    return Budget.of(workload, workload.data.train_size).num_steps


def _sum(values: Iterable[float | None]) -> float | None:
    """Add up; what is not known of one is not known of all."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _num_concurrent(spec: SweepSpec, phase: Phase, place: Place) -> int:
    share = spec.resources.share(phase)
    fits = num_concurrent(place.nodes, share)
    # Trials that do not fit are warned of; the estimate is what one after the other would take.
    return max(1, min(fits, spec.search.max_concurrent or fits))


def _source_warnings(spec: SweepSpec, sweeps: Collection[str] | None) -> Iterable[str]:
    wanted = spec.search.warm_start
    if wanted is not None and sweeps is not None and wanted.sweep not in sweeps:
        yield f"search.warm_start: no sweep {wanted.sweep!r} in this home; {nearest(wanted.sweep, sweeps)}"


def _warnings(spec: SweepSpec, place: Place) -> Iterator[str]:
    lacking = {phase: shortfall(place.nodes, spec.resources.share(phase)) for phase in PHASES}
    yield from (f"{phase}: {message}" for phase, message in lacking.items() if message and place.nodes)
    for label, template in spec.workloads.items():
        data = Workload.model_validate(template.concretise(template.corners()[0])).data
        found = locate_for(data)
        if not found.is_found:
            yield f"{label}: data set {data.name} is not here: {found.reason}"
    for event, hook in spec.hooks.by_event.items():
        if hook.lacks():
            yield f"hooks.{event} cannot be called from here: {hook.lacks()}"
