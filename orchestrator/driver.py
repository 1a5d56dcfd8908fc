"""What a sweep runs next, and what it does with what comes back: the source that launchers draw on.

Search first, study by study in turn, a control after the teleport arm whose settings it takes; when the last
search trial has ended, the best of each arm go on to fresh seeds. Everything that happens is put on file before
anyone else hears of it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import final

from orchestrator.interrupts import Interrupts
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
from orchestrator.studies import open_journal, plan_studies
from orchestrator.track import Tracker

Observe = Callable[[Progress], None]


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
            values=config.values,
            origin=config.trial_id,
            share=share,
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
        self._studies = {study.name: study for study in plan_studies(self._spec, open_journal(paths.journal), results)}
        self._outstanding: set[str] = set()
        self._running: set[str] = set()
        self._confirm: deque[TrialConfig] | None = None
        self._started_at = time.monotonic()
        self._seeds_before = sum(len(trial.config.seeds) for trial in record.trials if trial.result is not None)

    @property
    def record(self) -> SweepRecord:
        """The sweep as it stands, without curves."""
        return SweepRecord(self._spec, self._record.provenance, tuple(self._trials.values()))

    @property
    def is_exhausted(self) -> bool:
        """Whether no trial will ever come again."""
        self._release()
        return self._is_search_over() and not self._confirm_left()

    def propose(self) -> TrialConfig | None:
        """Hand out the next trial; see :meth:`TrialSource.propose`.

        Returns:
            A search trial of the study that is furthest behind, or else a confirm trial; None where the next
            one depends on trials that still run, or ``max_concurrent`` is reached.
        """
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

    def on_started(self, config: TrialConfig) -> None:
        """Put a configuration on file, then say that it runs."""
        self._paths.write_config(config)
        self._paths.start_history(config.trial_id)
        self._trials[config.trial_id] = Trial(config=config)
        self._running.add(config.trial_id)
        self._tracker.begin_trial(config)
        self._log.info("started %s", describe(config))
        self._show()

    def on_history(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> None:
        """Put rows on file, then track them."""
        self._paths.append_history(config.trial_id, rows)
        self._tracker.log_history(config.trial_id, rows)

    def on_ended(self, config: TrialConfig, result: TrialResult) -> None:
        """Put a result on file, then tell the study, the tracker and the log."""
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
