"""How a sweep ended: whether it counts as failed, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from orchestrator.home.records import SweepEnd, SweepRecord, Trial, TrialState
from orchestrator.search.candidates import gathered
from orchestrator.search.counts import num_configurations

CRASH_TOLERANCE = 0.1


def end_of(record: SweepRecord) -> SweepEnd:
    """Judge a sweep that is over.

    Args:
        record: all of it; its trials may be without curves.

    Returns:
        How it ended.
    """
    failures = tuple(_failures(record))
    return SweepEnd(status="FAILED" if failures else "FINISHED", failures=failures, ended_early=record.ended_early)


def in_words(end: SweepEnd) -> Literal["finished", "ended early", "failed"]:
    """Name an end for people; a sweep that failed has failed, also where it ended early."""
    if end.status == "FAILED":
        return "failed"
    return "ended early" if end.ended_early else "finished"


def _failures(record: SweepRecord) -> Iterator[str]:
    """Say what makes a sweep count as failed: a crash in confirm, many in search, or an arm without a result.

    A configuration that diverges, or takes too long, is an answer of the search, not a failure of the sweep; nor is
    a study that a budget left without one.

    Yields:
        A sentence for each failure.
    """
    crashed = [trial for trial in record.trials if _has_crashed(trial)]
    confirm = [trial for trial in crashed if trial.config.phase == "confirm"]
    if confirm:
        yield f"{len(confirm)} confirm trials crashed"
    num_search = sum(trial.config.phase == "search" for trial in record.trials)
    num_crashed = len(crashed) - len(confirm)
    if num_crashed > CRASH_TOLERANCE * num_search:
        yield f"{num_crashed} of {num_search} search trials crashed"
    by_study = gathered(record).trials
    for workload, arm in record.spec.studies:
        study = [
            trial.result for trial in by_study if trial.config.study == f"{workload}/{arm}" and trial.result is not None
        ]
        is_cut_short = bool(record.ended_early) and len(study) < num_configurations(record.spec, workload, arm)
        if not is_cut_short and not any(result.state is TrialState.COMPLETE for result in study):
            yield f"{workload}/{arm} has no trial that ended well"


def _has_crashed(trial: Trial) -> bool:
    return trial.result is not None and trial.result.is_no_answer
