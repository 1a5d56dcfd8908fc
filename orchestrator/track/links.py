"""Where a browser finds a trial's run in MLflow."""

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
    """What a store says about a trial's run.

    Args:
        url: of its page; of a search for it where it is not there yet; empty where there is nothing to open.
        note: why it does not lead to the run itself, and what to do; empty where it does.
    """

    url: str
    note: str = ""


def page_of(tracking_uri: str, ui: str) -> str:
    """Tell where a store is browsed.

    Args:
        tracking_uri: of the store.
        ui: where ``teleport ui`` shows a store that is no server.

    Returns:
        The URL of its page, without credentials.
    """
    address = Address.parse(tracking_uri)
    if address.is_database:
        return ui.rstrip("/")
    scheme, _, rest = address.uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}".rstrip("/")


def run_link(tracking_uri: str, page: str, record: SweepRecord, trial_id: str) -> RunLink:
    """Ask a store for a trial's run; may take as long as the store takes to answer, ten seconds at most.

    Args:
        tracking_uri: of the store.
        page: from :func:`page_of`.
        record: of the sweep.
        trial_id: of the trial.

    Returns:
        The link, or why there is none.
    """
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
    experiment, run = place
    base = f"{page}/#/experiments/{experiment}"
    if run is None:
        search = f"tags.trial_id = '{trial_id}'"
        return RunLink(f"{base}/runs?searchFilter={quote(search)}", late)
    return RunLink(f"{base}/runs/{run}")
