"""Tracking: a sweep's runs where people browse them, as a projection of the sweep's files."""

from orchestrator.track.base import ReadTrial, SweepStatus, Tracker
from orchestrator.track.memory import MemoryTracker
from orchestrator.track.mlflow import MlflowTracker, reach

__all__ = ["MemoryTracker", "MlflowTracker", "ReadTrial", "SweepStatus", "Tracker", "reach"]
