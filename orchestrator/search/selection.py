"""Chooses the candidates that go to confirm, by the results of the search alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from orchestrator.home import Trial, TrialConfig
from orchestrator.search.candidates import Candidate, Candidates, by_value, is_complete
from orchestrator.search.counts import num_candidates
from orchestrator.spec import Role, SweepSpec, Workload

Champions = dict[tuple[str, str], tuple[Trial, ...]]


def champions(candidates: Candidates) -> Champions:
    """Choose the search trials of each study that go to confirm, the champion first.

    The report compares the champion alone. The others, up to ``confirm.top_k``, are confirmed and shown. To choose
    among them by their confirm results would bias the claim. The candidates of a shared search that
    ``confirm.candidates`` asks for come last. A search of one candidate has nothing to choose, so that candidate goes
    to confirm also where it diverged: on how many seeds it does so is then the answer. Where nothing is
    searched, each study has the one candidate that the spec writes, without a result. With ``search.replicates`` the
    champion of each independent search goes to confirm, in their order.
    """
    if not candidates.spec.search.trials:
        return {study: (_written(candidates.spec, *study),) for study in candidates.spec.studies}
    top_k = candidates.spec.confirm.top_k
    numbers = roles(candidates)
    found = ranked(candidates)
    found |= {study: lone for study, best in found.items() if not best and (lone := _lone(candidates, *study))}
    if candidates.spec.search.replicates > 1:
        return {study: tuple(_first_of_each_replicate(trials)) for study, trials in found.items()}
    return {
        study: (*trials[:top_k], *(trial for trial in trials[top_k:] if trial.config.number in numbers.get(study, {})))
        for study, trials in found.items()
    }


def _first_of_each_replicate(trials: Sequence[Trial]) -> list[Trial]:
    first: dict[int, Trial] = {}
    for trial in trials:
        first.setdefault(trial.config.replicate, trial)
    return [first[replicate] for replicate in sorted(first)]


def _written(spec: SweepSpec, workload: str, arm: str) -> Trial:
    """Make the candidate of a spec in which every value is fixed."""
    config = TrialConfig(
        workload=workload,
        arm=arm,
        phase="search",
        seeds=spec.search.seeds,
        training=Workload.model_validate(spec.workloads[workload].concretise({})),
        method=spec.example_of(arm),
        objective=spec.search.objective,
        also=spec.search.also,
    )
    return Trial(config=config)


def _lone(candidates: Candidates, workload: str, arm: str) -> tuple[Trial, ...]:
    """Give the candidate of a search that has only one, where it diverged, which another seed may not do."""
    if num_candidates(candidates.spec, workload, arm) > 1:
        return ()
    own = candidates.own.get((workload, arm), ())
    return tuple(trial for trial in own if trial.result is not None and trial.result.failure_kind == "diverged")[:1]


def roles(candidates: Candidates) -> dict[tuple[str, str], dict[int, tuple[Role, ...]]]:
    """Tell for which roles of ``confirm.candidates`` the candidates of shared searches are confirmed.

    ``chosen`` has the best aggregate, ``own`` is the best on this workload alone, ``leave_one_out`` has the best
    aggregate over all other workloads, and ``leave_architecture_out`` the best over those of another architecture,
    where there are any.

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
    """Keep the candidates that ran in full and have baselines to compare with: the choice is among these."""
    return [candidate for candidate in candidates if candidate.aggregate is not None]


def best_over(workloads: Collection[str], candidates: Iterable[Candidate]) -> Candidate:
    """Choose the candidate with the smallest aggregate over some workloads; ties go to the smallest number.

    At least one workload and one candidate must be given, and all candidates must have run in full.
    """
    return min(candidates, key=lambda candidate: (candidate.over(workloads) or 0.0, candidate.number))


def judges_of(role: Role, workload: str, architectures: Mapping[str, str]) -> set[str]:
    """Tell which workloads decide on the candidate that runs on a workload in some role.

    Args:
        role: for which the candidate is chosen.
        workload: on which it is to run.
        architectures: workload -> its architecture, for all workloads.

    Returns:
        Labels of workloads; none where the role asks for other workloads and there are none.
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

    They are ordered by objective, ties by median steps to target, then by number. With several objectives the Pareto
    front comes first, then the front of the rest, and so on, each in this order of the first objective. A shared search
    has its candidates on each workload in the order of their aggregates.
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
    """Yield Pareto front after Pareto front, in the order given within each; one objective keeps the order."""
    if len(signs) == 1:
        yield from trials
        return
    left = [(trial, _losses(trial, signs)) for trial in trials]
    while left:
        # In sorted order no trial dominates an earlier one, so one pass finds the front.
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
