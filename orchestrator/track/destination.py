"""Decides to which store and which experiment a sweep's runs go, and goes on there later."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.errors import UserError
from orchestrator.home import Tracking
from orchestrator.track.address import Address
from orchestrator.track.text import HIDDEN, redact

EXPERIMENT = "teleport"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
EXPERIMENT_VARIABLE = "MLFLOW_EXPERIMENT_NAME"
# With one of these MLflow shows a server who it is, without credentials in the address.
LOGIN_VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN")
MAX_NAME = 256


@final
@dataclass(frozen=True)
class Destination:
    """Where runs go.

    Args:
        uri: of the store, with the user's credentials if there are any.
        experiment: its name.
    """

    uri: str
    experiment: str = EXPERIMENT


def store_of(home: Path) -> str:
    """Return the address of a home's own store, which is a SQLite file."""
    return f"sqlite:///{home.absolute() / 'mlflow.db'}"


def destination(
    home: Path,
    uri: str | None,
    experiment: str | None,
    stored: Tracking | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Destination:
    """Choose what the user has given, else what the sweep went to before, else what the environment says.

    Without all of these it is the home's own store and the experiment ``teleport``.

    Args:
        home: that holds the sweeps.
        uri: of the store, as the user gave it.
        experiment: as the user gave it.
        stored: where the sweep's runs went before; None for no sweep, and for one that was never tracked.
        environment: with MLflow's own variables.

    Raises:
        UserError: the experiment has no usable name, or credentials are missing that are not kept with a sweep.
    """
    # What a sweep remembers comes before a variable, which may be of another time, or for another project.
    if experiment is None:
        experiment = environment.get(EXPERIMENT_VARIABLE, EXPERIMENT) if stored is None else stored.experiment
    name = experiment.strip()
    if not 0 < len(name) <= MAX_NAME:
        raise UserError(f"--experiment: a name has 1 to {MAX_NAME} characters, is {name[:40]!r}")
    if not uri:
        told = environment.get(URI_VARIABLE) or None
        uri = told if stored is None else _uri_before(stored, told, environment) if stored.uri else None
    return Destination(uri or store_of(home), name)


def to_remember(at: Destination, home: Path) -> Tracking:
    """Say what is kept with a sweep: no credentials, and no path of the home's own store, so that it can be moved."""
    address = Address.parse(at.uri)
    if address.uri == store_of(home):
        return Tracking(uri="", experiment=at.experiment)
    return Tracking(uri=redact(at.uri if address.file is None else address.uri), experiment=at.experiment)


def _uri_before(stored: Tracking, told: str | None, environment: Mapping[str, str]) -> str:
    if HIDDEN not in stored.uri:
        return stored.uri
    if told is not None and redact(told) == stored.uri:
        return told
    without = stored.uri.replace(f"{HIDDEN}@", "")
    if HIDDEN not in without and any(name in environment for name in LOGIN_VARIABLES):
        return without
    raise UserError(
        f"--tracking-uri: the sweep is tracked in {stored.uri}, and credentials are not kept with a sweep; give its "
        f"address again, by this option or ${URI_VARIABLE}, or for a server $MLFLOW_TRACKING_USERNAME and "
        "$MLFLOW_TRACKING_PASSWORD"
    )
