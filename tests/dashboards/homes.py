"""Homes on file for the live page: of records that were made up, so that no training is waited for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import HistoryRow, SweepOutcome, SweepRecord, Trial
from orchestrator.search.candidates import stored_id


def write_sweep(home: Path, record: SweepRecord, *, is_ended: bool = True) -> SweepPaths:
    """Put a record on file as the driver would have."""
    paths = SweepPaths(home, record.spec.name)
    paths.begin(record.spec, record.provenance)
    for trial in record.trials:
        write_trial(paths, trial)
    if is_ended:
        paths.write_outcome(SweepOutcome(status="FINISHED"))
    return paths


def write_trial(paths: SweepPaths, trial: Trial) -> None:
    """Put a trial on file; without the disk being waited for, since thousands are written."""
    folder = paths.trials / stored_id(trial)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(trial.config.model_dump_json(), encoding="utf-8")
    write_rows(paths, stored_id(trial), trial.history)
    if trial.result is not None:
        (folder / "result.json").write_text(trial.result.model_dump_json(), encoding="utf-8")


def write_rows(paths: SweepPaths, trial_id: str, rows: Iterable[HistoryRow]) -> None:
    """Add rows to a trial's curves."""
    paths.append_history(trial_id, rows)
