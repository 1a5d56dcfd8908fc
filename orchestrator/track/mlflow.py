"""The MLflow tracker."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

from orchestrator.errors import UserError
from orchestrator.home import SweepPaths, without_trials
from orchestrator.track.address import Address
from orchestrator.track.base import NOTHING, RunStatus, Tracker
from orchestrator.track.destination import EXPERIMENT, Destination, to_remember
from orchestrator.track.ledger import SweepRunEnd
from orchestrator.track.mlflow_store import MlflowStore
from orchestrator.track.projection import sweep_id
from orchestrator.track.store import Refused, RunStore, Unreachable
from orchestrator.track.writer import Writer

CLOSE_SECONDS = 30.0


@final
class MlflowTracker(Tracker):
    """Writes to MLflow from one background thread.

    Sweeps of a store share an experiment unless the user says otherwise, since MLflow compares runs within an
    experiment, and people compare arms and architectures across sweeps. Tags tell the sweeps apart.

    Args:
        tracking_uri: of a SQLite file, a PostgreSQL database or an MLflow server.
        experiment: the name of the experiment, which is made if it is missing.
        artifact_root: where a database's artifacts go. By default they go beside a SQLite file, and for PostgreSQL
            they are not stored.
        close_seconds: how long :meth:`close` waits at most.
        store: takes the place of MLflow's client, for example to fail on purpose.

    Raises:
        UserError: the URI is none of these.
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        experiment: str = EXPERIMENT,
        artifact_root: Path | None = None,
        close_seconds: float = CLOSE_SECONDS,
        store: RunStore | None = None,
    ) -> None:
        self._address = Address.parse(tracking_uri)
        self._at = Destination(tracking_uri, experiment)
        self._log = logging.getLogger("teleport")
        made = MlflowStore(self._address, artifact_root, experiment=experiment, tell=self._tell)
        self._store = made if store is None else store
        self._close_seconds = close_seconds
        self._writer: Writer | None = None

    def follow(self, paths: SweepPaths) -> None:
        """Begin to show a sweep that runs; see :meth:`Tracker.follow`."""
        assert self._writer is None, "a tracker follows one sweep"
        paths.write_tracking(to_remember(self._at, paths.home))
        self._log = logging.getLogger(f"teleport.{paths.name}")
        self._writer = Writer(self._store, self._address.shown, paths)

    def close(
        self,
        status: RunStatus,
        *,
        description: str = "",
        artifacts: Sequence[Path] = (),
        metrics: Mapping[str, float] = NOTHING,
    ) -> int:
        """End the sweep's run; see :meth:`Tracker.close`."""
        assert self._writer is not None, "follow comes first"
        end = SweepRunEnd(status, description, tuple(artifacts), metrics, round(time.time() * 1000))
        return self._writer.finish(end, self._close_seconds)

    def sync(
        self,
        paths: SweepPaths,
        status: RunStatus | None = None,
        *,
        description: str = "",
        artifacts: Sequence[Path] = (),
        metrics: Mapping[str, float] = NOTHING,
    ) -> int:
        """Send everything that the store lacks; see :meth:`Tracker.sync`."""
        end = SweepRunEnd(status, description, tuple(artifacts), metrics, None)
        return Writer(self._store, self._address.shown, paths, end).wait()

    def _tell(self, sentence: str) -> None:
        """Print a sentence on stderr, and put it into the log of a sweep that runs."""
        print(sentence, file=sys.stderr)
        if self._log.handlers:
            self._log.warning(sentence)


def forget(paths: SweepPaths, at: Destination) -> int:
    """Delete a sweep's runs from a store, as MLflow deletes runs (its own clean-up removes them for good).

    The sweep's own run goes last, so that a removal that was cut off finds the rest again.

    Args:
        paths: of the sweep.
        at: the store and the experiment.

    Returns:
        The number of runs.

    Raises:
        UserError: the URI is wrong, or the store does not answer.
    """
    store = MlflowStore(Address.parse(at.uri), experiment=at.experiment)
    try:
        found = store.find(sweep_id(without_trials(paths)))
        for run in sorted(found, key=lambda run: run.trial_id is None):
            store.delete(run.run_id)
    except (Unreachable, Refused) as error:
        raise UserError(f"--mlflow: {error}; nothing was removed from the home") from None
    return len(found)
