"""Finds the page on which MLflow shows a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final
from urllib.parse import quote

from orchestrator.home import SweepPaths, SweepRecord, without_trials
from orchestrator.track.address import Address
from orchestrator.track.destination import Destination
from orchestrator.track.mlflow_store import MlflowStore
from orchestrator.track.projection import sweep_id
from orchestrator.track.store import Refused, Unreachable


@final
@dataclass(frozen=True)
class RunLink:
    """A link to a run.

    Args:
        url: of the run's page, or of a search for the run if the store does not have it; empty if nothing can open.
        note: why the link does not lead to the run, and what to do; otherwise empty.
    """

    url: str
    note: str = ""


def page_of(tracking_uri: str, ui: str) -> str:
    """Give the URL of a store's page without credentials; ``ui`` is where ``teleport ui`` shows a database."""
    address = Address.parse(tracking_uri)
    if address.is_database:
        return ui.rstrip("/")
    scheme, _, rest = address.uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}".rstrip("/")


def sweep_link(at: Destination, page: str, paths: SweepPaths) -> RunLink:
    """Ask a store where the sweep's own run is, as :func:`run_link` does for a trial's."""
    return _link(at, page, without_trials(paths), None)


def runs_page(at: Destination, page: str) -> str:
    """Give the URL of the experiment's table of runs; ``page`` itself where the store has no such experiment yet."""
    try:
        experiment_id = MlflowStore(Address.parse(at.uri), experiment=at.experiment).experiment_id
    except (Unreachable, Refused):
        return page
    return page if experiment_id is None else f"{page}/#/experiments/{experiment_id}/runs"


def run_link(tracking_uri: str, page: str, record: SweepRecord, trial_id: str) -> RunLink:
    """Ask a store, for ten seconds at most, where a trial's run is; ``page`` comes from :func:`page_of`."""
    return _link(Destination(tracking_uri), page, record, trial_id)


def _link(at: Destination, page: str, record: SweepRecord, trial_id: str | None) -> RunLink:
    address = Address.parse(at.uri)
    if address.file is not None and not address.file.exists():
        return RunLink("", f"nothing is tracked in {address.file} yet")
    try:
        place = MlflowStore(address, experiment=at.experiment).place_of(sweep_id(record), trial_id)
    except (Unreachable, Refused) as error:
        again = f"the sweep goes on without it, and `teleport track sync {record.spec.name}` sends what it missed"
        return RunLink("", f"MLflow at {address.shown} does not answer ({error}); {again}")
    late = f"MLflow has not got this run yet; `teleport track sync {record.spec.name}` sends it"
    if place is None:
        return RunLink("", late)
    base = f"{page}/#/experiments/{place[0]}"
    if place[1] is not None:
        return RunLink(f"{base}/runs/{place[1]}")
    search = quote(f"tags.sweep = '{record.spec.name}'" if trial_id is None else f"tags.trial_id = '{trial_id}'")
    return RunLink(f"{base}/runs?searchFilter={search}", late)
