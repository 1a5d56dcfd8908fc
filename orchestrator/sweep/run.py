"""Runs and resumes a sweep with a launcher, a tracker and the sweep's files."""

from __future__ import annotations

import difflib
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from orchestrator.errors import FileUnreadable, Interrupted, SweepConflict
from orchestrator.home import (
    Code,
    SweepOutcome,
    SweepPaths,
    SweepRecord,
    WarmStart,
    atomic_write,
    changes_here,
    code_here,
    collect,
    damage,
    damages,
    difference,
    find_sweep,
    locked,
    pack,
    read_record,
    record_of,
    stored_spec,
)
from orchestrator.launch import Launcher
from orchestrator.report import Report, effect_metrics, render_markdown, summarise, write_report
from orchestrator.search import best_points, given_points, refuse_unknown_source
from orchestrator.spec import HooksOptions, SweepSpec
from orchestrator.sweep.driver import Driver, Observe, OutOfBudget
from orchestrator.sweep.hooks import Hooks, SweepEnding
from orchestrator.sweep.interrupts import Interrupts
from orchestrator.sweep.standing import end_of, in_words
from orchestrator.track import RunStatus, Tracker, redact


@final
@dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Args:
        report: what it found.
        paths: of its files.
        failures: why it counts as failed, a sentence each; empty where it succeeded.
        num_untracked: number of runs that the tracking store has not received yet.
        set_aside: a sentence for each trial whose damaged files were moved away, so that it ran again.
    """

    report: Report
    paths: SweepPaths
    failures: tuple[str, ...]
    num_untracked: int
    set_aside: tuple[str, ...] = ()


def run(
    spec: SweepSpec,
    paths: SweepPaths,
    launcher: Launcher,
    tracker: Tracker,
    *,
    command: str,
    observe: Observe,
    interrupts: Interrupts | None = None,
    accepts_other_code: bool = False,
    trusts_hooks: bool = False,
) -> Outcome:
    """Run a sweep to its report, or go on where an earlier run of it stopped.

    Args:
        spec: what to run.
        paths: where its files lie; trials that have ended there are not repeated.
        launcher: runs the trials.
        tracker: follows the files.
        command: the command that runs the sweep again, for its provenance.
        observe: is shown where the sweep stands after every change.
        interrupts: tells whether the user asked to stop; None where nobody can ask.
        accepts_other_code: whether to go on with other code than the sweep has run with so far.
        trusts_hooks: whether the hooks of a sweep that was fetched from a store may run.

    Raises:
        SweepConflict: the name is taken by another spec, or the sweep has run with other code.
        FileUnreadable: a file that describes the whole sweep is damaged or gone.
        SweepNotFound: the home holds no sweep of the name in ``search.warm_start``.
        SweepLocked: another process drives this sweep.
        Interrupted: the user asked to stop; ``resume`` goes on from here.
    """
    interrupts = interrupts or Interrupts()
    code = _code_to_run(spec, paths, accepts_other_code)
    # A sweep that has ended has nothing to launch, so it needs no machine.
    ready = nullcontext() if code is None else launcher.prepared()
    with (
        ready,
        locked(paths),
        _logging(paths) as log,
        _indexed_journal(paths),
        closing(Hooks(_hooks_to_call(spec, paths, log, trusts_hooks), paths, log)) as hooks,
    ):
        set_aside = _set_damaged_aside(paths, log)
        record = _begin(spec, paths, command, code)
        tracker.follow(paths)
        with _told(paths, tracker, hooks, log, interrupts) as told:
            paths.outcome.unlink(missing_ok=True)
            with interrupts.deferred():
                driver = Driver(record, paths, observe, log, interrupts, hooks)
                with suppress(OutOfBudget):
                    if not driver.is_exhausted:
                        launcher.launch(driver)
            record = replace(read_record(paths), ended_early=driver.ended_early)
            report, end = write_report(record, paths), end_of(record)
            paths.write_outcome(end)
            told.conclude(report, end)
    return Outcome(report, paths, end.failures, told.num_untracked, set_aside)


@final
@dataclass
class _Told:
    """What tracker and hooks are told of how a run of a sweep ended, and how many runs the tracker then lacks."""

    status: RunStatus = "FAILED"
    words: SweepEnding = "stopped on an error"
    message: str = ""
    report: Report | None = None
    num_untracked: int = 0

    def conclude(self, report: Report, end: SweepOutcome) -> None:
        """Note that the sweep has come to its report."""
        self.report, self.status, self.words = report, end.status, in_words(end)
        self.message = "; ".join(end.failures) or end.ended_early


@contextmanager
def _told(
    paths: SweepPaths, tracker: Tracker, hooks: Hooks, log: logging.Logger, interrupts: Interrupts
) -> Iterator[_Told]:
    """Tell tracker and hooks how the block ended, in whatever way it did."""
    told = _Told()
    try:
        yield told
    except BaseException as error:
        is_interrupt = isinstance(error, KeyboardInterrupt)
        # A library may have turned an interrupt into an exception of its own.
        if is_interrupt or (isinstance(error, Exception) and interrupts.is_asked):
            told.status, told.words = "KILLED", "interrupted"
            log.warning("interrupted", exc_info=not is_interrupt)
            raise Interrupted(f"sweep {paths.name!r} was interrupted") from None
        if isinstance(error, Exception):
            told.message = f"{type(error).__name__}: {error}"
            log.exception("the sweep stopped on an error")
        raise
    finally:
        told.num_untracked = tracker.close(
            told.status,
            description="" if told.report is None else render_markdown(told.report),
            artifacts=_artifacts(paths, log),
            metrics={} if told.report is None else effect_metrics(told.report),
        )
        page = None if told.report is None else paths.report_page
        hooks.sweep_finished(told.words, message=told.message, report=page)


def sync(paths: SweepPaths, tracker: Tracker) -> int:
    """Send a tracker what it lacks of a sweep that does not run, and count the runs that it still lacks.

    Raises:
        SweepLocked: the sweep runs, and its own process is sending.
    """
    with locked(paths):
        record = read_record(paths)
        outcome = paths.read_outcome()
        artifacts = _artifacts(paths, logging.getLogger(f"teleport.{paths.name}"))
        if outcome is None:
            return tracker.sync(paths, artifacts=artifacts)
        report = summarise(record)
        return tracker.sync(
            paths,
            outcome.status,
            description=render_markdown(report),
            artifacts=artifacts,
            metrics=effect_metrics(report),
        )


def _artifacts(paths: SweepPaths, log: logging.Logger) -> list[Path]:
    found = [paths.spec, paths.report, paths.best]
    try:
        found.append(pack(paths))
    except OSError as error:
        log.warning("no archive of the sweep goes to the tracking store: %s", error)
    return found


def _code_to_run(spec: SweepSpec, paths: SweepPaths, accepts_other_code: bool) -> Code | None:
    """Refuse what may not run here; else tell which code runs it, None where nothing is left to run."""
    _refuse_other_spec(spec, paths)
    refuse_unknown_source(spec, paths)
    given_points(spec)
    code = code_here(spec.plugins)
    if _is_over(paths):
        return None
    _refuse_other_code(paths, code, accepts_other_code)
    return code


def _hooks_to_call(spec: SweepSpec, paths: SweepPaths, log: logging.Logger, trusts_hooks: bool) -> HooksOptions:
    if trusts_hooks or not paths.fetched.is_file() or spec.hooks == HooksOptions():
        return spec.hooks
    log.warning("no hook is called, because the sweep was fetched; --trust-hooks lets its hooks run")
    return HooksOptions()


def _refuse_other_spec(spec: SweepSpec, paths: SweepPaths) -> None:
    if not paths.exists():
        return
    stored = stored_spec(paths)
    if stored.identity == spec.identity:
        return
    difference = difflib.unified_diff(
        stored.to_yaml().splitlines(), spec.to_yaml().splitlines(), "stored", "given", lineterm="", n=1
    )
    raise SweepConflict(
        f"sweep {paths.name!r} exists in {paths.home} with another spec; give this one another name (--name), or "
        "run the stored one again (teleport resume). The difference:\n" + "\n".join(f"  {line}" for line in difference)
    )


def _is_over(paths: SweepPaths) -> bool:
    """Tell whether every trial of a sweep has ended and none of its files is damaged.

    Raises:
        FileUnreadable: a file that describes the whole sweep is damaged or gone.
    """
    if not paths.exists():
        return False
    found = list(damages(paths))
    if faults := [damage(paths.root / each.path, each.reason) for each in found if not each.trial_id]:
        raise FileUnreadable(*faults)
    end = paths.read_outcome()
    return end is not None and end.is_whole and not found


def _refuse_other_code(paths: SweepPaths, code: Code, accepts_other_code: bool) -> None:
    known = paths.read_provenance().codes if paths.provenance.is_file() else ()
    if accepts_other_code or not known or not all(difference(before, code) for before in known):
        return
    raise SweepConflict(
        f"sweep {paths.name!r} has run with other code: {difference(known[-1], code)}; go back to that code, give this "
        "sweep another name (--name), or go on all the same (--accept-code-change), after which its report makes no "
        "primary claim"
    )


def _set_damaged_aside(paths: SweepPaths, log: logging.Logger) -> tuple[str, ...]:
    """Move the files of damaged trials away, so that these trials run again; say so of each."""
    broken: dict[str, list[str]] = {}
    for each in damages(paths, with_unfinished=True) if paths.exists() else ():
        broken.setdefault(each.trial_id, []).append(str(each))
    told = []
    for trial_id, reasons in broken.items():
        told.append(f"{'; '.join(reasons)}: the trial runs again, and its files are in {paths.set_aside(trial_id)}")
        log.warning("%s", told[-1])
    return tuple(told)


def _begin(spec: SweepSpec, paths: SweepPaths, command: str, code: Code | None) -> SweepRecord:
    """Store what the sweep is, and what code it runs with from now on, if it runs at all."""
    paths.write_plugins(spec)
    if spec.search.warm_start is not None and not paths.warm_start.is_file():
        source = find_sweep(paths.home, spec.search.warm_start.sweep)
        points = best_points(read_record(source, with_history=False), spec)
        paths.write_warm_start(WarmStart(sweep=source.name, points=points))
    has_begun = paths.provenance.is_file()
    provenance = paths.read_provenance() if has_begun else collect(command, spec.plugins)
    if code is not None:
        if all(difference(before, code) for before in provenance.codes):
            provenance = provenance.model_copy(update={"codes": (*provenance.codes, code)})
        if code.changes:
            atomic_write(paths.code / f"{code.changes}.diff", changes_here())
    paths.begin(spec, provenance)
    return record_of(paths, spec, tuple(paths.read_trials(with_history=False)))


@contextmanager
def _indexed_journal(paths: SweepPaths) -> Iterator[None]:
    """Index the search's journal as far as it goes when the block ends, in whatever way it does."""
    try:
        yield
    finally:
        paths.index_beginning(paths.journal)


@contextmanager
def _logging(paths: SweepPaths) -> Iterator[logging.Logger]:
    log = logging.getLogger(f"teleport.{paths.name}")
    log.setLevel(logging.INFO)
    log.propagate = False
    file = _LogFile(paths.log, encoding="utf-8", errors="backslashreplace")
    # Drivers and readers may stand in different zones.
    formatter = _Formatter("%(asctime)s %(levelname)s %(message)s")
    formatter.converter = time.gmtime
    formatter.default_time_format, formatter.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"
    file.setFormatter(formatter)
    log.addHandler(file)
    try:
        yield log
    finally:
        log.removeHandler(file)
        with suppress(OSError):  # closing writes what a full disk has refused before
            file.close()


@final
class _Formatter(logging.Formatter):
    """Writes a log's lines without credentials, whoever has logged them."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a line, with its traceback."""
        return redact(super().format(record))


@final
class _LogFile(logging.FileHandler):
    """A log that drops lines while the disk is full; the sweep itself reports what else that stops."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Ignore that the disk is full or gone."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)
