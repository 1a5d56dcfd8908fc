"""Which configurations the search sends to confirm: by its own results alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from orchestrator.home import SweepRecord, Trial
from orchestrator.search.candidates import (
    Setting,
    baselines_of,
    by_value,
    gathered,
    is_complete,
    settings_of,
    steps_to_target,
    stored_id,
    trials_of,
)
from orchestrator.spec import Role

Champions = dict[tuple[str, str], tuple[Trial, ...]]


def champions(record: SweepRecord) -> Champions:
    """Choose the top k of each study.

    The first of each is its champion: it alone is compared in the report. The others are confirmed and shown, but
    choosing among them by their confirm results would bias the claim as the search's winner is biased.

    Args:
        record: a sweep whose search may still run.

    Returns:
        ``(workload, arm)`` of every study -> the first ``confirm.top_k`` of :func:`ranked`; of a shared search the
        other candidates that ``confirm.candidates`` asks for come after these.
    """
    top_k = record.spec.confirm.top_k
    numbers = roles(record)
    return {
        study: (*trials[:top_k], *(trial for trial in trials[top_k:] if trial.config.number in numbers.get(study, {})))
        for study, trials in ranked(record).items()
    }


def roles(record: SweepRecord) -> dict[tuple[str, str], dict[int, tuple[Role, ...]]]:
    """Tell for what settings of shared searches are confirmed, beside the rank they have.

    Args:
        record: a sweep whose search may still run.

    Returns:
        Workload and arm -> number of a setting -> those of its roles that ``confirm.candidates`` asks for: ``chosen``
        (the best aggregate), ``own`` (the best on this workload alone), ``leave_one_out`` (the best aggregate over all
        the others), ``leave_architecture_out`` (the best over those of another architecture; left out where there is
        none). Empty where nothing is shared.
    """
    spec = record.spec
    architectures = _architectures(record)
    found: dict[tuple[str, str], dict[int, tuple[Role, ...]]] = {}
    for arm, settings in settings_of(spec, record.trials).items():
        complete = complete_of(settings)
        for workload in spec.workloads if complete else ():
            told: dict[int, tuple[Role, ...]] = {}
            for role in spec.confirm.candidates:
                judges = judges_of(role, workload, architectures)
                if judges:
                    number = best_over(judges, complete).number
                    told[number] = (*told.get(number, ()), role)
            found[workload, arm] = told
    return found


def complete_of(settings: Iterable[Setting]) -> list[Setting]:
    """Keep the settings that ran in full, beside baselines: those that are chosen from."""
    return [setting for setting in settings if setting.aggregate is not None]


def best_over(workloads: Collection[str], settings: Iterable[Setting]) -> Setting:
    """Choose among the settings of a shared search.

    Args:
        workloads: that have a say, at least one.
        settings: that ran in full, at least one.

    Returns:
        The one with the smallest aggregate over them, ties going to the first.
    """
    return min(settings, key=lambda setting: (setting.over(workloads) or 0.0, setting.number))


def _architectures(record: SweepRecord) -> dict[str, str]:
    """Look up the model of each workload that has a tuned baseline."""
    tuned = baselines_of(record.spec, record.trials)
    return {workload: trial.config.training.architecture for workload, trial in tuned.items()}


def judges_of(role: Role, workload: str, architectures: Mapping[str, str]) -> set[str]:
    """Tell which workloads have a say in the choice of a setting.

    Args:
        role: what it is chosen for.
        workload: on which it is to run.
        architectures: workload -> its model, of all workloads.

    Returns:
        Their labels; none where a role asks for others that are not there.
    """
    match role:
        case "chosen":
            return set(architectures)
        case "own":
            return {workload}
        case "leave_one_out":
            return set(architectures) - {workload}
        case "leave_architecture_out":
            return {other for other, one in architectures.items() if one != architectures[workload]}


def ranked(record: SweepRecord) -> Champions:
    """Order the search trials of each study, the best first.

    Args:
        record: a sweep whose search may still run.

    Returns:
        ``(workload, arm)`` of every study -> its COMPLETE search trials: by objective, ties by median steps to
        target, then by number. Where there are several objectives the Pareto front comes first, then the front of
        the rest, and so on, each in this order of the first objective. Those of a shared search are its settings on
        that workload, in the order of their aggregates. Empty where none is COMPLETE.
    """
    spec = record.spec
    found: dict[tuple[str, str], list[Trial]] = {study: [] for study in spec.studies}
    for trial in gathered(record).trials:
        study = (trial.config.workload, trial.config.arm)
        if trial.config.phase == "search" and study in found and is_complete(trial) and not spec.is_shared(study[1]):
            found[study].append(trial)
    signs = [1.0 if objective.mode == "min" else -1.0 for objective in spec.search.objectives]
    by_first = {study: by_value(trials, spec.search.objective.mode) for study, trials in found.items()}
    return {study: tuple(_by_front(trials, signs)) for study, trials in by_first.items()} | _ranked_settings(record)


def _ranked_settings(record: SweepRecord) -> Champions:
    settings = settings_of(record.spec, record.trials)
    of_study = trials_of(record.spec, record.trials, settings)
    found: Champions = {}
    for (workload, arm), trials in of_study.items():
        by_number = {trial.config.number: trial for trial in trials}
        ordered = sorted(complete_of(settings[arm]), key=lambda setting: (setting.aggregate or 0.0, setting.number))
        found[workload, arm] = tuple(by_number[setting.number] for setting in ordered)
    return found


def _by_front(trials: list[Trial], signs: list[float]) -> Iterator[Trial]:
    """Peel off Pareto fronts; one objective has fronts of equals, which are in order already.

    Yields:
        The trials, in the order given within a front.
    """
    if len(signs) == 1:
        yield from trials
        return
    left = [(trial, _losses(trial, signs)) for trial in trials]
    while left:
        # Nothing dominates what is before it in this order, so a front is found in one pass.
        front: list[tuple[float, ...]] = []
        for _, losses in sorted(left, key=lambda one: one[1]):
            if not any(_dominates(other, losses) for other in front):
                front.append(losses)
        members = set(front)
        yield from (trial for trial, losses in left if losses in members)
        left = [(trial, losses) for trial, losses in left if losses not in members]


def _losses(trial: Trial, signs: list[float]) -> tuple[float, ...]:
    assert trial.result is not None
    return tuple(sign * value for sign, value in zip(signs, trial.result.values, strict=True))


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


__all__ = [
    "Champions",
    "best_over",
    "champions",
    "complete_of",
    "is_complete",
    "judges_of",
    "ranked",
    "roles",
    "steps_to_target",
    "stored_id",
]
