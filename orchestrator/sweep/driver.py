"""The driver of a sweep: what runs next, and what becomes of its result. Launchers draw on it.

The search comes first, study by study in turn; a control comes after the teleport arm whose settings it takes. When the
last search trial has ended, the best candidates of each arm run on fresh seeds. Whatever happens is put on file before
anyone else is told.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from typing import final

from orchestrator.home import (
    SWEEP,
    Checkpoint,
    HistoryRow,
    SweepPaths,
    SweepRecord,
    TrialConfig,
    TrialResult,
    TrialState,
    UnusableCheckpoint,
    code_here,
    record_of,
)
from orchestrator.launch import TrialSource
from orchestrator.search import (
    Candidates,
    Confirmation,
    Study,
    champions,
    open_journal,
    plan_studies,
    pruned_result,
)
from orchestrator.sweep.budgets import Budgets
from orchestrator.sweep.hooks import Hooks
from orchestrator.sweep.interrupts import Interrupts
from orchestrator.sweep.standing import Progress, TrialCounts
from orchestrator.track import redact

# A dead worker proves nothing against its trial: the machine may have gone, or another trial may have taken its memory.
NUM_RETRIES = 2


@final
class Retries:
    """Keeps the trials that are to run again.

    A trial that was lost runs again a limited number of times. One that ran out of memory runs again once and alone:
    with a whole GPU where it had a share of one, else while nothing else runs.
    """

    def __init__(self) -> None:
        self._at_once: deque[TrialConfig] = deque()
        self._alone: deque[TrialConfig] = deque()
        self._num_lost: Counter[str] = Counter()
        self._tried_alone: set[str] = set()
        self._runs_alone: str | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether any trial waits for its next try."""
        return bool(self._at_once or self._alone)

    @property
    def runs_alone(self) -> bool:
        """Whether a trial runs beside which no other may start."""
        return self._runs_alone is not None

    def take_back(self, config: TrialConfig, result: TrialResult) -> bool:
        """Tell whether a trial that ended is to run again, so that this result does not stand; if so, keep it."""
        was_alone = self._runs_alone == config.trial_id
        if was_alone:
            self._runs_alone = None
        kind = result.failure_kind
        if kind == "lost" and self._num_lost[config.trial_id] < NUM_RETRIES:
            self._num_lost[config.trial_id] += 1
            (self._alone if was_alone else self._at_once).append(config)
            return True
        if kind == "memory" and config.trial_id not in self._tried_alone:
            self._tried_alone.add(config.trial_id)
            if config.share.gpu % 1.0:
                whole = config.share.model_copy(update={"gpu": float(math.ceil(config.share.gpu))})
                self._at_once.append(config.model_copy(update={"share": whole}))
            else:
                self._alone.append(config)
            return True
        return False

    def take(self) -> TrialConfig | None:
        """Hand out a trial that may run beside others; None where none waits."""
        return self._at_once.popleft() if self._at_once else None

    def take_alone(self) -> TrialConfig | None:
        """Hand out a trial beside which nothing may run; None where none waits."""
        if not self._alone:
            return None
        config = self._alone.popleft()
        self._runs_alone = config.trial_id
        return config


Observe = Callable[[Progress], None]

# Trials with short steps report twice a second. One that has been over its time for so long without a word may hang.
SILENT_SECONDS = 10.0


@final
class OutOfBudget(BaseException):
    """A budget of the whole sweep is used up.

    It is no Exception, because a trial in this process would take that for its own failure.
    """


@final
class Driver(TrialSource):
    """Drives one sweep; its caller holds the sweep's lock.

    Args:
        record: the sweep as it is on file.
        paths: of its files.
        observe: is shown where the sweep stands after every change.
        log: the sweep's log.
        interrupts: whether the user asked to stop.
        hooks: are told of failed trials.
    """

    def __init__(
        self,
        record: SweepRecord,
        paths: SweepPaths,
        observe: Observe,
        log: logging.Logger,
        interrupts: Interrupts,
        hooks: Hooks,
    ) -> None:
        self._spec = record.spec
        self._paths = paths
        self._observe = observe
        self._log = log
        self._interrupts = interrupts
        self._hooks = hooks
        self._budgets = Budgets(record.spec, record.trials)
        self._counts = TrialCounts(record.spec, time.time())
        results = [(trial.config, trial.result) for trial in record.trials if trial.result is not None]
        for config, result in results:
            paths.remove_checkpoint(result.trial_id)  # a crash may have come between the result and this
            self._counts.end(config, result)
        self._cut_off = {trial.trial_id for trial in record.trials if trial.result is None}
        known = {result.trial_id: result for _, result in results}
        studies = plan_studies(record.spec, open_journal(paths.journal), known, paths.read_warm_start())
        self._studies = {study.name: study for study in studies}
        self._retries = Retries()
        self._handed_out: set[str] = set()
        self._running: dict[str, float] = {}
        self._goes_on_from: dict[str, Checkpoint] = {}
        self._overdue_since: dict[str, float] = {}
        self._wishes: frozenset[str] = frozenset()
        paths.forget_wishes()
        self._confirmation: Confirmation | None = None

    @property
    def is_exhausted(self) -> bool:
        """Whether no trial is left to hand out; while one runs it may be lost, and would have to run again."""
        return self.is_finished or not (self._handed_out or self._budgets.may_start())

    @property
    def is_finished(self) -> bool:
        """Whether everything that was planned has ended."""
        self._release()
        return self._is_search_over() and self._confirm().is_exhausted and not self._is_anything_open

    @property
    def ended_early(self) -> str:
        """A sentence on the budget that ends the sweep before it is finished; empty where none does."""
        return "" if self.is_finished else self._budgets.reached() or ""

    def propose(self) -> TrialConfig | None:
        """Hand out the next trial; see :meth:`TrialSource.propose`.

        Trials whose worker died come first, then search trials of the study that is furthest behind, then confirm
        trials, then those that must run alone.

        Returns:
            None where the next trial depends on those that run, ``max_concurrent`` is reached, or a budget is used up.
        """
        limit = self._spec.search.max_concurrent
        is_full = limit is not None and len(self._handed_out) >= limit
        if is_full or self._retries.runs_alone or not self._budgets.may_start():
            return None
        config = self._retries.take() or self._propose_search()
        if config is None and self._is_search_over():
            config = self._confirm().propose()
        if config is None and not self._handed_out:
            config = self._retries.take_alone()
        if config is not None:
            self._handed_out.add(config.trial_id)
        return config

    def check(self) -> None:
        """Stop where the user has asked to, or a budget is used up; see :meth:`TrialSource.check`.

        Raises:
            OutOfBudget: trials that run are to be cut off; they can go on under a larger budget.
        """
        self._wishes = self._paths.asked_to_stop()
        if SWEEP in self._wishes:
            self._paths.forget_wishes()
            self._log.warning("asked to stop")
            self._interrupts.ask()
        self._interrupts.check()
        if self._budgets.reached():
            raise OutOfBudget

    def checkpoint_of(self, config: TrialConfig) -> bytes | None:
        """Read what a cut-off trial goes on from; a checkpoint that cannot be used is logged and removed."""
        trial_id = config.trial_id
        data = self._paths.read_checkpoint(trial_id)
        if data is None:
            return None
        try:
            checkpoint = Checkpoint.from_bytes(data, trial_id)
            on_file = self._paths.count_rows(trial_id)
            if on_file < checkpoint.num_rows:
                told = f"it comes after {checkpoint.num_rows} rows of the curves, but {on_file} are on file"
                raise UnusableCheckpoint(told)
        except UnusableCheckpoint as error:
            self._log.warning("checkpoint of %s is not used, so it begins anew: %s", describe(config), error)
            self._paths.remove_checkpoint(trial_id)
            return None
        self._goes_on_from[trial_id] = checkpoint
        return data

    @property
    def overdue(self) -> Collection[str]:
        """Ids of trials that have been over their time for a while and say nothing; see :meth:`TrialSource.overdue`."""
        now = time.monotonic()
        for trial_id in (one for one in self._running if self._budgets.overdue(one) or one in self._wishes):
            self._overdue_since.setdefault(trial_id, now)
        return [trial_id for trial_id, since in self._overdue_since.items() if now - since >= SILENT_SECONDS]

    def on_started(self, config: TrialConfig) -> None:
        """Put a configuration on file, and say that it runs; rows after its checkpoint will come again."""
        self._paths.write_config(config)
        start = self._goes_on_from.pop(config.trial_id, None)
        rows = self._paths.start_history(config.trial_id, 0 if start is None else start.num_rows)
        seconds_before = 0.0 if start is None else start.seconds
        self._running[config.trial_id] = time.time() - seconds_before
        self._budgets.on_started(config, seconds_before)
        self._counts.begin(config)
        if rows:
            self._judge(config, rows)
            last = rows[-1]
            self._log.info("going on with %s from step %d of seed %d", describe(config), last.step, last.seed)
        else:
            self._log.info("started %s", describe(config))
        self._show()

    def on_history(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> bool:
        """Put rows on file, and decide whether the trial ends here."""
        num_kept = len(rows) if config.trial_id in self._wishes else self._judge(config, rows)
        rows = rows if num_kept is None else rows[:num_kept]
        if rows:
            self._paths.append_history(config.trial_id, rows)
        now = time.time()
        if num_kept is not None:
            self._end(config, self._pruned(config, self._running[config.trial_id], now))
            return False
        if self._budgets.overdue(config.trial_id):
            self._end(config, self._budgets.timed_out(config.trial_id, now))
            return False
        return True

    def _judge(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> int | None:
        """Tell how many of these rows a trial keeps, where it is to end early; None where it goes on."""
        return self._study_of(config).judge(config, rows) if config.phase == "search" else None

    def _pruned(self, config: TrialConfig, started_at: float, ended_at: float) -> TrialResult:
        """Make the result of a trial that ends before its time, from the rows on file."""
        rows = self._paths.read_trial(config.trial_id).history
        result = pruned_result(config, rows, started_at=started_at, ended_at=ended_at)
        return result.model_copy(update={"by_user": config.trial_id in self._wishes})

    def _study_of(self, config: TrialConfig) -> Study:
        return self._studies[self._spec.search_of(config.workload, config.arm, config.replicate)]

    def on_checkpoint(self, config: TrialConfig, data: bytes) -> None:
        """Put a checkpoint on file; it is removed when the trial has its result."""
        self._paths.write_checkpoint(config.trial_id, data)

    def on_output(self, config: TrialConfig, text: str) -> None:
        """Put on file what a trial has printed, without credentials."""
        self._paths.append_output(config.trial_id, redact(text))

    def on_ended(self, config: TrialConfig, result: TrialResult) -> None:
        """Take in how a trial ended, unless it is to run again; one that was killed for its silence is overdue."""
        if config.trial_id not in self._running:  # it was lost before it could start
            self.on_started(config)
        if result.failure_kind == "lost" and config.trial_id in self._wishes:
            result = self._pruned(config, result.started_at, result.ended_at)
        elif result.failure_kind == "lost" and self._budgets.overdue(config.trial_id):
            result = self._budgets.timed_out(config.trial_id, result.ended_at)
        if self._retries.take_back(config, result):
            self._close(config)
            self._budgets.on_stopped(config)
            self._counts.take_back(config)
            assert result.failure is not None
            failure = result.failure
            self._log.warning("%s %s, it runs again: %s", failure.kind, describe(config), failure.message)
            self._show()
        else:
            self._end(config, result)

    def _end(self, config: TrialConfig, result: TrialResult) -> None:
        """Put a result on file, then tell everyone."""
        if result.code is None:  # its worker could not tell
            result = result.model_copy(update={"code": code_here(self._spec.plugins)})
        result = without_credentials(result)
        if result.failure is not None and result.failure.traceback:
            self._paths.append_output(config.trial_id, result.failure.traceback)
        self._paths.write_result(result)
        (self._paths.wishes / config.trial_id).unlink(missing_ok=True)
        self._close(config)
        self._budgets.on_ended(config, result)
        self._counts.end(config, result)
        if config.phase == "search":
            self._study_of(config).tell(result)
            self._drop()
        if result.state is TrialState.FAIL:
            self._hooks.trial_failed(config, result)
        self._write_log(config, result)
        self._show()

    def _close(self, config: TrialConfig) -> None:
        """Forget a trial that no launcher runs any more."""
        self._handed_out.discard(config.trial_id)
        self._running.pop(config.trial_id, None)
        self._overdue_since.pop(config.trial_id, None)

    def _propose_search(self) -> TrialConfig | None:
        # A study may turn out to be exhausted only when it is asked. The studies that wait for it can then begin.
        while True:
            self._release()
            open_studies = [study for study in self._studies.values() if not study.is_exhausted]
            for study in sorted(open_studies, key=lambda study: study.num_handed_out):
                config = study.propose()
                self._drop()
                if config is not None:
                    return config
            if not self._release():
                return None

    def _release(self) -> bool:
        """Begin the searches that waited for others which are over now; tell whether there were any."""
        ready = [
            study
            for study in self._studies.values()
            if study.is_waiting and all(self._studies[name].is_over for name in study.waits_for)
        ]
        if not ready:
            return False
        best = champions(Candidates.of(self._read()))
        for study in ready:
            if nothing_to_run := study.begin(best):
                self._log.warning("%s", nothing_to_run)
        self._drop()
        return True

    def _drop(self) -> None:
        """Drop the runs that a search has given up; one that a crash had cut off ends as PRUNED."""
        for config in (config for study in self._studies.values() for config in study.take_dropped()):
            if config.trial_id in self._cut_off:
                self._counts.begin(config)
                now = time.time()
                self._end(config, self._pruned(config, now, now))
            else:
                self._counts.drop(config.workload, config.arm, config.phase)
                self._log.info("dropped %s: its candidate has ended", describe(config))

    @property
    def _is_anything_open(self) -> bool:
        """Whether any trial runs, or is to run again."""
        return bool(self._handed_out) or self._retries.is_waiting

    def _is_search_over(self) -> bool:
        return self._confirmation is not None or (
            all(study.is_exhausted for study in self._studies.values()) and not self._is_anything_open
        )

    def _confirm(self) -> Confirmation:
        """The confirm phase; it is planned once the search is over, and may grow when what was planned has ended."""
        found = self._confirmation
        if found is None:
            found = self._confirmation = Confirmation(Candidates.of(self._read()))
        elif found.is_exhausted and not found.is_settled and not self._is_anything_open:
            found.grow(Candidates.of(self._read()))
        else:
            return found
        self._counts.plan_confirm(found.num_planned)
        return found

    def _read(self) -> SweepRecord:
        return record_of(self._paths, self._spec, tuple(self._paths.read_trials(with_history=False)))

    def _show(self) -> None:
        self._observe(self._counts.progress(time.time()))

    def _write_log(self, config: TrialConfig, result: TrialResult) -> None:
        if result.state is not TrialState.FAIL:
            self._log.info("ended %s: %s, value %s", describe(config), result.state, result.value)
            return
        assert result.failure is not None
        self._log.warning("failed %s: %s: %s", describe(config), result.failure.kind, result.failure.message)
        if result.failure.traceback:
            self._log.warning("%s", result.failure.traceback)


def without_credentials(result: TrialResult) -> TrialResult:
    """Take credentials out of what a trial's error says, since an error quotes the address that it failed on."""
    failure = result.failure
    if failure is None:
        return result
    told = {"message": redact(failure.message), "traceback": redact(failure.traceback)}
    return result.model_copy(update={"failure": failure.model_copy(update=told)})


def describe(config: TrialConfig) -> str:
    """Name a trial for people, by study, phase, number or seed, and id."""
    return f"{config.study} {config.phase} {config.place} ({config.trial_id})"
