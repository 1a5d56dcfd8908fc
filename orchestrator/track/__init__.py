"""Shows a sweep's files in MLflow."""

from orchestrator.track.address import Address
from orchestrator.track.base import NoTracker, RunStatus, Tracker
from orchestrator.track.destination import EXPERIMENT, Destination, destination, store_of
from orchestrator.track.fetch import fetch
from orchestrator.track.links import RunLink, page_of, run_link, runs_page, sweep_link
from orchestrator.track.mlflow import MlflowTracker, forget
from orchestrator.track.mlflow_store import QUIET, reach, refuse_login
from orchestrator.track.sqlite import prepare
from orchestrator.track.text import clean, redact

__all__ = [
    "EXPERIMENT",
    "QUIET",
    "Address",
    "Destination",
    "MlflowTracker",
    "NoTracker",
    "RunLink",
    "RunStatus",
    "Tracker",
    "clean",
    "destination",
    "fetch",
    "forget",
    "page_of",
    "prepare",
    "reach",
    "redact",
    "refuse_login",
    "run_link",
    "runs_page",
    "store_of",
    "sweep_link",
]
