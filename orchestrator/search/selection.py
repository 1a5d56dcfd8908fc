"""Which candidates the search sends to confirm: by its own results alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from orchestrator.home import Trial
from orchestrator.search.candidates import Candidate, Candidates, by_value, is_complete
from orchestrator.spec import Role

Champions = dict[tuple[str, str], tuple[Trial, ...]]


def champions(candidates: Candidates) -> Champions:
    """Choose the search trials of each study that go to confirm, the champion first.

    The report compares the champion alone. The others, up to ``confirm.top_k``, are confirmed and shown, but to choose
    among them by their confirm results would bias the claim as the search's winner is biased. Of a shared search the
    candidates that ``confirm.candidates`` asks for come after these.
    """
    top_k = candidates.spec.confirm.top_k
    numbers = roles(candidates)
    return {
        study: (*trials[:top_k], *(trial for trial in trials[top_k:] if trial.config.number in numbers.get(study, {})))
        for study, trials in ranked(candidates).items()
    }


def roles(candidates: Candidates) -> dict[tuple[str, str], dict[int, tuple[Role, ...]]]:
    """Tell for what candidates of shared searches are confirmed, beside the rank they have.

    The roles are those that ``confirm.candidates`` asks for: ``chosen`` has the best aggregate, ``own`` is the best on
    this workload alone, ``leave_one_out`` has the best aggregate over all the others, ``leave_architecture_out`` the
    best over those of another architecture, and is left out where there is none.

    Returns:
        Workload and arm -> number of a candidate -> its roles; empty where nothing is shared.
    """
    spec = candidates.spec
    architectures = {label: trial.config.training.architecture for label, trial in candidates.baselines.items()}
    found: dict[tuple[str, str], dict[int, tuple[Role, ...]]] = {}
    for arm, of_arm in candidates.shared.items():
        complete = complete_of(of_arm)
        for workload in spec.workloads if complete else ():
            told: dict[int, tuple[Role, ...]] = {}
            for role in spec.confirm.candidates:
                judges = judges_of(role, workload, architectures)
                if judges:
                    number = best_over(judges, complete).number
                    told[number] = (*told.get(number, ()), role)
            found[workload, arm] = told
    return found


def complete_of(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Keep the candidates that ran in full, beside baselines: those that are chosen from."""
    return [candidate for candidate in candidates if candidate.aggregate is not None]


def best_over(workloads: Collection[str], candidates: Iterable[Candidate]) -> Candidate:
    """Choose the candidate with the smallest aggregate over some workloads; ties go to the first.

    Args:
        workloads: those that have a say, at least one.
        candidates: that ran in full, at least one.
    """
    return min(candidates, key=lambda candidate: (candidate.over(workloads) or 0.0, candidate.number))


def judges_of(role: Role, workload: str, architectures: Mapping[str, str]) -> set[str]:
    """Tell which workloads have a say in the choice of a candidate that is to run on one of them.

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


def ranked(candidates: Candidates) -> Champions:
    """Order the COMPLETE search trials of each study, the best first.

    They go by objective, ties by median steps to target, then by number. With several objectives the Pareto front comes
    first, then the front of the rest, and so on, each in this order of the first objective. A shared search has its
    candidates on that workload, in the order of their aggregates.
    """
    spec = candidates.spec
    found = {study: [trial for trial in candidates.own.get(study, ()) if is_complete(trial)] for study in spec.studies}
    signs = [1.0 if objective.mode == "min" else -1.0 for objective in spec.search.objectives]
    by_first = {study: by_value(trials, spec.search.objective.mode) for study, trials in found.items()}
    return {study: tuple(_by_front(trials, signs)) for study, trials in by_first.items()} | _ranked_shared(candidates)


def _ranked_shared(candidates: Candidates) -> Champions:
    found: Champions = {}
    for (workload, arm), trials in candidates.shared_by_workload.items():
        by_number = {trial.config.number: trial for trial in trials}
        complete = complete_of(candidates.shared[arm])
        ordered = sorted(complete, key=lambda candidate: (candidate.aggregate or 0.0, candidate.number))
        found[workload, arm] = tuple(by_number[candidate.number] for candidate in ordered)
    return found


def _by_front(trials: list[Trial], signs: list[float]) -> Iterator[Trial]:
    """Peel off Pareto fronts, in the order given within a front; one objective leaves the order as it is."""
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
