"""Reads a whole sweep from its files."""

from __future__ import annotations

from orchestrator.errors import Fault, PluginError
from orchestrator.home.index import damages
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import SweepRecord
from orchestrator.spec import SweepSpec, parse_spec, plugins, read_file


def stored_spec(paths: SweepPaths) -> SweepSpec:
    """Load the plug-ins of a sweep that was begun, and read its spec as it was run.

    Raises:
        PluginError: a plug-in is missing, or no longer fits.
        FileUnreadable: another version of teleport wrote the sweep.
    """
    paths.check_format()
    try:
        plugins.load(paths.read_plugins())
    except PluginError as error:
        hint = "install it, or run from the directory that holds it"
        faults = (Fault(f"sweep {paths.name!r}: {fault.place}", f"{fault.message}; {hint}") for fault in error.faults)
        raise PluginError(*faults) from None
    return parse_spec(read_file(paths.spec))


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
