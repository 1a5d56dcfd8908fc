"""Trains one candidate on one seed; the engine and the orchestrator meet only here."""

from typing import TYPE_CHECKING, Any

from orchestrator.trial.clock import Budget
from orchestrator.trial.output import process_output, python_output

if TYPE_CHECKING:
    from orchestrator.trial.run import run_trial


def __getattr__(name: str) -> Any:
    """Load ``run_trial`` when it is first asked for: it needs torch, and planning a sweep must not load torch."""
    if name == "run_trial":
        from orchestrator.trial.run import run_trial

        return run_trial
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Budget", "process_output", "python_output", "run_trial"]
