"""One study of a sweep, from its trials."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from orchestrator.home import FailureKind, SweepRecord, Trial, TrialResult, TrialState
from orchestrator.report.arrivals import arrivals_of
from orchestrator.report.best import spec_of
from orchestrator.report.curves import bands_of, curve_of
from orchestrator.report.health import lapse_of
from orchestrator.report.price import price_of
from orchestrator.report.schema import (
    ConfirmCandidate,
    ConfirmSeed,
    GridResult,
    Parameter,
    SearchTrial,
    SharedSearch,
    StudyReport,
)
from orchestrator.search import Candidate, ConfirmGrid, num_candidates, steps_to_target, stored_id
from orchestrator.spec import Arm, Choice, Distribution, Role, SweepSpec, kind_of
from orchestrator.spec.options import ExpressionOptions, TeleportOptions
from orchestrator.statistics import censored_median


def study_of(
    record: SweepRecord, workload: str, arm: str, best: Sequence[Trial], grid: ConfirmGrid | None = None
) -> StudyReport:
    """Gather what a study found; ``best`` are the candidates of its search that go to confirm, best first."""
    search = sorted(
        (
            trial
            for trial in record.trials
            if (trial.config.workload, trial.config.arm, trial.config.phase) == (workload, arm, "search")
        ),
        key=lambda trial: trial.config.number or 0,
    )
    # Independent searches may find the same settings, as those of an arm without settings of its own do.
    found: dict[str, list[Trial]] = {}
    for champion in best:
        found.setdefault(champion.config.configuration_id, []).append(champion)
    runs = [_confirm_trials(record, champions[0]) for champions in found.values()]
    candidates = tuple(
        _candidate(record, champions, rank, of)
        for rank, (champions, of) in enumerate(zip(found.values(), runs, strict=True), start=1)
    )
    confirm = runs[0] if runs else []
    curves = tuple(curve for trial in confirm if (curve := curve_of(trial)) is not None)
    return StudyReport(
        workload=workload,
        arm=arm,
        kind=kind_of(record.spec.arms[arm]),
        **_counts(record.spec, workload, arm, [trial.result for trial in search if trial.result is not None]),
        best=candidates[0] if candidates else None,
        candidates=candidates,
        search=tuple(map(_search_trial, search)),
        price=price_of([trial.result for trial in confirm if trial.result is not None]),
        curves=curves,
        bands=bands_of(curves),
        source=record.spec.sources.get(arm),
        tau=_tau(best[0].config.method) if best else None,
        arrivals=arrivals_of(candidates[0].confirm) if candidates else (),
        space=_space(record, workload, arm),
        grid=() if grid is None or arm not in grid.best else _grid(record, grid, arm),
        evaluate_every=_evaluate_every(confirm),
    )


def _evaluate_every(confirm: Sequence[Trial]) -> int | None:
    runs = ((trial.config.training.evaluate, seed) for trial in confirm if trial.result for seed in trial.result.seeds)
    return next((evaluate.steps_between(seed.budget_steps) for evaluate, seed in runs), None)


def _grid(record: SweepRecord, grid: ConfirmGrid, arm: str) -> tuple[GridResult, ...]:
    """Gather an arm's runs point by point; nothing before the first one."""
    trials = {trial.config.trial_id: trial for trial in record.trials if trial.config.phase == "confirm"}
    best, found = grid.best_place(arm), []
    for place, point in enumerate(grid.points):
        runs = [(trials[one], replicates) for one, replicates in grid.ids[arm, place].items() if one in trials]
        mean = grid.mean_log_steps[arm][place]
        found.append(
            GridResult(
                parameter=None if point.rate is None else grid.parameter,
                rate=point.rate,
                values=grid.config(grid.best[arm][0], point, record.spec.confirm_seeds[0]).values,
                mean_steps=math.exp(mean) if math.isfinite(mean) else None,
                is_best=place == best,
                confirm=tuple(itertools.starmap(_confirm_seed, runs)),
            )
        )
    return tuple(found) if any(point.confirm for point in found) else ()


def _counts(spec: SweepSpec, workload: str, arm: str, ended: Sequence[TrialResult]) -> dict[str, int]:
    """Count the search trials that were wanted, and those that ended, by how they ended."""
    kinds = [result.failure.kind for result in ended if result.failure is not None]
    num_crashed = sum(result.is_no_answer for result in ended)
    num_answers_wanted = num_candidates(spec, workload, arm)
    return {
        "num_trials": len(ended),
        "num_planned": num_answers_wanted,
        "num_replaced": num_candidates(spec, workload, arm, num_crashed) - num_answers_wanted,
        "num_complete": sum(result.state is TrialState.COMPLETE for result in ended),
        "num_pruned": sum(result.state is TrialState.PRUNED for result in ended),
        "num_diverged": kinds.count("diverged"),
        "num_timeout": kinds.count("timeout"),
        "num_undefined": kinds.count("expression"),
        "num_crashed": num_crashed,
    }


def with_shared_search(
    study: StudyReport, found: Sequence[Candidate], roles: Mapping[int, Sequence[Role]]
) -> StudyReport:
    """Add to one workload's study what the shared search found over all workloads.

    Args:
        study: its search trials are the candidates of the shared search on that workload.
        found: all candidates of the search.
        roles: number of a candidate -> the roles in which it is confirmed on this workload.
    """
    values = {candidate.number: candidate.aggregate for candidate in found}
    candidates = tuple(
        each.model_copy(update={"aggregate": values.get(number), "roles": tuple(roles.get(number, ()))})
        for each in study.candidates
        for number in [each.number or 0]
    )
    search = tuple(
        trial.model_copy(update={"aggregate": values.get(trial.number or 0)}) if trial.state == "COMPLETE" else trial
        for trial in study.search
    )
    best = candidates[0] if candidates else None
    update = {"candidates": candidates, "best": best, "search": search, "shared": _shared_search(found)}
    return study.model_copy(update=update)


def _shared_search(found: Sequence[Candidate]) -> SharedSearch:
    states = [candidate.state for candidate in found]
    of_ended = [run for candidate in found if candidate.state != "RUNNING" for run in candidate.runs]
    return SharedSearch(
        aggregation=found[0].aggregation if found else "geometric_mean",
        value=min((each.aggregate for each in found if each.aggregate is not None), default=None),
        num_settings=len(found),
        num_complete=states.count("COMPLETE"),
        num_pruned=states.count("PRUNED"),
        num_units=sum(run.result is not None for candidate in found for run in candidate.runs),
        num_saved=sum(run.state in {None, "PRUNED"} for run in of_ended),
    )


def _space(record: SweepRecord, workload: str, arm: str) -> tuple[Parameter, ...]:
    templates = record.spec.space(workload, arm)
    return tuple(_parameter(each) for template in templates for each in template.distributions())


def _parameter(distribution: Distribution) -> Parameter:
    if isinstance(distribution, Choice):
        return Parameter(name=distribution.name, kind="choice", choices=distribution.labels)
    return Parameter(
        name=distribution.name,
        kind="int" if distribution.is_integer else "float",
        low=distribution.low,
        high=distribution.high,
        is_log=distribution.is_log,
    )


def _tau(arm: Arm) -> float | str | None:
    """Tell the tau of an arm's teleports, or of those that a control imitates; None where it has none."""
    settings = arm.settings
    teleport = settings if isinstance(settings, TeleportOptions) else getattr(settings, "teleport", None)
    if teleport is None:
        return None
    if teleport.adaptive is not None:
        return f"by drift {teleport.adaptive.drift:g}"
    if isinstance(teleport.tau, ExpressionOptions):
        return teleport.tau.expression
    return teleport.tau if isinstance(teleport.tau, float) else "auto"


def _confirm_trials(record: SweepRecord, champion: Trial) -> list[Trial]:
    """List a champion's confirm trials in the order of the sweep's seeds."""
    order = {seed: place for place, seed in enumerate(record.spec.confirm_seeds)}
    found = [
        trial
        for trial in record.trials
        if trial.config.phase == "confirm" and trial.config.configuration_id == champion.config.configuration_id
    ]
    return sorted(found, key=lambda trial: order.get(trial.config.seeds[0], len(order)))


def _candidate(
    record: SweepRecord, champions: Sequence[Trial], rank: int, confirm: Sequence[Trial]
) -> ConfirmCandidate:
    champion, replicates = champions[0], tuple(one.config.replicate for one in champions)
    runs = tuple(_confirm_seed(run, replicates) for run in confirm)
    answers = [run for run in runs if run.is_answer]
    return ConfirmCandidate(
        trial_id=stored_id(champion),
        number=champion.config.number,
        rank=rank,
        value=None if champion.result is None else champion.result.value,
        values=champion.config.values,
        yaml=spec_of(record, champion),
        median_steps_to_target=_median(run.steps_to_target for run in answers),
        median_seconds_to_target=_median(run.seconds_to_target for run in answers),
        confirm=runs,
    )


def _median(times: Iterable[float | None]) -> float | None:
    known = [math.inf if time is None else float(time) for time in times]
    return censored_median(known) if known else None


def _search_trial(trial: Trial) -> SearchTrial:
    result = trial.result
    is_complete = result is not None and result.state is TrialState.COMPLETE
    return SearchTrial(
        trial_id=stored_id(trial),
        number=trial.config.number,
        state="RUNNING" if result is None else result.state.value,
        value=None if result is None else result.value,
        steps_to_target=steps_to_target(trial) if is_complete else None,
        seconds=0.0 if result is None else _cost(result),
        values=trial.config.values,
        share=0.0 if result is None else _share(result, len(trial.config.seeds)),
        objectives=() if result is None else result.values,
        failure=None if result is None else result.failure_kind,
    )


def _cost(result: TrialResult) -> float:
    """Tell the seconds that a trial took of the search's time; for one ended from outside, those of the wall clock."""
    if result.failure_kind == "timeout" and not result.seeds:
        return result.ended_at - result.started_at
    return sum(seed.seconds for seed in result.seeds)


def _share(result: TrialResult, num_seeds: int) -> float:
    return sum(seed.num_steps / seed.budget_steps for seed in result.seeds) / num_seeds


def _confirm_seed(trial: Trial, replicates: tuple[int, ...]) -> ConfirmSeed:
    seed, result = trial.config.seeds[0], trial.result
    if result is None or not result.seeds:
        outcome = "running" if result is None else _outcome(result)
        return ConfirmSeed(trial_id=stored_id(trial), seed=seed, outcome=outcome, replicates=replicates)
    found = result.seeds[0]
    outcome = _outcome(result)
    # A run that diverges after it reached its target did not arrive: what it reached did not last.
    arrived = outcome == "reached"
    return ConfirmSeed(
        trial_id=stored_id(trial),
        seed=seed,
        outcome=outcome,
        budget_steps=found.budget_steps,
        steps_to_target=found.steps_to_target if arrived else None,
        seconds_to_target=found.seconds_to_target if arrived else None,
        gradient_evaluations_to_target=found.gradient_evaluations_to_target if arrived else None,
        seconds=found.seconds,
        teleport_seconds=found.teleport_seconds,
        gradient_evaluations=found.gradient_evaluations,
        metrics=found.metrics,
        lapse=lapse_of(found, trial.config.training.target),
        replicates=replicates,
    )


def _outcome(result: TrialResult) -> FailureKind | Literal["reached", "missed"]:
    if result.failure is not None:
        return result.failure.kind
    return "missed" if result.seeds[0].steps_to_target is None else "reached"
