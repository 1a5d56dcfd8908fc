"""From a sweep's record to its report: everything the pages say is worked out here, once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from orchestrator.home import Machine, SweepRecord
from orchestrator.report.answers import answers_of
from orchestrator.report.comparisons import PRIMARY_KIND, comparisons_of
from orchestrator.report.equal_time import equal_time_of
from orchestrator.report.profiles import profiles_of
from orchestrator.report.schema import Comparison, Failure, Report, StudyReport, Sweep, SweepStage, Verdict
from orchestrator.report.shared_search import with_settings
from orchestrator.report.studies import study_of
from orchestrator.report.transfer import transfers_of
from orchestrator.report.tuning import tunings_of
from orchestrator.search import champions, gathered, roles, settings_of, stored_id
from orchestrator.spec import BASELINE, SweepSpec, Target


def summarise(record: SweepRecord, lints: Iterable[str] = ()) -> Report:
    """Work out a sweep's report, whatever state the sweep is in.

    Args:
        record: the sweep; without histories the report has no curves.
        lints: what others object to, a sentence each; the report adds its own.

    Returns:
        The report.
    """
    # A setting of which a unit was cut off has not been given up, so these are gathered from all there is.
    settings, reasons, whole = settings_of(record.spec, record.trials), roles(record), gathered(record)
    transfers = transfers_of([record])
    if record.ended_early:
        # What was cut off is not running, and may go on another time.
        record, whole = _ended(record), _ended(whole)
    spec = record.spec
    best = champions(record)
    targets = {label: _target(spec, label) for label in spec.workloads}
    found = {study: study_of(whole, *study, best[study]) for study in spec.studies}
    found |= {
        (workload, arm): with_settings(study, settings[arm], reasons.get((workload, arm), {}))
        for (workload, arm), study in found.items()
        if arm in settings
    }
    tunings = {
        label: tunings_of([study for study in found.values() if study.workload == label], spec.search.objective)
        for label in spec.workloads
    }
    studies = tuple(
        study.model_copy(
            update={
                "equal_time": equal_time_of(study, found[workload, BASELINE], targets[workload]),
                "tuning": tunings[workload].get(arm),
            }
        )
        for (workload, arm), study in found.items()
    )
    comparisons = comparisons_of(studies, spec.confirm_seeds, spec.search.trials, ended_early=bool(record.ended_early))
    standing = SweepStage.ENDED_EARLY if record.ended_early else _standing(spec, studies)
    return Report(
        sweep=Sweep(
            name=spec.name,
            description=spec.description,
            standing=standing,
            objective=spec.search.objective,
            search_seeds=spec.search.seeds,
            confirm_seeds=spec.confirm_seeds,
            targets=targets,
            spec=json.loads(spec.model_dump_json(exclude={"hooks"})),
            ended_early=record.ended_early,
            also=spec.search.also,
        ),
        provenance=record.provenance,
        machines=_machines(record),
        answers=answers_of(studies, comparisons, targets),
        studies=studies,
        comparisons=comparisons,
        failures=tuple(_failures(record)),
        lints=tuple(dict.fromkeys([*lints, *_lints(record, studies), *_control_lints(studies, comparisons)])),
        profiles=profiles_of(studies) if standing is SweepStage.FINISHED else (),
        transfers=transfers,
    )


def _ended(record: SweepRecord) -> SweepRecord:
    return replace(record, trials=tuple(trial for trial in record.trials if trial.result is not None))


def _target(spec: SweepSpec, workload: str) -> Target:
    """A workload's target; where the spec searches over it, there is none but that of a corner."""
    template = spec.workloads[workload]
    return Target.model_validate(template.concretise(template.corners()[0])["target"])


def _standing(spec: SweepSpec, studies: Sequence[StudyReport]) -> SweepStage:
    runs = [run for study in studies for candidate in study.candidates for run in candidate.confirm]
    candidates = [candidate for study in studies for candidate in study.candidates]
    planned = sum(len(each.confirm) if each.dropped else len(spec.confirm_seeds) for each in candidates)
    if runs:
        ended = sum(run.outcome != "running" for run in runs)
        return SweepStage.FINISHED if ended >= planned else SweepStage.CONFIRM
    if any(study.num_trials < study.num_wanted for study in studies):
        return SweepStage.SEARCH
    return SweepStage.NOT_CONFIRMED if planned else SweepStage.FINISHED


def _machines(record: SweepRecord) -> tuple[Machine, ...]:
    found: dict[str, Machine] = {}
    for trial in record.trials:
        if trial.result is not None and trial.result.machine is not None:
            found.setdefault(trial.result.machine.model_dump_json(), trial.result.machine)
    return tuple(found.values())


def _failures(record: SweepRecord) -> Iterator[Failure]:
    for trial in record.trials:
        if trial.result is not None and trial.result.failure is not None:
            config, failure = trial.config, trial.result.failure
            yield Failure(
                trial_id=stored_id(trial),
                workload=config.workload,
                arm=config.arm,
                phase=config.phase,
                number=config.number,
                seeds=config.seeds,
                kind=failure.kind,
                message=failure.message,
                traceback=failure.traceback,
            )


# As the engine calls the outcome of a teleport that was measured and taken back.
PUT_BACK = "put back"


def _control_lints(studies: Sequence[StudyReport], comparisons: Sequence[Comparison]) -> Iterator[str]:
    """A gain that nothing in the sweep tells from a larger step or larger weights."""
    for found in comparisons:
        if found.is_primary and found.verdict is Verdict.FASTER:
            others = {s.kind for s in studies if s.workload == found.workload and s.source in {None, found.arm}}
            if not others - {BASELINE, PRIMARY_KIND}:
                yield (
                    f"{found.workload}/{found.arm}: faster than the baseline, and no control is in this sweep: larger "
                    "steps or larger weights may explain it (docs/arms.md)"
                )


def _lints(record: SweepRecord, studies: Sequence[StudyReport]) -> Iterator[str]:
    """What only the results show."""
    for study in studies:
        name = f"{study.workload}/{study.arm}"
        if study.num_diverged:
            yield f"{name}: {study.num_diverged} of {study.num_trials} search trials diverged; they count in the budget"
        if study.num_timeout:
            yield (
                f"{name}: {study.num_timeout} of {study.num_trials} search trials were over budget.per_trial; they "
                "count as answers, so the time of a trial has shaped the search"
            )
        if study.num_undefined:
            yield (
                f"{name}: in {study.num_undefined} of {study.num_trials} trials an expression gave no number that "
                "can be used (result.json says which, with its values); they count in the budget"
            )
        if study.num_crashed:
            yield f"{name}: {study.num_crashed} of {study.num_trials} search trials crashed or were lost"
        outcomes = [run.outcome for run in study.best.confirm] if study.best is not None else []
        if "diverged" in outcomes:
            yield f"{name}: {outcomes.count('diverged')} confirm runs diverged; each counts as a miss"
        if "timeout" in outcomes:
            yield f"{name}: {outcomes.count('timeout')} confirm runs were over budget.per_trial; each counts as a miss"
        if "expression" in outcomes:
            yield (
                f"{name}: in {outcomes.count('expression')} confirm runs an expression gave no number that can be "
                "used; each counts as a miss"
            )
        price = study.price
        # What puts its teleports back means to, and acts otherwise.
        is_idle = price is not None and price.layers and PUT_BACK not in price.outcomes
        if price is not None and is_idle and not any(layer.moved for layer in price.layers):
            told = ", ".join(f"{outcome} {count:,}" for outcome, count in price.outcomes.items())
            yield (
                f"{name}: none of its {price.num_teleports:,} teleports moved a weight ({told}): it is the baseline "
                "with the teleports' cost"
            )
        gone = sum(outcomes.count(kind) for kind in ("crashed", "memory", "lost"))
        if gone:
            yield f"{name}: {gone} confirm runs crashed or were lost; their seeds are left out of the comparison"
    if record.ended_early:
        yield (
            f"{record.ended_early}; to raise that budget and go on after a look at these numbers is a second look, for "
            "which no p here is adjusted"
        )
    if record.provenance.git_dirty:
        yield "the code had uncommitted changes when the sweep began: its commit alone does not say what ran"
    if len({machine.device for machine in _machines(record)}) > 1:
        yield "trials ran on different devices: their seconds do not compare"
