"""What happens to a sweep, put on file as a driver does; and what a store then shows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import HistoryRow, Provenance, SweepRecord, Trial, TrialConfig, TrialResult, TrialState
from orchestrator.spec import SweepSpec
from orchestrator.track import MlflowTracker, Tracker
from orchestrator.track.projection import COMPLETE
from tests.orchestrator.specs import tiny_spec
from tests.orchestrator.trials import complete, config, failed, row

_starts = itertools.count(1_700_000_000)


def provenance(**changes: object) -> Provenance:
    """Make the provenance of a sweep that no other test has begun."""
    plain = {
        "command": "teleport run tiny.yaml",
        "codes": [{"commit": "0123abcd", "changes": "4567", "source": "89ef"}],
        "versions": {"torch": "2.14.1"},
        "host": "here",
        "started_at": next(_starts) + 0.25,
        **changes,
    }
    return Provenance.model_validate(plain)


def new_record(*trials: Trial, spec: SweepSpec | None = None, **changes: object) -> SweepRecord:
    """Make a sweep that no other test has begun."""
    return SweepRecord(tiny_spec() if spec is None else spec, provenance(**changes), trials)


def search_config(number: int) -> TrialConfig:
    """Make the configuration of a search trial."""
    return config(lr=0.01 * (1 + number), number=number)


def rows_of(of: TrialConfig, num_steps: int = 4) -> list[HistoryRow]:
    """Make a trial's curves."""
    return [row(step, of.seeds[0]) for step in range(num_steps)]


def ended(number: int, *, fails: bool = False) -> Trial:
    """Make a trial that ended, as it is on file."""
    of = search_config(number)
    result = failed(of) if fails else complete(of, value=0.5 + number)
    return Trial(config=of, result=result, history=tuple(rows_of(of)))


def pruned(of: TrialConfig) -> TrialResult:
    """Make the result of a trial that was stopped early."""
    return TrialResult(
        trial_id=of.trial_id, state=TrialState.PRUNED, value=None, seeds=(), started_at=1.0, ended_at=2.0
    )


def on_file(home: Path, *trials: Trial, spec: SweepSpec | None = None, **changes: object) -> SweepPaths:
    """Begin a sweep that no other test has begun, in a home of its own below a directory."""
    spec = tiny_spec() if spec is None else spec
    beginning = provenance(**changes)
    paths = SweepPaths(home / str(beginning.started_at), spec.name)
    paths.begin(spec, beginning)
    for trial in trials:
        put(paths, trial)
    return paths


def put(paths: SweepPaths, trial: Trial) -> None:
    """Put a trial on file as a driver does: started, row by row, ended where it has a result."""
    paths.result(trial.trial_id).unlink(missing_ok=True)
    paths.write_config(trial.config)
    paths.start_history(trial.trial_id)
    for one in trial.history:
        paths.append_history(trial.trial_id, [one])
    if trial.result is not None:
        paths.write_result(trial.result)


def running(trial: Trial) -> Trial:
    """Make the trial that has not ended yet."""
    return trial.model_copy(update={"result": None})


def kill(tracker: Tracker) -> None:
    """Stop a tracker as a kill does: nothing more is sent and nothing is ended."""
    assert isinstance(tracker, MlflowTracker)
    writer = tracker._writer
    assert writer is not None
    writer._is_abandoned = True
    writer._closing.set()
    writer._thread.join()


@dataclass(frozen=True)
class Seen:
    """A run as a store shows it.

    Args:
        name: for people.
        trial_id: of the trial; None for the sweep's own run.
        status: as the store calls it.
        params: as text.
        tags: all but the store's own bookkeeping.
        curves: by metric, its (step, value, milliseconds since the sweep began), in order.
        artifacts: names of what lies at the top.
        data: (name, digest) of each data set.
        parent: name of the run that it lies under; empty: under none.
    """

    name: str
    trial_id: str | None
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    curves: dict[str, list[tuple[int, float, int]]]
    artifacts: list[str] = field(default_factory=list)
    data: list[tuple[str, str]] = field(default_factory=list)
    parent: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether it is marked as holding all of its trial."""
        return COMPLETE in self.tags

    def last(self, metric: str) -> float:
        """The last value of a metric."""
        return self.curves[metric][-1][1]


def sweep_run(seen: Sequence[Seen]) -> Seen:
    """Pick the sweep's own run; there is one."""
    (run,) = [run for run in seen if run.trial_id is None]
    return run


def trial_runs(seen: Sequence[Seen]) -> dict[str, Seen]:
    """Pick the trials' runs; each trial has one."""
    runs = [run for run in seen if run.trial_id is not None]
    by_id = {str(run.trial_id): run for run in runs}
    assert len(by_id) == len(runs), "a trial has two runs"
    return by_id
