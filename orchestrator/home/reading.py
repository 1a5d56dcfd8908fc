"""Reads a whole sweep from its files."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import Fault, PluginError
from orchestrator.home.index import damages
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import SweepRecord
from orchestrator.spec import SweepSpec, parse_spec, plugins, read_file, stand_ins


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
    return SweepRecord(spec, paths.read_provenance(), trials, ended_early, tuple(map(str, found)))
