"""What a sweep runs next, and what it does with what comes back: the source that launchers draw on.

Search first, study by study in turn, a control after the teleport arm whose settings it takes; when the last
search trial has ended, the best of each arm go on to fresh seeds. Everything that happens is put on file before
anyone else hears of it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import final

from orchestrator.checkpoints import Checkpoint, UnusableCheckpoint
from orchestrator.interrupts import Interrupts
from orchestrator.journal import open_journal
from orchestrator.launch import TrialSource
from orchestrator.paths import SweepPaths
from orchestrator.progress import Progress, count
from orchestrator.report import champions
from orchestrator.results import (
    HistoryRow,
    SweepRecord,
    Trial,
    TrialConfig,
    TrialResult,
    TrialState,
)
from orchestrator.studies import plan_studies
from orchestrator.track import Tracker

Observe = Callable[[Progress], None]

# A worker that dies says nothing of its trial: a machine was taken away, or another trial took the memory.
NUM_RETRIES = 2


def confirm_configs(record: SweepRecord) -> list[TrialConfig]:
    """List the confirm trials: the best of each arm on every confirm seed.

    Arms take turns within each seed, and every other seed in the opposite order, so that a machine that slows
    down or heats up hurts all alike.

    Args:
        record: with the search's results.

    Returns:
        The configurations, in the order to run them.
    """
    chosen = [trial.config for trials in champions(record).values() for trial in trials]
    share = record.spec.resources.share("confirm")
    return [
        TrialConfig(
            workload=config.workload,
            arm=config.arm,
            phase="confirm",
            seeds=(seed,),
            training=config.training,
            method=config.method,
            objective=config.objective,
            also=config.also,
            values=config.values,
            origin=config.trial_id,
            share=share,
            checkpoint_every=record.spec.checkpoint.every,
        )
        for turn, seed in enumerate(record.spec.confirm_seeds)
        for config in (chosen if turn % 2 == 0 else reversed(chosen))
    ]


@final
class Driver(TrialSource):
    """Drives one sweep; its caller holds the sweep's lock.

    Args:
        record: the sweep as it is on file.
        paths: of its files.
        tracker: hears of everything after it is on file.
        observe: is shown where the sweep stands after every change.
        log: the sweep's log.
        interrupts: whether the user asked to stop.
    """

    def __init__(
        self,
        record: SweepRecord,
        paths: SweepPaths,
        tracker: Tracker,
        observe: Observe,
        log: logging.Logger,
        interrupts: Interrupts,
    ) -> None:
        self._record = record
        self._spec = record.spec
        self._paths = paths
        self._tracker = tracker
        self._observe = observe
        self._log = log
        self._interrupts = interrupts
        self._trials = {trial.trial_id: trial for trial in record.trials}
        results = [trial.result for trial in record.trials if trial.result is not None]
        for result in results:
            paths.remove_checkpoint(result.trial_id)  # where a crash came between the two
        studies = plan_studies(self._spec, open_journal(paths.journal), results, paths.read_warm_start())
        self._studies = {study.name: study for study in studies}
        self._outstanding: set[str] = set()
        self._running: set[str] = set()
        self._kept_rows: dict[str, int] = {}
        self._again: deque[TrialConfig] = deque()
        self._num_lost: Counter[str] = Counter()
        self._confirm: deque[TrialConfig] | None = None
        self._started_at = time.monotonic()
        self._seeds_before = sum(len(trial.config.seeds) for trial in record.trials if trial.result is not None)

    @property
    def record(self) -> SweepRecord:
        """The sweep as it stands, without curves."""
        return SweepRecord(self._spec, self._record.provenance, tuple(self._trials.values()))

    @property
    def is_exhausted(self) -> bool:
        """Whether no trial will ever come again; one that runs may be lost, and is then to run again."""
        self._release()
        return self._is_search_over() and not self._confirm_left() and not self._outstanding

    def propose(self) -> TrialConfig | None:
        """Hand out the next trial; see :meth:`TrialSource.propose`.

        Returns:
            One whose worker died, or a search trial of the study that is furthest behind, or else a confirm trial;
            None where the next one depends on trials that still run, or ``max_concurrent`` is reached.
        """
        if self._again:
            return self._again.popleft()
        limit = self._spec.search.max_concurrent
        if limit is not None and len(self._outstanding) >= limit:
            return None
        config = self._propose_search()
        if config is None and self._is_search_over():
            left = self._confirm_left()
            config = left.popleft() if left else None
        if config is not None:
            self._outstanding.add(config.trial_id)
        return config

    def check(self) -> None:
        """Stop where the user has asked to; see :meth:`TrialSource.check`."""
        self._interrupts.check()

    def checkpoint_of(self, config: TrialConfig) -> bytes | None:
        """Look up what a trial that was cut off goes on from; what cannot be used is told in the log and removed."""
        trial_id = config.trial_id
        data = self._paths.read_checkpoint(trial_id)
        if data is None:
            return None
        try:
            num_rows = Checkpoint.from_bytes(data, trial_id).num_rows
            on_file = self._paths.count_rows(trial_id)
            if on_file < num_rows:
                raise UnusableCheckpoint(f"it comes after {num_rows} rows of the curves, but {on_file} are on file")
        except UnusableCheckpoint as error:
            self._log.warning("checkpoint of %s is not used, so it begins anew: %s", describe(config), error)
            self._paths.remove_checkpoint(trial_id)
            return None
        self._kept_rows[trial_id] = num_rows
        return data

    def on_started(self, config: TrialConfig) -> None:
        """Put a configuration on file, then say that it runs; rows after its checkpoint will come again."""
        self._paths.write_config(config)
        num_rows = self._kept_rows.pop(config.trial_id, 0)
        rows = self._paths.start_history(config.trial_id, num_rows)
        self._trials[config.trial_id] = Trial(config=config)
        self._running.add(config.trial_id)
        self._tracker.begin_trial(config)
        if rows:
            self._tracker.log_history(config.trial_id, rows)
            last = rows[-1]
            self._log.info("going on with %s from step %d of seed %d", describe(config), last.step, last.seed)
        else:
            self._log.info("started %s", describe(config))
        self._show()

    def on_history(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> None:
        """Put rows on file, then track them."""
        self._paths.append_history(config.trial_id, rows)
        self._tracker.log_history(config.trial_id, rows)

    def on_checkpoint(self, config: TrialConfig, data: bytes) -> None:
        """Put on file what a trial could go on from; it is removed when the trial has its result."""
        self._paths.write_checkpoint(config.trial_id, data)

    def on_ended(self, config: TrialConfig, result: TrialResult) -> None:
        """Put a result on file, then tell the study, the tracker and the log; one that was lost runs again first."""
        if self._is_to_run_again(config, result):
            return
        if config.trial_id not in self._trials:
            self.on_started(config)
        self._paths.write_result(result)
        self._trials[config.trial_id] = Trial(config=config, result=result)
        self._running.discard(config.trial_id)
        self._outstanding.discard(config.trial_id)
        if config.phase == "search":
            self._studies[config.study].tell(result)
        self._tracker.end_trial(result)
        self._write_log(config, result)
        self._show()

    def _is_to_run_again(self, config: TrialConfig, result: TrialResult) -> bool:
        """Take back a trial whose worker died, a limited number of times; it stays outstanding."""
        is_lost = result.failure is not None and result.failure.kind == "lost"
        if not is_lost or self._num_lost[config.trial_id] >= NUM_RETRIES:
            return False
        assert result.failure is not None
        self._num_lost[config.trial_id] += 1
        self._running.discard(config.trial_id)
        self._again.append(config)
        self._log.warning("lost %s, it runs again: %s", describe(config), result.failure.message)
        self._show()
        return True

    def progress(self) -> Progress:
        """Count where the sweep stands."""
        seconds = time.monotonic() - self._started_at
        return count(self._spec, self._trials.values(), frozenset(self._running), seconds, self._seeds_before)

    def _propose_search(self) -> TrialConfig | None:
        # A study may find itself exhausted only when it is asked, and so let go of those that wait for it.
        while True:
            self._release()
            open_studies = [study for study in self._studies.values() if not study.is_exhausted]
            for study in sorted(open_studies, key=lambda study: study.num_handed_out):
                config = study.propose()
                if config is not None:
                    return config
            if not self._release():
                return None

    def _release(self) -> bool:
        """Give the controls the settings that their teleport arm's search has chosen, where it is over.

        Returns:
            Whether any had waited for that.
        """
        ready = [
            (study, source)
            for study in self._studies.values()
            if study.is_waiting and (source := self._studies[f"{study.workload}/{study.source}"]).is_over
        ]
        if not ready:
            return False
        best = champions(self.record)
        for study, source in ready:
            chosen = best[source.workload, source.arm]
            study.follow(chosen[0].config.method.teleport if chosen else None)
            if not chosen:
                self._log.warning("%s has no settings to take: no trial of %s ended well", study.name, source.name)
        return True

    def _is_search_over(self) -> bool:
        return self._confirm is not None or (
            all(study.is_exhausted for study in self._studies.values()) and not self._outstanding
        )

    def _confirm_left(self) -> deque[TrialConfig]:
        """The confirm trials that have not been handed out; fixed once the search is over."""
        if self._confirm is None:
            ended = {trial_id for trial_id, trial in self._trials.items() if trial.result is not None}
            self._confirm = deque(c for c in confirm_configs(self.record) if c.trial_id not in ended)
        return self._confirm

    def _show(self) -> None:
        self._observe(self.progress())

    def _write_log(self, config: TrialConfig, result: TrialResult) -> None:
        if result.state is not TrialState.FAIL:
            self._log.info("ended %s: %s, value %s", describe(config), result.state, result.value)
            return
        assert result.failure is not None
        self._log.warning("failed %s: %s: %s", describe(config), result.failure.kind, result.failure.message)
        if result.failure.traceback:
            self._log.warning("%s", result.failure.traceback)


def describe(config: TrialConfig) -> str:
    """Name a trial for people: study, phase, number or seed, id."""
    which = f"#{config.number}" if config.phase == "search" else f"seed {config.seeds[0]}"
    return f"{config.study} {config.phase} {which} ({config.trial_id})"
