"""Tracking: a sweep's runs where people browse them, as a projection of the sweep's files."""

from orchestrator.track.address import Address
from orchestrator.track.base import ReadTrial, SweepStatus, Tracker
from orchestrator.track.fetch import fetch
from orchestrator.track.links import RunLink, page_of, run_link
from orchestrator.track.memory import MemoryTracker
from orchestrator.track.mlflow import MlflowTracker, reach
from orchestrator.track.mlflow_store import EXPERIMENT, QUIET
from orchestrator.track.sqlite import prepare
from orchestrator.track.text import clean, redact

__all__ = [
    "EXPERIMENT",
    "QUIET",
    "Address",
    "MemoryTracker",
    "MlflowTracker",
    "ReadTrial",
    "RunLink",
    "SweepStatus",
    "Tracker",
    "clean",
    "fetch",
    "page_of",
    "prepare",
    "reach",
    "redact",
    "run_link",
]
