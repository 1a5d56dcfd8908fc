"""Decides what to run next, what to stop, and which candidates go to confirm."""

from orchestrator.search.candidates import (
    Candidate,
    Candidates,
    run_order,
    stored_id,
    training_id,
    training_of,
)
from orchestrator.search.confirm import Confirmation, ConfirmGrid, confirm_grids, confirmed
from orchestrator.search.costs import aggregate_of, run_cost, run_limit, steps_to_target
from orchestrator.search.counts import num_busy, num_candidates, num_grid_points, num_planned
from orchestrator.search.early_stopping import pruned_result
from orchestrator.search.journal import open_journal
from orchestrator.search.lints import coarse_evaluation, lints, spec_lints, time_lints
from orchestrator.search.points import distribution_of
from orchestrator.search.selection import (
    Champions,
    best_over,
    champions,
    complete_of,
    judges_of,
    roles,
)
from orchestrator.search.study import Study, plan_studies
from orchestrator.search.warm_start import best_points, given_points, refuse_unknown_source

__all__ = [
    "Candidate",
    "Candidates",
    "Champions",
    "ConfirmGrid",
    "Confirmation",
    "Study",
    "aggregate_of",
    "best_over",
    "best_points",
    "champions",
    "coarse_evaluation",
    "complete_of",
    "confirm_grids",
    "confirmed",
    "distribution_of",
    "given_points",
    "judges_of",
    "lints",
    "num_busy",
    "num_candidates",
    "num_grid_points",
    "num_planned",
    "open_journal",
    "plan_studies",
    "pruned_result",
    "refuse_unknown_source",
    "roles",
    "run_cost",
    "run_limit",
    "run_order",
    "spec_lints",
    "steps_to_target",
    "stored_id",
    "time_lints",
    "training_id",
    "training_of",
]
