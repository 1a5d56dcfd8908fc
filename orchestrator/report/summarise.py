"""Turns a sweep's record into its report; everything that the pages say is worked out here, once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestrator.home import Machine, SweepRecord
from orchestrator.report.answers import answers_of
from orchestrator.report.comparisons import comparisons_of
from orchestrator.report.equal_time import equal_time_of
from orchestrator.report.joint import join
from orchestrator.report.objections import control_objections, no_claim_of, study_objections, sweep_objections
from orchestrator.report.profiles import profiles_of
from orchestrator.report.schema import Earlier, Failure, Report, StudyReport, Sweep, SweepStage
from orchestrator.report.studies import study_of, with_shared_search
from orchestrator.report.transfer import transfers_of
from orchestrator.report.tuning import tunings_of
from orchestrator.search import Candidates, confirm_grids, confirmed, lints, roles, stored_id
from orchestrator.spec import BASELINE, SweepSpec, Target, Workload
from orchestrator.spec.options import TaskOptions


def summarise(record: SweepRecord, candidates: Candidates | None = None) -> Report:
    """Work out a sweep's report, whatever state the sweep is in; without histories it has no curves.

    The candidates are those of the record; they are gathered here unless they are given.
    """
    alone = _summarised(record, candidates or Candidates.of(record))
    if not record.earlier:
        return alone
    *before, now = join([*(_summarised(each, Candidates.of(each)) for each in record.earlier), alone]).sweeps
    earlier = tuple(
        Earlier(
            num_trials=stage.spec.search.trials,
            num_replicates=stage.spec.search.replicates,
            confirm_seeds=stage.spec.confirm_seeds,
            comparisons=tuple(comparison for comparison in report.comparisons if comparison.is_primary),
        )
        for stage, report in zip(record.earlier, before, strict=True)
    )
    return now.model_copy(update={"earlier": earlier, "transfers": alone.transfers})


def _summarised(record: SweepRecord, candidates: Candidates) -> Report:
    """Summarise a sweep by itself, as if it had never been extended."""
    spec = record.spec
    targets = {label: _target(spec, label) for label in spec.workloads}
    studies = _studies(record, candidates, targets)
    # A trial that a budget cut off does not run now, and may go on another time.
    known = _ended(record) if record.ended_early else record
    is_early = bool(record.ended_early)
    seeds = spec.confirm_seeds
    no_claim, tasks = no_claim_of(record), tasks_of(spec)
    comparisons = (
        comparisons_of(studies, seeds, spec.search.trials, tasks=tasks, ended_early=is_early, no_claim=no_claim)
        if seeds
        else ()
    )
    stage = SweepStage.ENDED_EARLY if record.ended_early else _stage(spec, studies)
    machines = _machines(known)
    objections = [
        *lints(candidates),
        *(sentence for study in studies for sentence in study_objections(study)),
        *sweep_objections(record, machines),
        *control_objections(studies, comparisons),
    ]
    return Report(
        sweep=_sweep(record, stage, targets),
        provenance=record.provenance,
        machines=machines,
        answers=answers_of(studies, comparisons, targets, has_confirm=bool(seeds)),
        studies=studies,
        comparisons=comparisons,
        failures=tuple(_failures(known)),
        lints=tuple(dict.fromkeys(objections)),
        profiles=profiles_of(studies) if stage is SweepStage.FINISHED else (),
        transfers=transfers_of([candidates]),
    )


def _studies(record: SweepRecord, candidates: Candidates, targets: dict[str, Target]) -> tuple[StudyReport, ...]:
    spec, reasons, grids = record.spec, roles(candidates), confirm_grids(candidates)
    best = confirmed(candidates, grids)
    whole = replace(record, trials=candidates.merged)
    whole = _ended(whole) if record.ended_early else whole
    found = {study: study_of(whole, *study, best[study], grids.get(study[0])) for study in spec.studies}
    for (workload, arm), study in found.items():
        if arm in candidates.shared:
            told = reasons.get((workload, arm), {})
            found[workload, arm] = with_shared_search(study, candidates.shared[arm], told)
    tunings = {
        label: tunings_of([study for study in found.values() if study.workload == label], spec.search.objective)
        for label in spec.workloads
    }
    return tuple(
        study.model_copy(
            update={
                "equal_time": equal_time_of(study, found[workload, BASELINE], targets[workload]),
                "tuning": tunings[workload].get(arm),
            }
        )
        for (workload, arm), study in found.items()
    )


def _ended(record: SweepRecord) -> SweepRecord:
    return replace(record, trials=tuple(trial for trial in record.trials if trial.result is not None))


def _sweep(record: SweepRecord, stage: SweepStage, targets: dict[str, Target]) -> Sweep:
    spec = record.spec
    return Sweep(
        name=spec.name,
        description=spec.description,
        standing=stage,
        objective=spec.search.objective,
        search_seeds=spec.search.seeds,
        confirm_seeds=spec.confirm_seeds,
        targets=targets,
        spec=json.loads(spec.model_dump_json(exclude={"hooks"})),
        ended_early=record.ended_early,
        also=spec.search.also,
    )


def _target(spec: SweepSpec, workload: str) -> Target:
    """Look up a workload's target; where the spec searches over it, take that of one corner of the space."""
    template = spec.workloads[workload]
    return Target.model_validate(template.concretise(template.corners()[0])["target"])


def tasks_of(spec: SweepSpec) -> dict[str, TaskOptions]:
    """Look up each workload's task; where the spec searches over it, take that of one corner of the space."""
    corners = {label: template.concretise(template.corners()[0]) for label, template in spec.workloads.items()}
    return {label: Workload.model_validate(corner).task for label, corner in corners.items()}


def _stage(spec: SweepSpec, studies: Sequence[StudyReport]) -> SweepStage:
    runs, planned = [], 0
    for study in studies:
        # The first candidate stands for the grid, at one point of which it is; and so does that of each replicate.
        num_on_grid = len(study.candidates) if spec.search.replicates > 1 else 1
        others = study.candidates[num_on_grid:] if study.grid else study.candidates
        runs += [run for each in others for run in each.confirm]
        runs += [run for point in study.grid for run in point.confirm]
        planned += (len(others) + num_on_grid * len(study.grid)) * len(spec.confirm_seeds)
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
