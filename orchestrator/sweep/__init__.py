"""Runs one sweep from its spec to its report, and says where it stands."""

from orchestrator.sweep.extend import extend
from orchestrator.sweep.interrupts import Interrupts
from orchestrator.sweep.plan import Pace, Place, Plan, make_plan, measured_pace, pilot_pace
from orchestrator.sweep.run import Outcome, run, sync
from orchestrator.sweep.single import Show, single_config, train_one
from orchestrator.sweep.standing import Progress, Standing, StudyProgress, Unread, standing, standings
from orchestrator.sweep.stop import left_in, remains_of, remove, stop

__all__ = [
    "Interrupts",
    "Outcome",
    "Pace",
    "Place",
    "Plan",
    "Progress",
    "Show",
    "Standing",
    "StudyProgress",
    "Unread",
    "extend",
    "left_in",
    "make_plan",
    "measured_pace",
    "pilot_pace",
    "remains_of",
    "remove",
    "run",
    "single_config",
    "standing",
    "standings",
    "stop",
    "sync",
    "train_one",
]
