"""Finds the workloads on which an arm was tuned, and of which candidate a run is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.errors import Fault
from orchestrator.home import Trial, TrialConfig
from orchestrator.report.identity import candidate_id, changes_of, key_of, method_id
from orchestrator.search import (
    Candidate,
    Candidates,
    Champions,
    best_over,
    champions,
    complete_of,
    confirm_grids,
    confirmed,
    training_id,
    training_of,
)
from orchestrator.spec import BASELINE, Json, Workload

Place = tuple[str, str]


@final
@dataclass(frozen=True)
class Source:
    """A workload on which an arm was tuned.

    Args:
        workload: its label.
        sweep: the candidates of the sweep that tuned the arm there.
        best: the arm's champion; of a shared search, the candidate that is best on this workload.
        baseline: the baseline's champion. Every candidate is compared on this workload with its training values.
    """

    workload: str
    sweep: Candidates
    best: Trial
    baseline: Trial

    @property
    def training(self) -> str:
        """Identity of the workload with these training values."""
        return training_id(self.baseline.config.training)

    @property
    def is_shared(self) -> bool:
        """Whether one search tuned the arm on all workloads of the sweep together."""
        return self.sweep.spec.is_shared(self.best.config.arm)

    @property
    def key(self) -> str:
        """Identity of the candidate that was tuned here."""
        config = self.best.config
        return candidate_id(config.method, changes_of(self.sweep.spec, config.arm, config.values))

    @property
    def complete(self) -> list[Candidate]:
        """The candidates of a shared search that ran in full, by number; none of any other search."""
        return complete_of(self.sweep.shared.get(self.best.config.arm, ()))


@final
class Matcher:
    """Tells of which candidate on which workload a run is.

    A run counts on a workload where it trained with the values tuned for the workload's baseline, or with what its
    candidate changes of them.

    Args:
        sources: the workloads on which the arm was tuned, at least one.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._kind = sources[0].best.config.method.kind
        self._tuned: dict[str, list[str]] = {}
        self._changed: dict[tuple[str, str], list[Place]] = {}
        self.changes: dict[str, dict[str, Json]] = {}
        """Key of a candidate -> what it changes of the training values; those that change nothing are left out."""
        for source in sources:
            self._tuned.setdefault(source.training, []).append(source.workload)
        spec = sources[0].sweep.spec
        for candidate in sources[0].complete:
            changes = changes_of(spec, candidate.arm, candidate.values)
            if changes:
                key = key_of(spec, candidate)
                self.changes[key] = changes
                for source in sources:
                    training = training_id(training_of(spec, source.baseline.config, candidate.values))
                    place = training, method_id(candidate.method)
                    self._changed.setdefault(place, []).append((key, source.workload))

    def places(self, config: TrialConfig) -> list[Place]:
        """Find what a run counts as: pairs of a candidate's key (empty for the baseline) and a workload."""
        kind, training = config.method.kind, training_id(config.training)
        if kind == BASELINE:
            return [("", workload) for workload in self._tuned.get(training, ())]
        if kind != self._kind:
            return []
        method = method_id(config.method)
        # A candidate may ask for the very values that were tuned; then its runs count as its own alone.
        changed = self._changed.get((training, method))
        return changed or [(method, workload) for workload in self._tuned.get(training, ())]


def sources_of(sweeps: Sequence[Candidates], arm: str) -> tuple[tuple[Source, ...], tuple[Fault, ...]]:
    """Find the workloads on which an arm was tuned, and what keeps others from being among them."""
    found: dict[str, Source] = {}
    faults: list[Fault] = []
    for sweep in sweeps:
        if arm not in sweep.spec.arms or arm == BASELINE:
            continue
        first = next((source.sweep for source in found.values()), sweep)
        if sweep is not first and (sweep.spec.is_shared(arm) or first.spec.is_shared(arm)):
            faults.append(_mixed(sweep, first, arm))
            continue
        is_shared = sweep.spec.is_shared(arm)
        best = champions(sweep) | _own_bests(sweep, arm) if is_shared else confirmed(sweep, confirm_grids(sweep))
        for workload in sweep.spec.workloads:
            where = f"sweep {sweep.spec.name}"
            lacking = " and ".join(f"{workload}/{label}" for label in (BASELINE, arm) if not best[workload, label])
            if workload in found:
                other = found[workload].sweep.spec.name
                told = f"{workload}/{arm} was tuned in {other} too, and each has its own best; name one of them"
                faults.append(Fault(where, told))
            elif lacking:
                told = f"no trial of the search of {lacking} ended well, so there is no best setting to carry over"
                faults.append(Fault(where, told))
            else:
                found[workload] = Source(workload, sweep, best[workload, arm][0], best[workload, BASELINE][0])
    return tuple(found.values()), tuple(faults)


def _mixed(sweep: Candidates, first: Candidates, arm: str) -> Fault:
    shared, other = (sweep, first) if sweep.spec.is_shared(arm) else (first, sweep)
    return Fault(
        f"sweep {sweep.spec.name}",
        f"{arm} was searched on all workloads of {shared.spec.name} together, so each of its settings is one for all "
        f"of them, and none can be chosen on these and on those of {other.spec.name}; name one of the two",
    )


def _own_bests(sweep: Candidates, arm: str) -> Champions:
    """Find the candidate of a shared search that is best on each workload; empty for any other search."""
    complete = complete_of(sweep.shared.get(arm, ()))
    return {
        (workload, label): tuple(trial for trial in trials if trial.config.number == best.number)
        for (workload, label), trials in sweep.shared_by_workload.items()
        if label == arm and complete
        for best in [best_over({workload}, complete)]
    }


def mismatches(sweeps: Sequence[Candidates], sources: Sequence[Source]) -> Iterator[Fault]:
    """Find workloads that share a label and are not the same, so that their runs could not be put side by side."""
    for source in sources:
        here = _essence(source.baseline.config.training)
        for sweep in sweeps:
            if sweep is source.sweep or source.workload not in sweep.spec.workloads:
                continue
            template = sweep.spec.workloads[source.workload]
            there = _essence(Workload.model_validate(template.concretise(template.corners()[0])))
            different = [part for part in here if here[part] != there[part]]
            if different:
                told = ", ".join(f"{part} ({here[part]} and {there[part]})" for part in different)
                names = f"{source.sweep.spec.name} and {sweep.spec.name}"
                yield Fault(
                    f"workload {source.workload}",
                    f"is not the same in {names}: {told} differ; run one of them again under another label",
                )


def _essence(training: Workload) -> dict[str, str]:
    """Describe what makes it that workload, apart from what may be tuned."""
    target = f"{training.target.metric} {training.target.value:g}"
    return {"target": target, "model": training.model.name, "data": training.data.name}
