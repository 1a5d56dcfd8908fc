"""The space of a spec as Optuna's define-by-run, and who proposes in it: the one place where both are converted."""

from orchestrator.space.grid import Grid
from orchestrator.space.points import num_points, restricted
from orchestrator.space.samplers import Draw, make_sampler
from orchestrator.space.suggest import suggest

__all__ = ["Draw", "Grid", "make_sampler", "num_points", "restricted", "suggest"]
