"""The orchestrator: sweep specs in, trials over Ray, verdicts out."""
