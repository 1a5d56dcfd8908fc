"""Finds sweeps in an MLflow store by their names, and downloads their archives."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from orchestrator.errors import UserError, nearest
from orchestrator.track.address import Address
from orchestrator.track.destination import Destination
from orchestrator.track.mlflow_store import PARENT, all_runs, open_client, translated
from orchestrator.track.projection import SWEEP_ID, TRIAL_ID
from orchestrator.track.store import StoreError

if TYPE_CHECKING:
    from mlflow.entities import Run


@final
@dataclass(frozen=True)
class RemoteSweep:
    """A sweep's own run in a store, which started at a Unix time in milliseconds."""

    name: str
    run_id: str
    sweep_id: str
    status: str
    started_at: int
    host: str

    def __str__(self) -> str:
        began = datetime.datetime.fromtimestamp(self.started_at / 1000, datetime.UTC)
        return f"run {self.run_id}, begun {began:%Y-%m-%d %H:%M} UTC on {self.host}, {self.status}"


@final
class Remote:
    """Reads the sweeps of one experiment of an MLflow store.

    Raises:
        UserError: the tracking URI is wrong, or the store does not answer.
    """

    def __init__(self, at: Destination) -> None:
        self._address = Address.parse(at.uri)
        self._name = at.experiment
        if self._address.file is not None and not self._address.file.is_file():
            raise UserError(f"--tracking-uri: {self._address.shown} is not there")
        with self._answering():
            self._client = open_client(self._address)
            experiment = self._client.get_experiment_by_name(at.experiment)
        self._experiment_id = None if experiment is None else str(experiment.experiment_id)

    def find(self, name: str, run_id: str | None = None) -> RemoteSweep:
        """Find a sweep by its name; if several have it, the run id of the sweep's own run is needed too.

        Raises:
            UserError: the store has no such sweep, or several.
        """
        sweeps = [_sweep_of(run) for run in self._search("tags.phase = 'sweep'")]
        found = [sweep for sweep in sweeps if sweep.name == name and run_id in (None, sweep.run_id)]
        if len(found) == 1:
            return found[0]
        namesakes = [sweep for sweep in sweeps if sweep.name == name]
        if not namesakes:
            known = sorted({sweep.name for sweep in sweeps})
            where = f"experiment {self._name!r} of {self._address.shown}"
            raise UserError(f"no sweep {name!r} in {where}; {nearest(name, known)}")
        listed = "".join(f"\n  {sweep}" for sweep in namesakes)
        if run_id is not None:
            raise UserError(
                f"--run-id: {run_id} is no run of a sweep {name!r} in {self._address.shown}; there are{listed}"
            )
        raise UserError(f"{len(found)} sweeps {name!r} are in {self._address.shown}; say which with --run-id:{listed}")

    def num_trials(self, sweep: RemoteSweep) -> int:
        """Count the trials that the store shows of a sweep, ended or not."""
        where = f"tags.`{SWEEP_ID}` = '{sweep.sweep_id}' AND tags.`{PARENT}` = '{sweep.run_id}'"
        return sum(TRIAL_ID in run.data.tags for run in self._search(where))

    def download(self, sweep: RemoteSweep, name: str, directory: Path) -> Path:
        """Download a sweep's archive of this name into a directory, and return its path.

        Raises:
            UserError: the store has no archive of the sweep, or does not answer.
        """
        with self._answering():
            if all(artifact.path != name for artifact in self._client.list_artifacts(sweep.run_id)):
                raise UserError(
                    f"{self._address.shown} has no archive of sweep {sweep.name!r} ({sweep}): it is stored when the "
                    "sweep ends or is interrupted, or by `teleport track sync` where the sweep's home is"
                )
            return Path(self._client.download_artifacts(sweep.run_id, name, str(directory)))

    def _search(self, where: str) -> list[Run]:
        if self._experiment_id is None:
            return []
        with self._answering():
            return list(all_runs(self._client, self._experiment_id, where))

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            with translated():
                yield
        except StoreError as error:
            raise UserError(f"--tracking-uri: {self._address.shown} does not answer: {error}") from None


def _sweep_of(run: Run) -> RemoteSweep:
    tags = run.data.tags
    return RemoteSweep(
        name=tags.get("sweep", ""),
        run_id=run.info.run_id,
        sweep_id=tags.get(SWEEP_ID, ""),
        status=run.info.status,
        started_at=run.info.start_time or 0,
        host=tags.get("host", "?"),
    )
