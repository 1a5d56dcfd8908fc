"""Runs a source's trials as one Tune experiment. This module imports Ray, so it is itself imported late."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, final

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from orchestrator.home import Checkpoints, FailureKind, HistoryRow, TrialConfig, TrialResult
from orchestrator.launch.base import TrialSource
from orchestrator.launch.cluster import request
from orchestrator.spec import plugins

CAPACITY_SECONDS = 1.0
# Tune asks for at most so many trials at once; the searcher decides how many there are.
MAX_PENDING = 10_000
# Ray says one of these of a worker that it killed because its machine ran out of memory.
OUT_OF_MEMORY = ("OutOfMemoryError", "memory pressure", "low on memory")


def fit(source: TrialSource, scratch: str, capacity: Callable[[], int]) -> None:
    """Run each trial of a source on the cluster that this process is connected to.

    Args:
        source: of the trials.
        scratch: a directory for the files that Tune insists on writing.
        capacity: asks the cluster how many trials it holds at once.
    """
    # By default Tune asks a searcher for one trial at a time and starts its workers one after the other.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(MAX_PENDING)
    running = Running(source)
    with _a_session(scratch), running.telling_own_failures():
        tune.run(
            tune.with_resources(run_in_worker, placement),
            search_alg=SourceSearcher(running, Capacity(capacity)),
            scheduler=SourceScheduler(running),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=str,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
            storage_path=scratch,
            name="tune",
            verbose=0,
            callbacks=[SourceCallback(running)],
            raise_on_failed_trial=False,
            # Otherwise Tune would run on the cluster if this process is a client. (Tune's Tuner lacks this option.)
            _remote=False,
        )


@contextmanager
def _a_session(scratch: str) -> Iterator[None]:
    """Give Tune the session directory that it looks for, even if this process is a client without a node."""
    if ray._private.worker._global_node is not None:
        yield
        return
    ray._private.worker._global_node = SimpleNamespace(get_session_dir_path=lambda: scratch)
    try:
        yield
    finally:
        ray._private.worker._global_node = None


def run_in_worker(config: dict[str, Any]) -> None:
    """Run one trial inside a Tune worker and report it through Tune; see :meth:`SourceSearcher.suggest`."""
    from orchestrator.trial import process_output, run_trial

    # A configuration that names a plug-in's model cannot be read before the plug-in is loaded.
    plugins.load_travelled(config["plugins"])
    trial = TrialConfig.model_validate_json(config["trial"])
    start: Box = config["start"]

    with process_output() as printed:

        def report(rows: Sequence[HistoryRow]) -> None:
            tune.report({"rows": [row.model_dump_json() for row in rows], "output": printed()})

        def save(data: bytes) -> None:
            tune.report({"rows": [], "checkpoint": Box(data)})

        result = run_trial(trial, report, Checkpoints(start.take(), save))
        last = printed()
    tune.report({"rows": [], "output": last, "result": result.model_dump_json()})


def placement(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """Ask for the share in a trial's configuration, which differs between search and confirm."""
    return tune.PlacementGroupFactory([request(TrialConfig.model_validate_json(config["trial"]).share)])


@final
class Box:
    """Hides a checkpoint from Tune, which copies, prints and keeps configurations and reports."""

    def __init__(self, data: bytes | None) -> None:
        self._data = data

    def __deepcopy__(self, memo: object) -> Box:
        return self

    def __repr__(self) -> str:
        return "Box()"

    def take(self) -> bytes | None:
        """Take the checkpoint out, so that nothing keeps it in memory any longer."""
        data, self._data = self._data, None
        return data


@final
class Running:
    """The trials that Tune runs, by Tune's own ids.

    Tune pickles whatever it might restore from. Nothing is ever restored from Tune, so this object pickles to nothing,
    and the source, with its files, threads and sockets, stays in the driver.
    """

    def __init__(self, source: TrialSource) -> None:
        self.source = source
        self.trials: dict[str, tuple[TrialConfig, float]] = {}
        self._failure: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    @contextmanager
    def asking(self) -> Iterator[TrialSource]:
        """Give the source, and keep the exception if it fails."""
        try:
            yield self.source
        except Exception as error:
            self._failure = error
            raise

    @contextmanager
    def telling_own_failures(self) -> Iterator[None]:
        """Raise what the source raised, for example about a full disk, in place of what Tune makes of it."""
        try:
            yield
        except Exception:
            if self._failure is not None:
                raise self._failure from None
            raise

    def hear(self, tune_id: str, report: Mapping[str, Any]) -> bool:
        """Pass on the rows, the checkpoint or the result that a trial has reported, and tell whether it goes on."""
        if tune_id not in self.trials:
            return False
        config, _ = self.trials[tune_id]
        rows = [HistoryRow.model_validate_json(row) for row in report.get("rows", ())]
        data = report["checkpoint"].take() if "checkpoint" in report else None
        with self.asking() as source:
            if text := report.get("output"):
                source.on_output(config, text)
            if rows and not source.on_history(config, rows):
                del self.trials[tune_id]
                return False
            if data is not None:
                source.on_checkpoint(config, data)
            if "result" not in report:
                return True
            del self.trials[tune_id]
            source.on_ended(config, TrialResult.model_validate_json(report["result"]))
        return False

    def lose(self, tune_id: str, message: str, kind: FailureKind = "lost") -> None:
        """Tell the source that a trial ended without a result, unless the trial has given one."""
        if tune_id in self.trials:
            config, started_at = self.trials.pop(tune_id)
            with self.asking() as source:
                source.on_ended(config, TrialResult.lost(config.trial_id, message, started_at, time.time(), kind))

    @property
    def overdue(self) -> list[str]:
        """Tune's ids of the trials whose time is up."""
        overdue = self.source.overdue
        return [tune_id for tune_id, (config, _) in self.trials.items() if config.trial_id in overdue]


@final
class SourceSearcher(Searcher):  # type: ignore[misc]
    """Lets Tune ask the source for trials."""

    def __init__(self, running: Running, capacity: Capacity) -> None:
        super().__init__()
        self._running = running
        self._capacity = capacity

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Hand Tune the next trial; see Tune's own ``Searcher.suggest``."""
        with self._running.asking() as source:
            if source.is_exhausted:
                return str(Searcher.FINISHED)
            # One trial more than the cluster holds keeps Tune's workers busy; even more would learn from fewer results.
            config = source.propose() if len(self._running.trials) <= self._capacity() else None
            if config is None:
                return None
            start = Box(source.checkpoint_of(config))
        self._running.trials[trial_id] = (config, time.time())
        return {
            "trial": config.model_dump_json(),
            "start": start,
            "plugins": {name: plugins.folder_of(name) for name in config.training.plugins},
        }

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Do nothing, since :class:`SourceCallback` tells the source."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing, since a sweep goes on from its files."""


@final
class SourceScheduler(FIFOScheduler):  # type: ignore[misc]
    """Stops the trials that the source has ended; Tune starts them in the order of the source's proposals."""

    def __init__(self, running: Running) -> None:
        super().__init__()
        self._running = running
        self._killed: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Pass on what a trial reports, and stop it if it is over, so that its worker is free for the next."""
        return str(self.CONTINUE if self._running.hear(trial.trial_id, result) else self.STOP)

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Kill the workers of overdue trials, as Tune calls this several times a second; leave the choice to Tune."""
        for tune_id in self._running.overdue:
            worker = tune_controller.get_trial(tune_id).temporary_state.ray_actor
            if tune_id not in self._killed and worker is not None:
                self._killed.add(tune_id)
                ray.kill(worker)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing, since a sweep goes on from its files."""


@final
class SourceCallback(tune.Callback):  # type: ignore[misc]
    """Tells the source what becomes of its trials."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """Let the user stop the launch; Tune calls this ten times a second."""
        self._running.source.check()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Note the time, and tell the source that the trial runs."""
        config, _ = self._running.trials[trial.trial_id]
        self._running.trials[trial.trial_id] = (config, time.time())
        trial.config["start"].take()
        with self._running.asking() as source:
            source.on_started(config)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Tell the source that the worker died, and whether its machine was out of memory."""
        text = str(trial.get_error() or "").strip()
        lines = text.splitlines()
        kind: FailureKind = "memory" if any(phrase in text for phrase in OUT_OF_MEMORY) else "lost"
        message = f"the worker died: {lines[-1]}" if lines else "the worker died"
        self._running.lose(trial.trial_id, message, kind)
        _forget_statistics(trial)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Tell the source of a worker that ended without a result."""
        self._running.lose(trial.trial_id, "the worker ended without a result")
        _forget_statistics(trial)


def _forget_statistics(trial: Any) -> None:
    """Drop the means that Tune keeps of each number in each report, which take 12 kB a trial and which nobody reads."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()


@final
class Capacity:
    """How many trials the cluster holds at once; it is asked again now and then, since nodes join and leave."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask
        self._asked_at = -math.inf
        self._last = 1

    def __call__(self) -> int:
        """Give the cluster's answer, which is at most :data:`CAPACITY_SECONDS` old."""
        if time.monotonic() - self._asked_at >= CAPACITY_SECONDS:
            self._last = self._ask()
            self._asked_at = time.monotonic()
        return self._last
