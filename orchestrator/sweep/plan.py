"""The dry run: says what a spec will do, what it will cost and what it can show, and starts nothing."""

from __future__ import annotations

import math
import statistics as stdlib_statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

from orchestrator.errors import UserError, nearest
from orchestrator.home import Trial, TrialConfig, TrialState
from orchestrator.launch import Node, num_concurrent, shortfall, this_machine
from orchestrator.search import (
    coarse_evaluation,
    given_points,
    num_busy,
    num_grid_points,
    num_planned,
    spec_lints,
    time_lints,
)
from orchestrator.spec import PHASES, Arm, Json, Phase, SweepSpec, Workload, canonical_json
from orchestrator.statistics import ALPHA, censored_median, seeds_needed, smallest_p
from orchestrator.sweep.budgets import SECONDS_PER_HOUR, shortfalls
from orchestrator.sweep.calibration import calibration_of
from orchestrator.trial import Budget
from orchestrator.trial.data import locate_for


@final
@dataclass(frozen=True)
class Pace:
    """How fast a configuration trains; None where nothing like it has run.

    Args:
        seconds_per_step: wall-clock time of an optimizer step, with its share of evaluations and teleports.
        steps_to_target: optimizer steps to its target.
    """

    seconds_per_step: float | None = None
    steps_to_target: float | None = None


PaceOf = Callable[[Workload, Arm], Pace]


@final
@dataclass(frozen=True)
class StudyPlan:
    """What one study will do. What depends on the pace of its trials is None where the pace is not known.

    Args:
        workload: label.
        arm: label.
        parameters: names of the parameters that are searched.
        num_search: number of search trials.
        num_confirm: number of confirm trials.
        steps_per_seed: optimizer steps of one seed, at most.
        evaluate_every: optimizer steps between two evaluations of that seed.
        steps_to_target: optimizer steps that a seed is expected to take to its target; None where nothing like it has
            reached one.
        num_steps: optimizer steps of the whole study, at most.
        seconds: time of the study on one worker.
        wall_clock: its part of the sweep's seconds, with as many trials at once as fit.
        gpu_hours: GPUs that its trials hold, times the hours for which they hold them.
        trial_seconds: time of its longest trial.
    """

    workload: str
    arm: str
    parameters: tuple[str, ...]
    num_search: int
    num_confirm: int
    steps_per_seed: int
    evaluate_every: int
    steps_to_target: float | None
    num_steps: int
    seconds: float | None
    wall_clock: float | None
    gpu_hours: float | None
    trial_seconds: float | None


@final
@dataclass(frozen=True)
class Plan:
    """What a sweep will do. Times are None where the pace of its trials is not known.

    Args:
        name: of the sweep.
        description: the question of the sweep.
        studies: workload by workload.
        place: where it is to run: this machine, or the address of a cluster.
        num_concurrent: search trials that fit there at once; 0 where no cluster answers there.
        num_concurrent_confirm: confirm trials that fit there at once.
        num_busy: search trials that the studies can have running at once, were there room for all of them.
        seconds: estimate of the wall-clock time there.
        gpu_hours: of all studies.
        power: what the confirm seeds can show, a sentence each.
        warnings: what that place lacks, a sentence each.
        lints: what a careful reader would object to, a sentence each.
    """

    name: str
    description: str
    studies: tuple[StudyPlan, ...]
    place: str
    num_concurrent: int
    num_concurrent_confirm: int
    num_busy: int
    seconds: float | None
    gpu_hours: float | None
    power: tuple[str, ...]
    warnings: tuple[str, ...]
    lints: tuple[str, ...]

    @property
    def num_trials(self) -> int:
        """Number of all trials."""
        return sum(study.num_search + study.num_confirm for study in self.studies)

    @property
    def num_steps(self) -> int:
        """Number of all optimizer steps, at most."""
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
        warnings: what is wrong with the place as a whole, a sentence each.
    """

    name: str
    nodes: Sequence[Node]
    warnings: tuple[str, ...] = ()


def make_plan(
    spec: SweepSpec,
    pace_of: PaceOf = lambda workload, arm: Pace(),
    place: Place | None = None,
    sweeps: Collection[str] | None = None,
) -> Plan:
    """Work out what a sweep will do.

    Args:
        spec: of the sweep.
        pace_of: tells how fast a workload trains under an arm.
        place: where the sweep is to run; None for this machine.
        sweeps: names of the sweeps in the home; None skips the checks that need them.

    Raises:
        UserError: a point of ``search.points`` cannot be proposed.
    """
    given_points(spec)
    place = place or Place(this_machine().name, [this_machine()])
    is_known = bool(place.nodes)
    fitting = {phase: _num_concurrent(spec, phase, place) for phase in PHASES}
    busy = num_busy(spec)
    at_once: dict[Phase, int] = {**fitting, "search": max(1, min(fitting["search"], busy))}
    studies = tuple(_study(spec, workload, arm, pace_of, at_once) for workload, arm in spec.studies)
    if not is_known:
        studies = tuple(replace(study, wall_clock=None) for study in studies)
    seconds = _sum(study.wall_clock for study in studies)
    gpu_hours = _sum(study.gpu_hours for study in studies)
    longest = max((study.trial_seconds for study in studies if study.trial_seconds is not None), default=None)
    return Plan(
        name=spec.name,
        description=spec.description,
        studies=studies,
        place=place.name,
        num_concurrent=fitting["search"] if is_known else 0,
        num_concurrent_confirm=fitting["confirm"] if is_known else 0,
        num_busy=busy,
        seconds=seconds,
        gpu_hours=gpu_hours,
        power=(*_power(spec), *_grid_sentences(spec), *calibration_of(spec)),
        warnings=(*_warnings(spec, place, sweeps), *shortfalls(spec, seconds, gpu_hours, longest)),
        lints=(
            *spec_lints(spec),
            *_coarse_evaluations(studies),
            *_idle_workers(spec, fitting["search"]),
            *time_lints(spec),
        ),
    )


def _coarse_evaluations(studies: Sequence[StudyPlan]) -> Iterator[str]:
    """Object to workloads that are evaluated so seldom that small effects on the steps to target are lost."""
    for label in dict.fromkeys(study.workload for study in studies):
        known = [s for s in studies if s.workload == label and s.steps_to_target is not None]
        fastest = min(known, key=lambda study: study.steps_to_target or 0.0, default=None)
        if fastest is not None and (told := coarse_evaluation(fastest.evaluate_every, fastest.steps_to_target)):
            yield f"{label}: {told}"


def _idle_workers(spec: SweepSpec, fitting: int) -> Iterator[str]:
    """Say which ``search.concurrency`` keeps all workers busy, where the one of the spec lets some wait."""
    concurrency, busy = spec.search.concurrency, num_busy(spec)
    wanted = min(fitting, num_busy(spec, spec.search.trials))
    if busy < wanted:
        enough = next(num for num in range(concurrency + 1, spec.search.trials + 1) if num_busy(spec, num) >= wanted)
        yield (
            f"search.concurrency is {concurrency}, so the studies keep at most {busy} of {fitting} workers busy in the "
            f"search; {enough} would keep {min(fitting, num_busy(spec, enough))} busy, and each proposal would be made "
            "with fewer results known"
        )


def _grid_sentences(spec: SweepSpec) -> Iterator[str]:
    """Say at which learning rates the arms will be compared."""
    if len(spec.arms) == 1 or not spec.confirm_seeds:
        return
    if spec.confirm.grid == "none":
        yield (
            "confirm.grid is none, so each arm is confirmed at the learning rate that its own search finds, and the "
            "luck of one search is in every verdict"
        )
        return
    for workload in spec.workloads:
        num = num_grid_points(spec, workload)
        yield f"{workload}: every arm is confirmed at the same learning rates, about {num} of them (3 to 9, or more)"


def _power(spec: SweepSpec) -> list[str]:
    """Say what the confirm seeds can show, over one search of each arm or over several."""
    if spec.search.replicates == 1 or not spec.confirm_seeds or not spec.num_primary:
        return power(spec.num_primary, len(spec.confirm_seeds))
    return [
        f"each arm is searched {spec.search.replicates} times, and a verdict holds the luck of these searches as well "
        f"as that of {len(spec.confirm_seeds)} seeds, so it speaks of the method; an effect must be larger to be seen "
        "(docs/methodology.md, Over several searches)"
    ]


def power(num_comparisons: int, num_seeds: int) -> list[str]:
    """Say in sentences what so many confirm seeds can show of so many primary comparisons.

    The smallest p of an exact two-sided sign-flip test over n pairs is 2^(1-n); Holm multiplies it by the number
    of primary comparisons. The smallest effect is the normal approximation for 80 % power at 5 %, in standard
    deviations of the paired differences: (1.960 + 0.842) / sqrt(n).
    """
    if not num_seeds:
        return ["the spec has no confirm phase, so it is a plain search and makes no claim"]
    if not num_comparisons:
        return ["the spec has no teleport arm, so it makes no claim"]
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


def measured_pace(trials: Iterable[Trial]) -> PaceOf:
    """Make a look-up of the pace of earlier trials on this machine.

    Its seconds are the median over trials with the same model, data and kind of arm. Its steps to target are those of
    the fastest configuration with the same model, data and target, as a median over the seeds of that configuration:
    a search will find one that is about as fast.
    """
    paces: dict[tuple[str, str], list[float]] = {}
    steps_of: dict[str, dict[str, list[float]]] = {}
    for trial in trials:
        result = trial.result
        if result is not None and result.state is TrialState.COMPLETE:
            steps = sum(seed.num_steps for seed in result.seeds)
            config = trial.config
            key = _kind_of(config.training, "model", "data"), config.method.kind
            paces.setdefault(key, []).append((result.ended_at - result.started_at) / max(steps, 1))
            of_target = steps_of.setdefault(_kind_of(config.training, "model", "data", "target"), {})
            of_target.setdefault(config.configuration_id, []).extend(
                math.inf if seed.steps_to_target is None else seed.steps_to_target for seed in result.seeds
            )

    def look_up(workload: Workload, arm: Arm) -> Pace:
        found = paces.get((_kind_of(workload, "model", "data"), arm.kind))
        medians = map(censored_median, steps_of.get(_kind_of(workload, "model", "data", "target"), {}).values())
        fastest = min(medians, default=math.inf)
        return Pace(
            seconds_per_step=stdlib_statistics.median(found) if found else None,
            steps_to_target=None if math.isinf(fastest) else fastest,
        )

    return look_up


def pilot_pace(workload: Workload, arm: Arm) -> Pace:
    """Time one epoch of a configuration here and now; imports torch.

    Teleports stop after their epochs, so their time is spread over a full run. The steps to target are known only
    where the epoch reaches it.

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
    return Pace(total / (seed.num_steps * workload.epochs), seed.steps_to_target)


def _epochs_with_teleports(arm: Arm, short: Workload, workload: Workload) -> float:
    """Tell how many times as many teleports a whole run has as its first epoch."""
    when = arm.schedule
    if when is None:
        return 0.0
    if when.at is None:
        return min(when.epochs, workload.epochs)
    timed, due = (sum(step < _num_steps(of) for step in when.at) for of in (short, workload))
    return due / timed if timed else 0.0


def _kind_of(workload: Workload, *fields: str) -> str:
    """Write down some fields of a workload; workloads whose texts are equal have them in common."""
    plain: Json = workload.model_dump(mode="json", include=set(fields))
    return canonical_json(plain)


def _study(spec: SweepSpec, workload: str, arm: str, pace_of: PaceOf, at_once: Mapping[Phase, int]) -> StudyPlan:
    template = spec.workloads[workload]
    corners = [Workload.model_validate(template.concretise(corner)) for corner in template.corners()]
    largest = max(corners, key=_num_steps)
    budget = _budget(largest)
    num_trials = {phase: num_planned(spec, workload, arm, phase) for phase in PHASES}
    steps = {phase: budget.num_steps * num for phase, num in num_trials.items()}
    gpu_steps = sum(steps[phase] * spec.resources.share(phase).gpu for phase in PHASES)
    pace = pace_of(largest, spec.example_of(arm))

    def timed(num_steps: float) -> float | None:
        return None if pace.seconds_per_step is None else pace.seconds_per_step * num_steps

    return StudyPlan(
        workload=workload,
        arm=arm,
        parameters=tuple(d.name for part in spec.space(workload, arm) for d in part.distributions()),
        num_search=num_trials["search"],
        num_confirm=num_trials["confirm"],
        steps_per_seed=budget.num_steps,
        evaluate_every=budget.evaluate_every,
        steps_to_target=pace.steps_to_target,
        num_steps=sum(steps.values()),
        seconds=timed(sum(steps.values())),
        wall_clock=timed(sum(steps[phase] / at_once[phase] for phase in PHASES)),
        gpu_hours=timed(gpu_steps / SECONDS_PER_HOUR),
        trial_seconds=timed(budget.num_steps),
    )


def _budget(workload: Workload) -> Budget:
    return Budget.of(workload, workload.data.train_size)


def _num_steps(workload: Workload) -> int:
    return _budget(workload).num_steps


def _sum(values: Iterable[float | None]) -> float | None:
    """Add up; None where a value is not known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None


def _num_concurrent(spec: SweepSpec, phase: Phase, place: Place) -> int:
    share = spec.resources.share(phase)
    fits = num_concurrent(place.nodes, share)
    # A warning names trials that do not fit; the estimate is then for one trial after the other.
    return max(1, min(fits, spec.search.max_concurrent or fits))


def _warnings(spec: SweepSpec, place: Place, sweeps: Collection[str] | None) -> Iterator[str]:
    yield from place.warnings
    wanted = spec.search.warm_start
    if wanted is not None and sweeps is not None and wanted.sweep not in sweeps:
        yield f"search.warm_start: this home has no sweep {wanted.sweep!r}; {nearest(wanted.sweep, sweeps)}"
    lacking = {phase: shortfall(place.nodes, spec.resources.share(phase)) for phase in PHASES}
    yield from (f"{phase}: {message}" for phase, message in lacking.items() if message and place.nodes)
    for label, template in spec.workloads.items():
        data = Workload.model_validate(template.concretise(template.corners()[0])).data
        if not (found := locate_for(data)).is_found:
            yield f"{label}: data set {data.name} is not here: {found.reason}"
    for event, hook in spec.hooks.by_event.items():
        if hook.lacks():
            yield f"hooks.{event} cannot be called from here: {hook.lacks()}"
