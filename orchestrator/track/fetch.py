"""Makes the home of a sweep from its run in MLflow, for people on a machine where the sweep never ran."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.errors import Fault, FileUnreadable, SweepConflict
from orchestrator.home import SweepPaths, SweepRecord, atomic_write, left_parts, part_of, read_record, unpack
from orchestrator.track.destination import Destination, to_remember
from orchestrator.track.remote import Remote, RemoteSweep
from orchestrator.track.text import redact


@final
@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Args:
        paths: of the sweep on this machine.
        num_trials: number of trials in its archive.
        num_shown: number of trials in the store, which is larger if the sweep went on after its archive was stored.
        is_new: whether the sweep was not on this machine before.
    """

    paths: SweepPaths
    num_trials: int
    num_shown: int
    is_new: bool


def fetch(name: str, at: Destination, home: Path, run_id: str | None = None) -> Fetched:
    """Make a sweep's home from its archive in an MLflow store.

    The archive is unpacked and read from end to end beside its place, and put there in one step. No code of the store's
    choice runs: plug-ins are not imported, and a later resume of the sweep asks before it runs them or hooks.

    Args:
        name: of the sweep.
        at: the store and the experiment; a later resume goes on there.
        home: the directory that holds sweeps.
        run_id: of the sweep's own run, needed if several sweeps of the store have the name.

    Raises:
        UserError: the store does not answer, or has no such sweep, several, or no archive of it.
        PluginError: the sweep cannot be read without a plug-in, and that is not loaded.
        SweepConflict: the home has another sweep of the name, or this one with fewer trials.
        FileUnreadable: the archive is damaged, or another version wrote it.
    """
    paths = SweepPaths(home, name)
    remote = Remote(at)
    sweep = remote.find(name, run_id)
    # In the same file system, so that it can be renamed; one level deeper than a sweep, so that no listing shows it.
    aside = part_of(paths.root)
    for old in left_parts(paths.home):  # left by a fetch that was killed
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        archive = remote.download(sweep, paths.archive.name, aside)
        unpack(archive, aside / name)
        unpacked = SweepPaths(aside, name)
        if unpacked.exists():
            atomic_write(unpacked.fetched, json.dumps({"store": redact(at.uri), "run_id": sweep.run_id}))
            unpacked.write_tracking(to_remember(at, paths.home))
        trial_ids = _checked(unpacked, sweep, archive.name)
        is_new = not _is_here(paths, sweep, trial_ids)
        if is_new:
            (aside / name).rename(paths.root)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Fetched(paths, len(trial_ids), remote.num_trials(sweep), is_new)


def _checked(paths: SweepPaths, sweep: RemoteSweep, archive: str) -> set[str]:
    """Read the whole sweep, and give the ids of the trials that ended."""
    if not paths.exists():
        raise FileUnreadable(Fault(archive, "holds no spec.yaml, so it is no archive of a sweep"))
    paths.check_format(archive)
    record = read_record(paths)
    if record.damage:
        raise FileUnreadable(*(Fault(archive, f"{told}, so the archive is damaged") for told in record.damage))
    # The sweep's id is not compared, since a later version may work it out differently from the same spec.
    if (record.spec.name, round(record.provenance.started_at * 1000)) != (paths.name, sweep.started_at):
        raise FileUnreadable(Fault(archive, f"is of another sweep than {sweep.name!r} ({sweep})"))
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
