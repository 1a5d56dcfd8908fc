"""MLflow as a store of runs. It is imported when a store is opened, and its global state is never used."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, final

from orchestrator.errors import UserError
from orchestrator.track.address import Address
from orchestrator.track.destination import EXPERIMENT, Destination
from orchestrator.track.points import Point
from orchestrator.track.projection import COMPLETE, SWEEP_ID, TRIAL_ID, DataFacts, Facts
from orchestrator.track.sqlite import prepare
from orchestrator.track.store import Refused, RunStore, StoredRun, Unreachable
from orchestrator.track.text import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

PARENT = "mlflow.parentRunId"
_log = logging.getLogger("teleport")
MAX_METRICS = 1_000
MAX_PARAMS = 100
PAGE = 1_000

# MLflow tries a request once and gives up soon: the writer repeats by itself, and must notice when it has to close.
QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# SQLite says one of these if MLflow repeats a step of making its tables, or takes one whose predecessor is missing.
_HALF_MADE = ("already exists", "duplicate column", "no such column", "no such table")
_TRY_LATER = frozenset({401, 403, 408, 429})
_REFUSALS = {
    401: "does not know this user (401): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_TOKEN",
    403: "refuses this user or this name of the server (403): ask for permission to write, or start the server with "
    "--allowed-hosts",
}


def open_client(address: Address) -> MlflowClient:
    """Import MLflow and open a client; the first one on a new database makes its tables.

    Raises:
        Unreachable: the store's tables were left half made, and it may hold something.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    _quiet()
    import mlflow

    _quiet()  # again, since MLflow sets levels of its own
    prepare(address)
    try:
        return mlflow.MlflowClient(address.uri)
    except Exception as error:
        if address.file is None or not any(word in str(error) for word in _HALF_MADE):
            raise
        raise Unreachable(
            f"{address.file}: a program that was making or changing its tables was killed; move the file away, and "
            "`teleport track sync NAME` sends a sweep of this home to a new one"
        ) from None


def all_runs(client: MlflowClient, experiment_id: str, where: str) -> Iterator[Run]:
    """Yield the runs that MLflow's filter string finds, however many pages they fill."""
    token = None
    while True:
        page = client.search_runs([experiment_id], where, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _quiet() -> None:
    """Silence the steps in which tables are made, and tracebacks of errors that are raised and told in a line."""
    for name, level in (("mlflow.store.db.utils", logging.CRITICAL), ("alembic", logging.WARNING)):
        logging.getLogger(name).setLevel(level)


def reach(at: Destination) -> str:
    """Try to read a store, and say in a line what was found."""
    address = Address.parse(at.uri)
    num_runs = MlflowStore(address, experiment=at.experiment).num_runs()
    return f"{address.shown}: {num_runs}{'+' if num_runs == PAGE else ''} runs in experiment {at.experiment!r}"


def refuse_login(at: Destination) -> None:
    """Ask a server whether it lets this user in, before anything of a sweep is begun; other trouble waits.

    Raises:
        UserError: it does not, so that not one run would be shown there.
    """
    address = Address.parse(at.uri)
    if address.is_database:
        return
    from mlflow.exceptions import MlflowException

    try:
        open_client(address).get_experiment_by_name(at.experiment)
    except MlflowException as error:
        status = error.get_http_status_code()  # type: ignore[no-untyped-call]
        if status in _REFUSALS:
            raise UserError(f"--tracking-uri: {address.shown} {_REFUSALS[status]}") from None
    except Exception as error:  # noqa: BLE001 - a server that does not answer now may do so later
        _log.info("tracking: %s does not answer: %s", address.shown, _line(error))


@final
class MlflowStore(RunStore):
    """The runs of an MLflow store; those of many sweeps are in one experiment, and tags tell them apart.

    Args:
        address: of the store.
        artifact_root: where a database without a server keeps artifacts; None stands for beside a SQLite file.
        experiment: its name.
        tell: takes a sentence that people should read.
    """

    def __init__(
        self,
        address: Address,
        artifact_root: Path | None = None,
        *,
        experiment: str = EXPERIMENT,
        tell: Callable[[str], None] = _log.warning,
    ) -> None:
        self._address = address
        self._name = experiment
        self._tell = tell
        self._artifact_root = address.artifact_root if artifact_root is None else artifact_root
        self._opened: MlflowClient | None = None
        self._experiment_id = ""

    def num_runs(self) -> int:
        """Count the runs, up to one page of them; this creates nothing but a database's tables."""
        found = self._search("", PAGE)
        return 0 if found is None else len(found[1])

    @property
    def experiment_id(self) -> str | None:
        """The experiment's id; None if it is missing. This creates nothing but a database's tables."""
        found = self._search("", 1)
        return None if found is None else found[0]

    def place_of(self, sweep_id: str, trial_id: str | None = None) -> tuple[str, str | None] | None:
        """Find the ids of the experiment and of a trial's run, or of the sweep's own.

        The run is looked for in all experiments, and this creates nothing but a database's tables.

        Returns:
            None if there is neither such a run nor the experiment; a run id of None if there is an experiment only.
        """
        which = "tags.phase = 'sweep'" if trial_id is None else f"tags.`{TRIAL_ID}` = '{trial_id}'"
        with translated():
            client = self._opened or open_client(self._address)
            known = {each.name: str(each.experiment_id) for each in client.search_experiments()}
            where = f"tags.`{SWEEP_ID}` = '{sweep_id}' AND {which}"
            found = client.search_runs(list(known.values()), where, max_results=1) if known else []
        if found:
            return str(found[0].info.experiment_id), str(found[0].info.run_id)
        return (known[self._name], None) if self._name in known else None

    def find(self, sweep_id: str) -> list[StoredRun]:
        """Find all runs of a sweep; see :meth:`RunStore.find`."""
        with translated():
            client = self._client()
            return [
                StoredRun(
                    run.info.run_id,
                    run.data.tags.get(TRIAL_ID),
                    run.data.tags.get(PARENT),
                    run.info.status,
                    run.data.tags.get(COMPLETE, ""),
                    run.info.start_time or 0,
                )
                for run in all_runs(client, self._experiment_id, f"tags.`{SWEEP_ID}` = '{sweep_id}'")
            ]

    def create(self, facts: Facts, *, parent: str | None, started_at: int) -> str:
        """Create a run; see :meth:`RunStore.create`."""
        tags = dict(facts.tags)
        if parent is not None:
            tags[PARENT] = parent
        with translated():
            client = self._client()
            from mlflow.entities import Param

            params = [Param(key, value) for key, value in facts.params.items()]
            run = client.create_run(self._experiment_id, start_time=started_at, tags=tags, run_name=facts.name)
            run_id: str = run.info.run_id
            for start in range(0, len(params), MAX_PARAMS):
                client.log_batch(run_id, params=params[start : start + MAX_PARAMS])
            if facts.data is not None:
                client.log_inputs(run_id, [_input(facts.data)])
        return run_id

    def move(self, run_id: str, parent: str) -> None:
        """Put a run under another; see :meth:`RunStore.move`."""
        with translated():
            self._client().set_tag(run_id, PARENT, parent)

    def log(self, run_id: str, points: Sequence[Point], tags: Mapping[str, str] | None = None) -> None:
        """Add points, then tags; see :meth:`RunStore.log`."""
        with translated():
            client = self._client()
            from mlflow.entities import Metric, RunTag

            metrics = [Metric(point.key, point.value, point.timestamp, point.step) for point in points]
            # The tags go with the last points, since one of them says that the run is whole.
            while len(metrics) > MAX_METRICS:
                client.log_batch(run_id, metrics=metrics[:MAX_METRICS])
                del metrics[:MAX_METRICS]
            marks = [RunTag(key, value) for key, value in (tags or {}).items()]
            if metrics or marks:
                client.log_batch(run_id, metrics=metrics, tags=marks)

    def set_status(self, run_id: str, status: str, ended_at: int | None) -> None:
        """Set a run's status; see :meth:`RunStore.set_status`."""
        with translated():
            if ended_at is None:
                self._client().update_run(run_id, status=status)
            else:
                self._client().set_terminated(run_id, status, ended_at)

    def delete(self, run_id: str) -> None:
        """Remove a run; see :meth:`RunStore.delete`."""
        with translated():
            self._client().delete_run(run_id)

    def attach(self, run_id: str, path: Path) -> None:
        """Store a file or a directory; see :meth:`RunStore.attach`."""
        with translated():
            if self._address.is_database and self._artifact_root is None:
                return
            if path.is_dir():
                self._client().log_artifacts(run_id, str(path), artifact_path=path.name)
            else:
                self._client().log_artifact(run_id, str(path))

    def _search(self, where: str, max_results: int) -> tuple[str, Sequence[Run]] | None:
        """Search the experiment, and return its id and the runs; None if the store has no such experiment."""
        with translated():
            client = self._opened or open_client(self._address)
            experiment = client.get_experiment_by_name(self._name)
            if experiment is None:
                return None
            experiment_id = str(experiment.experiment_id)
            return experiment_id, client.search_runs([experiment_id], where, max_results=max_results)

    def _client(self) -> MlflowClient:
        if self._opened is None:
            client = open_client(self._address)
            self._experiment_id = self._experiment(client)
            self._opened = client
        return self._opened

    def _experiment(self, client: MlflowClient) -> str:
        experiment = client.get_experiment_by_name(self._name)
        if experiment is None:
            root = self._artifact_root if self._address.is_database else None
            location = None if root is None else root.absolute().as_uri()
            return str(client.create_experiment(self._name, artifact_location=location))
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
            self._tell(f"tracking: experiment {self._name!r} had been deleted in {self._address.shown}; it is restored")
        return str(experiment.experiment_id)


def _input(data: DataFacts) -> DatasetInput:
    """Make what MLflow shows of a data set; its source is of the kind that names code, since samples may be drawn."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"tags": json.loads(data.options)})
    dataset = Dataset(name=data.name, digest=data.digest, source_type="code", source=source)
    return DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", "training")])


@contextmanager
def translated() -> Iterator[None]:
    """Turn what MLflow raises into one of our two errors, without the credentials that MLflow quotes.

    Raises:
        Unreachable: the store does not answer at the moment.
        Refused: the store refuses this, and would refuse it again.
        UserError: it is passed on as it was raised.
    """
    try:
        yield
    except (Unreachable, UserError):
        raise
    except Exception as error:  # noqa: BLE001 - a database driver, a disk or a broken proxy raises what it likes
        kind = Refused if _is_final(error) else Unreachable
        raise kind(_line(error)) from None


def _is_final(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return False
    status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
    return 400 <= status < 500 and status not in _TRY_LATER


def _line(error: BaseException) -> str:
    """Say in a line what went wrong; the network's and the disk's errors keep the system's own words."""
    root = error
    while root.__cause__ or root.__context__:
        root = root.__cause__ or root.__context__ or root
    if isinstance(root, OSError):
        return root.strerror or str(root) or type(root).__name__
    lines = redact(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
