"""Run and resume a sweep: a launcher, a tracker and the sweep's files, put together."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator import plugins
from orchestrator.driver import Driver, Observe
from orchestrator.errors import Fault, Interrupted, PluginError, SweepConflict
from orchestrator.interrupts import Interrupts
from orchestrator.launch import Launcher
from orchestrator.lints import lints
from orchestrator.lock import is_locked, locked
from orchestrator.paths import SweepPaths, atomic_write
from orchestrator.progress import Progress, count
from orchestrator.provenance import collect
from orchestrator.report import Report, render_markdown, summarise, write_report
from orchestrator.results import SweepRecord, Trial, TrialState
from orchestrator.spec import SweepSpec, parse_spec, read_file
from orchestrator.track import SweepStatus, Tracker

CRASH_TOLERANCE = 0.1


@final
@dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Args:
        report: what it found.
        paths: of its files.
        failures: why it counts as failed, a sentence each; empty where it succeeded.
        num_untracked: runs that the tracking store has not got yet.
    """

    report: Report
    paths: SweepPaths
    failures: tuple[str, ...]
    num_untracked: int


def run(
    spec: SweepSpec,
    paths: SweepPaths,
    launcher: Launcher,
    tracker: Tracker,
    *,
    command: str,
    observe: Observe,
    interrupts: Interrupts | None = None,
) -> Outcome:
    """Run a sweep to its report, or go on where an earlier run of it stopped.

    Args:
        spec: what to run.
        paths: where; where a sweep of that name began before, its finished trials are not repeated.
        launcher: runs the trials.
        tracker: hears of them.
        command: what runs the sweep again, for its provenance.
        observe: is shown where the sweep stands after every change.
        interrupts: installed, where the user may ask to stop.

    Returns:
        How it ended.

    Raises:
        SweepConflict: the name is taken by another spec.
        SweepLocked: another process drives this sweep.
        Interrupted: the user asked to stop; ``resume`` goes on from here.
    """
    interrupts = interrupts or Interrupts()
    _refuse_other_spec(spec, paths)
    # A sweep that has ended has nothing to launch, so it needs no machine.
    ready = launcher.prepared() if _ended(paths) is None else nullcontext()
    with ready, locked(paths), _logging(paths) as log:
        record = _begin(spec, paths, command)
        tracker.begin_sweep(record, paths.read_trial)
        status: SweepStatus = "FAILED"
        report: Report | None = None
        try:
            paths.outcome.unlink(missing_ok=True)
            with interrupts.deferred():
                driver = Driver(record, paths, tracker, observe, log, interrupts)
                if not driver.is_exhausted:
                    launcher.launch(driver)
            record = read_record(paths)
            report = write_report(record, paths, lints(record))
            failures = tuple(_failures(record))
            status = "FAILED" if failures else "FINISHED"
            atomic_write(paths.outcome, json.dumps({"status": status, "failures": failures}))
        except KeyboardInterrupt:
            status = "KILLED"
            log.warning("interrupted")
            raise Interrupted(f"sweep {paths.name!r} was interrupted") from None
        except Exception:
            if interrupts.is_asked:  # raised inside a library, which made something else of it
                status = "KILLED"
                log.warning("interrupted", exc_info=True)
                raise Interrupted(f"sweep {paths.name!r} was interrupted") from None
            log.exception("the sweep stopped on an error")
            raise
        finally:
            description = "" if report is None else render_markdown(report)
            tracker.end_sweep(status, description=description, artifacts=_artifacts(paths))
            num_untracked = tracker.close()
    return Outcome(report, paths, failures, num_untracked)


def sync(paths: SweepPaths, tracker: Tracker) -> int:
    """Send to a tracker what it has not got yet.

    Args:
        paths: of a sweep that was begun.
        tracker: that may lack some of it.

    Returns:
        How many trials it still lacks.

    Raises:
        SweepLocked: the sweep runs, and its own driver is sending.
    """
    with locked(paths):
        record = read_record(paths)
        status = _ended(paths)
        if status is None:
            tracker.sync(record)
        else:
            description = render_markdown(summarise(record, lints(record)))
            tracker.sync(record, status, description=description, artifacts=_artifacts(paths))
        return tracker.close()


def stored_spec(paths: SweepPaths) -> SweepSpec:
    """Read the spec of a sweep that was begun, with the plug-ins that it was run with.

    Args:
        paths: of the sweep.

    Returns:
        The spec as run.

    Raises:
        PluginError: a plug-in is no longer there, or no longer fits.
    """
    try:
        plugins.load(paths.read_plugins())
    except PluginError as error:
        hint = "install it, or run from the directory that holds it"
        faults = (Fault(f"sweep {paths.name!r}: {fault.place}", f"{fault.message}; {hint}") for fault in error.faults)
        raise PluginError(*faults) from None
    return parse_spec(read_file(paths.spec))


def read_record(paths: SweepPaths, *, with_history: bool = True) -> SweepRecord:
    """Read a sweep from its files.

    Args:
        paths: of a sweep that was begun.
        with_history: whether to read the curves too.

    Returns:
        What is stored.
    """
    return SweepRecord(stored_spec(paths), paths.read_provenance(), tuple(paths.read_trials(with_history=with_history)))


@final
@dataclass(frozen=True)
class Standing:
    """Where a sweep stands, for ``status`` and ``list``.

    Args:
        name: of the sweep.
        state: ``running``, ``finished``, ``failed`` (it ended, with failures) or ``interrupted``.
        progress: its counts.
    """

    name: str
    state: str
    progress: Progress


def standing(paths: SweepPaths) -> Standing:
    """Tell where a sweep stands, also while another process runs it.

    Args:
        paths: of a sweep that was begun.

    Returns:
        Its state and counts.
    """
    record = read_record(paths, with_history=False)
    running = is_locked(paths)
    ids = frozenset(trial.trial_id for trial in record.trials if running and trial.result is None)
    progress = count(record.spec, record.trials, ids, 0.0, 0)
    status = _ended(paths)
    return Standing(paths.name, "running" if running else "interrupted" if status is None else status.lower(), progress)


def _ended(paths: SweepPaths) -> SweepStatus | None:
    """How a sweep ended; None where it has not."""
    if not paths.outcome.is_file():
        return None
    status: SweepStatus = json.loads(paths.outcome.read_text(encoding="utf-8"))["status"]
    return status


def _artifacts(paths: SweepPaths) -> list[Path]:
    return [paths.spec, paths.report, paths.best]


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


def _begin(spec: SweepSpec, paths: SweepPaths, command: str) -> SweepRecord:
    if not paths.provenance.is_file():
        atomic_write(paths.provenance, collect(command, spec.plugins).model_dump_json(indent=1))
    paths.write_plugins(spec.plugins)
    atomic_write(paths.spec, spec.to_yaml())
    return SweepRecord(spec, paths.read_provenance(), tuple(paths.read_trials(with_history=False)))


@contextmanager
def _logging(paths: SweepPaths) -> Iterator[logging.Logger]:
    log = logging.getLogger(f"teleport.{paths.name}")
    log.setLevel(logging.INFO)
    log.propagate = False
    file = logging.FileHandler(paths.log, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(file)
    try:
        yield log
    finally:
        log.removeHandler(file)
        file.close()


def _failures(record: SweepRecord) -> Iterator[str]:
    """Say what makes a sweep count as failed: a crash in confirm, many in search, or an arm without a result.

    A configuration that diverges is an answer of the search, not a failure of the sweep.

    Yields:
        A sentence for each failure.
    """
    crashed = [trial for trial in record.trials if _has_crashed(trial)]
    confirm = [trial for trial in crashed if trial.config.phase == "confirm"]
    if confirm:
        yield f"{len(confirm)} confirm trials crashed"
    num_search = sum(trial.config.phase == "search" for trial in record.trials)
    num_crashed = len(crashed) - len(confirm)
    if num_crashed > CRASH_TOLERANCE * num_search:
        yield f"{num_crashed} of {num_search} search trials crashed"
    for workload, arm in record.spec.studies:
        complete = any(
            trial.config.study == f"{workload}/{arm}"
            and trial.result is not None
            and trial.result.state is TrialState.COMPLETE
            for trial in record.trials
        )
        if not complete:
            yield f"{workload}/{arm} has no trial that ended well"


def _has_crashed(trial: Trial) -> bool:
    failure = trial.result.failure if trial.result is not None else None
    return failure is not None and failure.kind != "diverged"


__all__ = ["Outcome", "Standing", "read_record", "run", "standing", "stored_spec"]
