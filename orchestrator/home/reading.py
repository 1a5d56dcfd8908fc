"""Reads a whole sweep from its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import Fault, PluginError
from orchestrator.home.index import damages
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import SweepRecord, Trial
from orchestrator.spec import SweepSpec, parse_spec, plugins, read_file, spec_from_text, stand_ins


def stored_spec(paths: SweepPaths) -> SweepSpec:
    """Read the spec of a sweep that was begun, as it was run, for someone who runs none of it.

    What a plug-in brought that is not loaded is read as the sweep describes it, and no code of the plug-in runs.

    Raises:
        PluginError: a plug-in is not loaded, and the sweep does not describe its options.
        FileUnreadable: another version of teleport wrote the sweep, or a file is damaged.
    """
    paths.check_format()
    needed = paths.read_plugins()
    if not plugins.is_loaded(needed):
        described = paths.read_resolved()
        stand_ins.register(described)
        if lacking := [name for name in needed if name not in {each.plugin for each in described.values()}]:
            _load(paths, lacking)
    return parse_spec(read_file(paths.spec))


def runnable_spec(paths: SweepPaths) -> SweepSpec:
    """Load the plug-ins of a sweep that was begun, and read its spec as it was run.

    Raises:
        PluginError: a plug-in is missing, or no longer fits.
        FileUnreadable: another version of teleport wrote the sweep, or a file is damaged.
    """
    paths.check_format()
    _load(paths, paths.read_plugins())
    return parse_spec(read_file(paths.spec))


def _load(paths: SweepPaths, names: Sequence[str]) -> None:
    """Import plug-ins; those of a sweep that was fetched from a store only where the command line has named them.

    Raises:
        PluginError: one is missing, no longer fits, or may not be imported unasked.
    """
    if paths.fetched.is_file() and not plugins.is_loaded(names):
        options = " ".join(f"--plugin {name}" for name in names)
        told = f"was fetched, and its plug-ins are code that runs here: give {options} if you trust them"
        raise PluginError(Fault(f"sweep {paths.name!r}", told))
    try:
        plugins.load(names)
    except PluginError as error:
        hint = "install it, or run from the directory that holds it"
        faults = (Fault(f"sweep {paths.name!r}: {fault.place}", f"{fault.message}; {hint}") for fault in error.faults)
        raise PluginError(*faults) from None


def read_record(paths: SweepPaths, *, with_history: bool = True) -> SweepRecord:
    """Read a sweep that was begun, without the trials whose files are damaged.

    Without its history, the curves are left empty, and only files that cannot be read at all are found damaged.
    """
    spec, outcome = stored_spec(paths), paths.read_outcome()
    found = tuple(damages(paths)) if with_history else ()
    damaged = frozenset(damage.trial_id for damage in found)
    trials = tuple(paths.read_trials(with_history=with_history, without=damaged))
    ended_early = "" if outcome is None else outcome.ended_early
    return record_of(paths, spec, trials, ended_early, tuple(map(str, found)))


def without_trials(paths: SweepPaths) -> SweepRecord:
    """Read what describes a stored sweep, and none of its trials."""
    return SweepRecord(stored_spec(paths), paths.read_provenance(), ())


def record_of(
    paths: SweepPaths, spec: SweepSpec, trials: tuple[Trial, ...], ended_early: str = "", damage: tuple[str, ...] = ()
) -> SweepRecord:
    """Put a sweep together from its trials; each time that it was extended it had fewer of them and other claims."""
    provenance = paths.read_provenance()
    now = SweepRecord(spec, provenance, _asked_for(spec, trials), ended_early, damage)
    earlier = []
    for stage in paths.read_earlier():
        of_stage = spec_from_text(stage.spec, str(paths.earlier))
        # A crash may have come between the storing of this stage and of the spec that extends it.
        if of_stage.identity != spec.identity:
            ids = frozenset(stage.trial_ids)
            known = tuple(trial for trial in trials if trial.trial_id in ids)
            earlier.append(SweepRecord(of_stage, provenance, _asked_for(of_stage, known), damage=damage))
    return replace(now, earlier=tuple(earlier))


def _asked_for(spec: SweepSpec, trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """Leave out confirm trials on seeds of another stage."""
    seeds = frozenset(spec.confirm_seeds)
    return tuple(trial for trial in trials if trial.config.phase != "confirm" or trial.config.seeds[0] in seeds)
