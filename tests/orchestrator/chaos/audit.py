"""What a sweep promises, checked from outside: its files, journal, store and log. Every violation is a text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import optuna

from orchestrator.home.paths import SweepPaths
from orchestrator.home.reading import read_record
from orchestrator.home.records import HistoryRow, SweepRecord, Trial, TrialState
from orchestrator.search.candidates import Candidates
from orchestrator.search.confirm import confirm_configs
from orchestrator.search.counts import num_candidates
from orchestrator.search.journal import NOTE, Note, open_journal
from orchestrator.spec import ALL
from orchestrator.track.projection import SWEEP_ID, TRIAL_ID, sweep_id
from tests.orchestrator.chaos.killer import Cut
from tests.orchestrator.chaos.log import Event, read_events

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STATUS_OF = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "FINISHED", TrialState.FAIL: "FAILED"}
PARENT = "mlflow.parentRunId"
MS = 0.001  # what the log cuts off


def audit(paths: SweepPaths, client: MlflowClient, cuts: Sequence[Cut] | None = None) -> list[str]:
    """Look for everything that a sweep which has ended must not show.

    Args:
        paths: of the sweep.
        client: of its tracking store.
        cuts: trials that were on their way whenever something was killed; None: what they repeat is not asked.

    Returns:
        The violations; none is a sweep that is whole.
    """
    found = read_record(paths)
    # Readers leave damaged trials out; an audit wants to see what is wrong with them.
    record = replace(found, trials=tuple(paths.read_trials()))
    return [
        *found.damage,
        *_check_files(record, paths),
        *_check_journal(record, paths),
        *_check_runs(record, client),
        *_check_log(record, paths),
        *(_check_cuts(record, paths, cuts) if cuts is not None else ()),
    ]


def differences(paths: SweepPaths, undisturbed: SweepPaths) -> list[str]:
    """Compare a sweep's metrics with those of the same sweep, undisturbed, bit by bit.

    Args:
        paths: of the sweep.
        undisturbed: of the other.

    Returns:
        The differences, clocks apart.
    """
    mine, theirs = ({trial.trial_id: trial for trial in of.read_trials()} for of in (paths, undisturbed))
    found = [f"trial {one} is in one sweep only" for one in sorted(mine.keys() ^ theirs.keys())]
    for one in sorted(mine.keys() & theirs.keys()):
        if _figures(mine[one]) != _figures(theirs[one]):
            found.append(f"trial {one} has other metrics than the undisturbed one")
    return found


def _figures(trial: Trial) -> Any:
    clocks = {"seconds", "teleport_seconds"}
    result = trial.result
    value = None if result is None else (result.state, result.value, [seed.metrics for seed in result.seeds])
    return value, [row.model_dump(exclude=clocks) for row in trial.history], trial.config.number


def _check_files(record: SweepRecord, paths: SweepPaths) -> Iterator[str]:
    spec, confirm = record.spec, set()
    for trial in record.trials:
        if trial.config.phase == "confirm":
            confirm.add(trial.trial_id)
        yield from _check_trial(trial, paths)
    for (workload, arm), on_file in _candidates(record).items():
        study, planned = f"{workload}/{arm}", num_candidates(spec, next(iter(spec.workloads)), arm)
        if len(on_file) != planned:
            yield f"{study}: {len(on_file)} candidates on file, {planned} were planned"
        yield from (f"{study} #{number} has not ended" for number, one in on_file.items() if one.state == "RUNNING")
    runs = Counter(
        (trial.config.study, trial.config.number, trial.config.seeds)
        for trial in record.trials
        if trial.config.phase == "search"
    )
    yield from (f"{study} #{number}: {n} trials are one run" for (study, number, _), n in runs.items() if n > 1)
    planned_ids = {config.trial_id for config in confirm_configs(Candidates.of(record))}
    yield from (f"confirm trial {one} was planned, and is not on file" for one in sorted(planned_ids - confirm))
    yield from (f"confirm trial {one} is on file, and was not planned" for one in sorted(confirm - planned_ids))
    yield from (f"{part.relative_to(paths.root)} is left of a write that was cut off" for part in paths.parts())
    if not paths.outcome.is_file():
        yield "the sweep has no outcome.json"
    for name in ("report.html", "report.md", "report.json"):
        if not (paths.report / name).is_file():
            yield f"the sweep has no report/{name}"


def _check_trial(trial: Trial, paths: SweepPaths) -> Iterator[str]:
    name = f"trial {trial.trial_id}"
    if not paths.config(trial.trial_id).is_file():
        yield f"{name} lies in another trial's directory"
    if paths.checkpoint(trial.trial_id).exists():
        yield f"{name} has a checkpoint left"
    if trial.result is None:
        yield f"{name} has no result.json"
        return
    if trial.result.trial_id != trial.trial_id:
        yield f"{name} has the result of {trial.result.trial_id}"
    if trial.result.failure is not None and trial.result.failure.kind == "lost":
        yield f"{name} was given up: {trial.result.failure.message}"
    for seed in trial.result.seeds:
        rows = [row for row in trial.history if row.seed == seed.seed]
        steps = [row.step for row in rows]
        if any(later <= earlier for earlier, later in pairwise(steps)):
            yield f"{name}: the steps of seed {seed.seed} do not rise"
        if not rows or rows[-1].metrics != seed.metrics:
            yield f"{name}: the last row of seed {seed.seed} is not its result"


def _check_journal(record: SweepRecord, paths: SweepPaths) -> Iterator[str]:
    """The journal has every candidate as its runs make it, and no other."""
    storage = open_journal(paths.journal)
    names = {study.study_name for study in storage.get_all_studies()}
    for (workload, arm), on_file in _candidates(record).items():
        study = f"{workload}/{arm}"
        if study not in names:
            yield f"{study} is not in the journal"
            continue
        told = {trial.number: trial for trial in optuna.load_study(study_name=study, storage=storage).get_trials()}
        yield from (f"{study} #{n} is on file, not in the journal" for n in sorted(on_file.keys() - told.keys()))
        for number, trial in told.items():
            if number not in on_file:
                if NOTE not in trial.system_attrs or not Note.of(trial).is_duplicate:
                    yield f"{study} #{number} is {trial.state.name} in the journal, and not on file"
                continue
            # Of what was given up Optuna keeps the last value it was told; on file it has none.
            value = trial.value if trial.state is optuna.trial.TrialState.COMPLETE else None
            mine = Told(trial.state.name, value, trial.params)
            if mine != on_file[number]:
                yield f"{study} #{number} is {mine} in the journal, and {on_file[number]} on file"


class Told(NamedTuple):
    """What a sampler is to have been told of a candidate."""

    state: str
    value: float | None
    values: Mapping[str, Any]


def _candidates(record: SweepRecord) -> dict[tuple[str, str], dict[int, Told]]:
    """Workload and arm of each search -> number of a candidate -> what it came to."""
    candidates, found = Candidates.of(record), {}
    for workload, arm in record.spec.searches:
        if workload == ALL:
            shared = candidates.shared.get(arm, ())
            found[workload, arm] = {one.number: Told(one.state, one.aggregate, one.values) for one in shared}
        else:
            own = candidates.own.get((workload, arm), ())
            found[workload, arm] = {
                one.config.number or 0: Told("RUNNING", None, one.config.values)
                if one.result is None
                else Told(one.result.state.value, one.result.value, one.config.values)
                for one in own
            }
    return found


def _check_runs(record: SweepRecord, client: MlflowClient) -> Iterator[str]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = list(client.search_runs(experiments, f"tags.`{SWEEP_ID}` = '{sweep_id(record)}'", max_results=1_000))
    for run in runs:
        if run.info.status in ("RUNNING", "SCHEDULED"):
            yield f"MLflow run {run.info.run_name!r} is still {run.info.status}"
    parents = [run for run in runs if TRIAL_ID not in run.data.tags]
    if len(parents) != 1:
        yield f"MLflow has {len(parents)} runs of the sweep itself"
    children: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if TRIAL_ID in run.data.tags:
            children[run.data.tags[TRIAL_ID]].append(run)
    trials = {trial.trial_id: trial for trial in record.trials}
    yield from (f"MLflow has a run of trial {one}, which is not on file" for one in children.keys() - trials.keys())
    for one, trial in trials.items():
        if len(children[one]) != 1:
            yield f"MLflow has {len(children[one])} runs of trial {one}"
            continue
        [run] = children[one]
        if parents and run.data.tags.get(PARENT) != parents[0].info.run_id:
            yield f"the MLflow run of trial {one} is not under the sweep's"
        if trial.result is not None and run.info.status != STATUS_OF[trial.result.state]:
            yield f"the MLflow run of trial {one} is {run.info.status}, its result {trial.result.state}"
        yield from _check_curves(trial, run.info.run_id, client)


def _check_curves(trial: Trial, run_id: str, client: MlflowClient) -> Iterator[str]:
    curves: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in trial.history:
        for key, value in row.metrics.items():
            curves[key].append((row.step, value))
    for key, points in curves.items():
        logged = sorted((point.step, point.value) for point in client.get_metric_history(run_id, key))
        if logged != sorted(points):
            yield f"MLflow has {len(logged)} points of {key} of trial {trial.trial_id}, {len(points)} are on file"


def _check_log(record: SweepRecord, paths: SweepPaths) -> Iterator[str]:
    events = _events_of_trials(paths)
    for trial in record.trials:
        name, mine = f"trial {trial.trial_id}", events[trial.trial_id]
        if sum(event.is_end for event in mine) > 1:
            yield f"{name} ended more than once"
        if trial.result is None:
            continue
        begun = [event.at for event in mine if event.is_begin]
        if not begun:
            yield f"{name} has a result, and was never started"
        if any(at > paths.result(trial.trial_id).stat().st_mtime for at in begun):
            yield f"{name} ran after it had a result"


def _check_cuts(record: SweepRecord, paths: SweepPaths, cuts: Sequence[Cut]) -> Iterator[str]:
    events = _events_of_trials(paths)
    for trial in record.trials:
        mine = events[trial.trial_id]
        for before, again in pairwise(event for event in mine if event.is_begin):
            between = [cut for cut in cuts if cut.trial_id == trial.trial_id and before.at <= cut.at <= again.at + MS]
            if between:
                yield from _check_repeated(trial, max(between, key=lambda cut: cut.at), again)
            elif not any(before.at <= event.at <= again.at and event.verb == "lost" for event in mine):
                yield f"trial {trial.trial_id} was started again, though nothing had been killed"


def _events_of_trials(paths: SweepPaths) -> defaultdict[str, list[Event]]:
    events: defaultdict[str, list[Event]] = defaultdict(list)
    for event in read_events(paths):
        events[event.trial_id].append(event)
    return events


def _check_repeated(trial: Trial, cut: Cut, again: Event) -> Iterator[str]:
    kept: list[HistoryRow] = []
    if again.row is not None:
        seeds, (seed, step) = trial.config.seeds, again.row
        kept = [row for row in cut.rows if (seeds.index(row.seed), row.step) <= (seeds.index(seed), step)]
    repeated = _training(cut.rows) - _training(kept)
    # A checkpoint is taken at a row, so it may be late by the time between two.
    longest = max((_training(rows) for rows in pairwise((*cut.rows, *trial.history))), default=0.0)
    every = trial.config.checkpoint_every
    if every is not None and repeated > every + longest:
        yield (
            f"trial {trial.trial_id} repeated {repeated:.2f} s of training after it was cut off, "
            f"its checkpoints are {every:g} s apart"
        )


def _training(rows: Sequence[HistoryRow]) -> float:
    """Seconds that the rows span on the optimizer clock, which begins anew with every seed."""
    clocks: defaultdict[int, list[float]] = defaultdict(list)
    for row in rows:
        clocks[row.seed].append(row.seconds)
    return sum(seconds[-1] - seconds[0] for seconds in clocks.values())
