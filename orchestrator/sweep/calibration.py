"""Says how far the verdicts of a spec's budgets can be believed, from sweeps that ``make calibrate`` has simulated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources

from pydantic import RootModel

from orchestrator.spec import LEARNING_RATE, ConfirmGridOptions, SharedScope, SweepSpec, grid_range
from orchestrator.spec.options import NoSchedulerOptions, Options, TpeOptions

FILE = "calibration.json"
# The simulated grids have this factor between two rates.
FACTOR = 1.4
EFFECTS = ("-10 %", "-15 %")


class Simulated(Options):
    """What the simulated sweeps of one budget have shown.

    Args:
        trials: search trials an arm.
        seeds: confirm seeds.
        num_sweeps: how many were simulated for each share.
        false: the share that called an arm faster or slower that has no effect, and an exact 95 % interval of it.
        found: effect -> the share of sweeps that found it.
    """

    trials: int
    seeds: int
    num_sweeps: int
    false: tuple[float, float, float]
    found: dict[str, float]


class Simulations(RootModel[list[Simulated]]):
    """The content of ``calibration.json``."""


def calibration_of(spec: SweepSpec) -> Iterator[str]:
    """Say what simulated sweeps of these budgets have shown, or why none tells; nothing where no claim is made."""
    if not spec.confirm_seeds or not spec.num_primary:
        return
    known = {(each.trials, each.seeds): each for each in _known()}
    found = known.get((spec.search.trials, len(spec.confirm_seeds)))
    reason = _not_covered(spec)
    if found is None and not reason:
        budgets = ", ".join(f"{trials}/{seeds}" for trials, seeds in known)
        reason = f"simulated are the search trials/confirm seeds {budgets}"
    if reason or found is None:
        yield f"not calibrated, {reason}: how often verdicts are false here is not known (docs/methodology.md)"
        return
    share, low, high = found.false
    powers = " and ".join(f"{effect} in {_percent(found.found[effect])}" for effect in EFFECTS)
    of_one = "" if spec.num_primary == 1 else f"; with {spec.num_primary} claims, each of them finds less"
    yield (
        f"of {found.num_sweeps} simulated sweeps with these budgets and one claim, {_percent(share)} called an arm "
        f"without an effect faster or slower (95 % interval {_percent(low)} to {_percent(high)}), and they found "
        f"{powers}, at a paired sd of .10{of_one} (docs/methodology.md)"
    )


def _known() -> list[Simulated]:
    text = resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    return Simulations.model_validate(json.loads(text), strict=False).root


def _not_covered(spec: SweepSpec) -> str:
    """Say in what a spec differs from the sweeps that were simulated; empty where it does not."""
    grid, search = spec.confirm.grid, spec.search
    if not isinstance(grid, ConfirmGridOptions) or grid.values is not None or grid.factor != FACTOR:
        return f"since confirm.grid is not the simulated one, which follows from the search in steps of {FACTOR}"
    alongs = [grid_range(template, spec.confirm) for template in spec.workloads.values()]
    if any(along is None or along.name != LEARNING_RATE for along in alongs):
        return "since not every workload searches its learning rate on a logarithmic scale"
    if isinstance(search.scope, SharedScope):
        return "since the search is shared by several workloads"
    if not isinstance(search.sampler, TpeOptions) or not isinstance(search.scheduler, NoSchedulerOptions):
        return "since the simulated searches use tpe without a scheduler"
    if search.replicates > 1:
        return "since the simulated sweeps of this table search each arm once"
    if search.objective.metric != "steps_to_target":
        return "since the simulated searches improve steps_to_target"
    return ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if 0.0 < share < 0.1 else f"{100 * share:.0f} %"
