"""Reads a sweep from its files."""

from __future__ import annotations

from orchestrator.errors import Fault, PluginError
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import SweepRecord
from orchestrator.spec import SweepSpec, parse_spec, plugins, read_file


def stored_spec(paths: SweepPaths) -> SweepSpec:
    """Read the spec of a sweep that was begun, with the plug-ins that it was run with.

    Args:
        paths: of the sweep.

    Returns:
        The spec as run.

    Raises:
        PluginError: a plug-in is no longer there, or no longer fits.
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
    """Read a sweep from its files.

    Args:
        paths: of a sweep that was begun.
        with_history: whether to read the curves too.

    Returns:
        What is stored.
    """
    end = paths.read_outcome()
    return SweepRecord(
        stored_spec(paths),
        paths.read_provenance(),
        tuple(paths.read_trials(with_history=with_history)),
        "" if end is None else end.ended_early,
    )


__all__ = ["read_record", "stored_spec"]
