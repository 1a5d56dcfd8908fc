"""What the confirm grid of a workload is along, and what a spec may ask of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.errors import nearest
from orchestrator.spec.phases import Confirm, ConfirmGridOptions
from orchestrator.spec.space import Range, Template

LEARNING_RATE = "optimizer.lr"


def grid_range(template: Template, confirm: Confirm) -> Range | None:
    """Find the searched range that a workload's confirm grid is along; None where its points are whole configurations.

    That is the parameter that ``confirm.grid`` names, or the learning rate, where it is searched on a logarithmic scale
    and whatever else is chosen.
    """
    if not isinstance(confirm.grid, ConfirmGridOptions):
        return None
    return _log_ranges(template).get(confirm.grid.parameter or LEARNING_RATE)


def _log_ranges(template: Template) -> dict[str, Range]:
    found = {each.name: each for each in template.distributions() if isinstance(each, Range)}
    return {name: each for name, each in found.items() if each.is_log and "[" not in name}


def _is_number(template: Template, path: str) -> bool:
    """Tell whether every workload that the template can make has a number at this path."""
    for corner in template.corners():
        inner = template.concretise(corner)
        for name in path.split("."):
            inner = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(inner, bool) or not isinstance(inner, int | float):
            return False
    return True


def grid_faults(workloads: Mapping[str, Template], confirm: Confirm) -> Iterator[tuple[tuple[str, ...], str]]:
    """Find what a spec asks of its confirm grid in vain: key path and message of each fault."""
    grid = confirm.grid
    if not isinstance(grid, ConfirmGridOptions):
        return
    for label, template in workloads.items():
        along = grid_range(template, confirm)
        if grid.parameter is not None and along is None and grid.values is None:
            known = _log_ranges(template)
            told = nearest(grid.parameter, known) if known else "it searches none"
            yield (
                ("confirm", "grid", "parameter"),
                f"workload {label} searches no {grid.parameter!r} on a logarithmic scale; {told}",
            )
        if grid.values is None:
            continue
        if along is None and not _is_number(template, grid.parameter or LEARNING_RATE):
            yield (
                ("confirm", "grid", "values"),
                f"workload {label} has no one {grid.parameter or LEARNING_RATE} that could be set to these values; "
                "leave them out, or name another parameter",
            )
        elif along is not None:
            outside = [value for value in grid.values if not along.low <= value <= along.high]
            if outside:
                yield (
                    ("confirm", "grid", "values"),
                    f"{outside[0]:g} is outside of what workload {label} searches, {along.name} from {along.low:g} to "
                    f"{along.high:g}; keep within it, or search more",
                )
