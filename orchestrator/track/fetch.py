"""The home of a sweep from its run in MLflow: so that everything which reads a home works where the sweep never ran."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.errors import Fault, FileUnreadable, SweepConflict, UserError
from orchestrator.home import SweepPaths, SweepRecord, left_parts, part_of, read_record, unpack
from orchestrator.track.remote import Remote, RemoteSweep


@final
@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Args:
        paths: of the sweep here.
        num_trials: that its record holds.
        num_shown: that the store shows; more where the sweep has gone on since its archive was stored.
        is_new: whether it was not here before.
    """

    paths: SweepPaths
    num_trials: int
    num_shown: int
    is_new: bool


def fetch(
    name: str, tracking_uri: str, home: Path, run_id: str | None = None, plugins: Collection[str] = ()
) -> Fetched:
    """Make a sweep's home from its archive in an MLflow store.

    The archive is unpacked and read from end to end beside its place, and put there in one step.

    Args:
        name: of the sweep.
        tracking_uri: of the store.
        home: directory that holds sweeps.
        run_id: of the sweep's own run, where several have the name.
        plugins: modules that the sweep may have loaded; a store does not decide what is imported here.

    Returns:
        What came of it.

    Raises:
        UserError: the store does not answer, has no such sweep, several, or no archive of it, or the sweep needs a
            plug-in that is not among these.
        SweepConflict: there is another sweep of the name, or this one with fewer trials.
        FileUnreadable: the archive is damaged, or of another version.
    """
    paths = SweepPaths(home, name)
    remote = Remote(tracking_uri)
    sweep = remote.find(name, run_id)
    # One level deeper than a sweep, so that nobody who lists the home sees it; beside it, so that it can be renamed.
    aside = part_of(paths.root)
    for old in left_parts(paths.home):  # of one that was killed
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        archive = remote.download(sweep, paths.archive.name, aside)
        unpack(archive, aside / name)
        SweepPaths(aside, name).check_format(archive.name)
        _refuse_unknown_plugins(SweepPaths(aside, name), plugins)
        trial_ids = _checked(SweepPaths(aside, name), sweep, archive)
        is_new = not _is_here(paths, sweep, trial_ids)
        if is_new:
            (aside / name).rename(paths.root)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Fetched(paths, len(trial_ids), remote.num_trials(sweep), is_new)


def _refuse_unknown_plugins(paths: SweepPaths, plugins: Collection[str]) -> None:
    unknown = [name for name in paths.read_plugins() if name not in plugins]
    if unknown:
        options = " ".join(f"--plugin {name}" for name in unknown)
        raise UserError(
            f"sweep {paths.name!r} has plug-ins, which are code that runs here: give {options} if you trust them"
        )


def _checked(paths: SweepPaths, sweep: RemoteSweep, archive: Path) -> set[str]:
    """Read all of it, as everyone who is to use it will."""
    if not paths.exists():
        raise FileUnreadable(Fault(archive.name, "holds no spec.yaml, so it is no archive of a sweep"))
    record = read_record(paths)
    # Not by the sweep's id, which a later version may work out differently from the same spec.
    if (record.spec.name, round(record.provenance.started_at * 1000)) != (paths.name, sweep.started_at):
        raise FileUnreadable(Fault(archive.name, f"is of another sweep than {sweep.name!r} ({sweep})"))
    return _ended(record)


def _is_here(paths: SweepPaths, sweep: RemoteSweep, trial_ids: set[str]) -> bool:
    if not paths.root.exists():
        return False
    advice = "give another --home, or move it away"
    if not paths.exists():
        raise SweepConflict(f"{paths.root} is there and is no sweep; {advice}")
    record = read_record(paths, with_history=False)
    if round(record.provenance.started_at * 1000) != sweep.started_at:
        raise SweepConflict(f"another sweep {paths.name!r} is in {paths.home}; {advice}")
    missing = trial_ids - _ended(record)
    if missing:
        raise SweepConflict(
            f"sweep {paths.name!r} in {paths.home} lacks {len(missing)} trials of the archive; {advice}"
        )
    return True


def _ended(record: SweepRecord) -> set[str]:
    return {trial.result.trial_id for trial in record.trials if trial.result is not None}
