"""Finds the page on which MLflow shows a trial's run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final
from urllib.parse import quote

from orchestrator.home import SweepRecord
from orchestrator.track.address import Address
from orchestrator.track.mlflow_store import MlflowStore
from orchestrator.track.projection import sweep_id
from orchestrator.track.store import Refused, Unreachable


@final
@dataclass(frozen=True)
class RunLink:
    """A link to a trial's run.

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


def run_link(tracking_uri: str, page: str, record: SweepRecord, trial_id: str) -> RunLink:
    """Ask a store, for ten seconds at most, where a trial's run is; ``page`` comes from :func:`page_of`."""
    address = Address.parse(tracking_uri)
    if address.file is not None and not address.file.exists():
        return RunLink("", f"nothing is tracked in {address.file} yet")
    try:
        place = MlflowStore(address).place_of(sweep_id(record), trial_id)
    except (Unreachable, Refused) as error:
        again = f"the sweep goes on without it, and `teleport track sync {record.spec.name}` sends what it missed"
        return RunLink("", f"MLflow at {address.shown} does not answer ({error}); {again}")
    late = f"MLflow has not got this run yet; `teleport track sync {record.spec.name}` sends it"
    if place is None:
        return RunLink("", late)
    base = f"{page}/#/experiments/{place[0]}"
    if place[1] is not None:
        return RunLink(f"{base}/runs/{place[1]}")
    search = quote(f"tags.trial_id = '{trial_id}'")
    return RunLink(f"{base}/runs?searchFilter={search}", late)
