"""Names, writes and reads each file of a sweep; a file is written whole or not at all."""

from __future__ import annotations

import itertools
import json
import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import final

from pydantic import RootModel

from orchestrator.errors import Fault, FileUnreadable, SweepNotFound, UserError, nearest
from orchestrator.home.files import atomic_write, digest_of, left_parts, read_lines, read_record, read_record_if_there
from orchestrator.home.records import (
    HistoryRow,
    IndexLine,
    Provenance,
    Stage,
    SweepOutcome,
    Tracking,
    Trial,
    TrialConfig,
    TrialResult,
    WarmStart,
)
from orchestrator.spec import Json, SweepSpec, stand_ins

# Where sweeps lie unless the user says otherwise, by an option or by this variable.
DEFAULT_HOME = Path("runs")
HOME_VARIABLE = "TELEPORT_HOME"
# The format of all files of a sweep together. A version of teleport reads the format that it writes and no other.
FORMAT = "2"
# No line of the index is longer.
MAX_LINE = 1_000
# Characters that are kept of what a trial prints.
MAX_OUTPUT = 10_000_000
# The name of the wish to end the whole sweep, which is no trial's id.
SWEEP = "sweep"


@final
class SweepPaths:
    """The files of one sweep, below ``HOME/NAME/``.

    Args:
        home: the directory that holds the sweeps; it is made absolute, since Ray refuses a relative one.
        name: of the sweep; the spec has checked that it is a plain file name.
    """

    def __init__(self, home: Path, name: str) -> None:
        self.home = Path(os.path.abspath(home))
        self.name = name
        self.root = self.home / name
        self.format = self.root / "format"
        self.spec = self.root / "spec.yaml"
        self.journal = self.root / "study.journal"
        self.plugins = self.root / "plugins.json"
        self.resolved = self.root / "resolved.json"
        self.warm_start = self.root / "warm_start.json"
        self.provenance = self.root / "provenance.json"
        self.lock = self.root / "lock"
        self.log = self.root / "log.txt"
        self.trials = self.root / "trials"
        self.report = self.root / "report"
        self.report_page = self.report / "report.html"
        self.best = self.root / "best"
        self.earlier = self.root / "earlier.json"
        self.tracking = self.root / "tracking.json"
        self.fetched = self.root / "fetched.json"
        self.outcome = self.root / "outcome.json"
        self.archive = self.root / "record.tar.gz"
        self.index = self.root / "index.jsonl"
        self.code = self.root / "code"
        self.wishes = self.root / "stop"

    @property
    def arguments(self) -> str:
        """The words by which a command finds this sweep, as this process's directory and environment are."""
        usual = Path(os.environ.get(HOME_VARIABLE, DEFAULT_HOME))
        there = "" if self.home == Path(os.path.abspath(usual)) else f" --home {shlex.quote(str(self.home))}"
        return f"{self.name}{there}"

    def config(self, trial_id: str) -> Path:
        """Name the file of a trial's configuration."""
        return self.trials / trial_id / "config.json"

    def history(self, trial_id: str) -> Path:
        """Name the file of a trial's curves."""
        return self.trials / trial_id / "history.jsonl"

    def result(self, trial_id: str) -> Path:
        """Name the file of how a trial ended."""
        return self.trials / trial_id / "result.json"

    def output(self, trial_id: str) -> Path:
        """Name the file of what a trial printed."""
        return self.trials / trial_id / "output.log"

    def checkpoint(self, trial_id: str) -> Path:
        """Name the file of a trial's checkpoint."""
        return self.trials / trial_id / "checkpoint.pt"

    def best_config(self, workload: str, arm: str) -> Path:
        """Name the file of an arm's best configuration, which is a spec that runs."""
        return self.best / f"{workload}.{arm}.yaml"

    def trial_ids(self) -> list[str]:
        """List the trials that have files here, in order."""
        return sorted(path.name for path in self.trials.iterdir()) if self.trials.is_dir() else []

    def of_sweep(self) -> tuple[Path, ...]:
        """Name the files that describe the whole sweep and on which results depend."""
        return (self.spec, self.provenance, self.plugins, self.resolved, self.warm_start, self.earlier, self.journal)

    def name_of(self, path: Path) -> str:
        """Name a file by its path below the sweep's directory, with slashes."""
        return path.relative_to(self.root).as_posix()

    def exists(self) -> bool:
        """Tell whether a sweep of this name was begun here."""
        return self.spec.is_file()

    def begin(self, spec: SweepSpec, provenance: Provenance) -> None:
        """Store what a sweep is; the spec comes last, since the sweep counts as begun from then on."""
        atomic_write(self.format, f"{FORMAT}\n")
        self.write_provenance(provenance)
        self.write_spec(spec)

    def write_provenance(self, provenance: Provenance) -> None:
        """Store where the sweep comes from."""
        self._write(self.provenance, provenance.model_dump_json(indent=1))

    def check_format(self, shown: str = "") -> None:
        """Refuse a sweep that another version of teleport wrote; called before anything of it is read or written.

        Args:
            shown: what the message names instead of the sweep's format file.

        Raises:
            FileUnreadable: the sweep's format is not this version's.
        """
        found = self.format.read_text(encoding="utf-8", errors="replace").strip() if self.format.is_file() else "none"
        if found != FORMAT:
            message = (
                f"sweep {self.name!r} was written by another version of teleport (its format is {found[:20]}, this "
                f"version's is {FORMAT}): use that version, which provenance.json names, or run the spec again under "
                "a new name (teleport run SPEC --name NEW)"
            )
            raise FileUnreadable(Fault(shown or str(self.format), message))

    def parts(self) -> list[Path]:
        """List the unfinished files that dead writers have left."""
        return left_parts(self.root)

    def remove_parts(self) -> None:
        """Remove the files of :meth:`parts`; only the process that holds the sweep's lock may do so."""
        for path in self.parts():
            path.unlink(missing_ok=True)

    def write_config(self, config: TrialConfig) -> None:
        """Store the configuration of a trial that is about to run."""
        atomic_write(self.config(config.trial_id), config.model_dump_json(indent=1))

    def began_at(self, trial_id: str) -> float:
        """Tell in Unix time when a trial was started last, which is when its configuration was written."""
        return self.config(trial_id).stat().st_mtime

    def append_history(self, trial_id: str, rows: Iterable[HistoryRow]) -> None:
        """Add rows to a trial's curves."""
        with open(self.history(trial_id), "a", encoding="utf-8") as file:
            file.write(_lines(rows))

    def start_history(self, trial_id: str, num_rows: int = 0) -> list[HistoryRow]:
        """Cut a trial's curves back to the rows before its checkpoint, and return these rows."""
        kept = list(itertools.islice(self._read_history(trial_id), num_rows))
        if not num_rows and self.history(trial_id).is_file():
            # The rows that were indexed with an earlier checkpoint go.
            self._index(self.history(trial_id), b"", 0)
        atomic_write(self.history(trial_id), _lines(kept))
        return kept

    def write_checkpoint(self, trial_id: str, data: bytes) -> None:
        """Store a trial's checkpoint in place of the previous one."""
        atomic_write(self.checkpoint(trial_id), data)
        self.index_beginning(self.history(trial_id))

    def read_checkpoint(self, trial_id: str) -> bytes | None:
        """Read a trial's checkpoint, or return None if it has none."""
        path = self.checkpoint(trial_id)
        return path.read_bytes() if path.is_file() else None

    def remove_checkpoint(self, trial_id: str) -> None:
        """Remove a trial's checkpoint if it has one."""
        self.checkpoint(trial_id).unlink(missing_ok=True)

    def count_rows(self, trial_id: str) -> int:
        """Count the rows of a trial's curves."""
        return sum(1 for _ in self._read_history(trial_id))

    def write_result(self, result: TrialResult) -> None:
        """Store how a trial ended; it counts as finished from then on and never runs again."""
        files = (self.config(result.trial_id), self.history(result.trial_id))
        digests = {path.name: digest_of(path.read_bytes()) for path in files if path.is_file()}
        content = result.model_copy(update={"files": digests}).model_dump_json(indent=1)
        atomic_write(self.result(result.trial_id), content)
        self._index(self.result(result.trial_id), content)
        self.remove_checkpoint(result.trial_id)

    def read_trial(self, trial_id: str, *, with_history: bool = True) -> Trial:
        """Read one trial; without its history, its curves are left empty."""
        config = read_record(TrialConfig, self.config(trial_id))
        result = read_record_if_there(TrialResult, self.result(trial_id))
        history = tuple(self._read_history(trial_id)) if with_history else ()
        return Trial(config=config, result=result, history=history)

    def read_trials(self, *, with_history: bool = True, without: Collection[str] = ()) -> list[Trial]:
        """Read every trial that was begun, in the order of their ids, but for those with the ids in ``without``."""
        if not self.trials.is_dir():
            return []
        ids = sorted(path.parent.name for path in self.trials.glob("*/config.json"))
        return [self.read_trial(each, with_history=with_history) for each in ids if each not in without]

    def set_aside(self, trial_id: str) -> Path:
        """Move the files of a damaged trial away, so that the trial can run again; tell where they are now."""
        places = (self.root / "damaged" / f"{trial_id}.{number}" for number in itertools.count(1))
        place = next(each for each in places if not each.exists())
        place.parent.mkdir(exist_ok=True)
        if (self.trials / trial_id).exists():
            os.replace(self.trials / trial_id, place)
        return place

    def write_plugins(self, spec: SweepSpec) -> None:
        """Store which plug-ins the sweep needs, and what reading it without them takes; nothing if it needs none."""
        if spec.plugins:
            self._write(self.plugins, json.dumps(spec.plugins))
            self._write(self.resolved, json.dumps(stand_ins.describe(spec.corners), indent=1))

    def read_resolved(self) -> dict[str, stand_ins.Described]:
        """Read what stands for the plug-ins' options where they are gone."""
        found = read_record_if_there(_Resolved, self.resolved)
        return {} if found is None else found.root

    def read_plugins(self) -> tuple[str, ...]:
        """Read the modules of the plug-ins that the sweep needs."""
        needed = read_record_if_there(_Plugins, self.plugins)
        return () if needed is None else needed.root

    def write_warm_start(self, start: WarmStart) -> None:
        """Store the points that each study begins with, so that a resume proposes the same ones."""
        self._write(self.warm_start, start.model_dump_json(indent=1))

    def read_warm_start(self) -> dict[str, list[dict[str, Json]]]:
        """Read the points that each study begins with, by the study's name; empty without a warm start."""
        start = read_record_if_there(WarmStart, self.warm_start)
        return {} if start is None else start.points

    def write_earlier(self, stages: Sequence[Stage]) -> None:
        """Store what the sweep was each time that it was extended."""
        self._write(self.earlier, _Stages(tuple(stages)).model_dump_json(indent=1))

    def read_earlier(self) -> tuple[Stage, ...]:
        """Read what the sweep was each time that it was extended; none if it never was."""
        found = read_record_if_there(_Stages, self.earlier)
        return () if found is None else found.root

    def write_spec(self, spec: SweepSpec) -> None:
        """Store another spec of the sweep."""
        self._write(self.spec, spec.to_yaml())

    def read_provenance(self) -> Provenance:
        """Read the sweep's provenance."""
        return read_record(Provenance, self.provenance)

    def write_outcome(self, outcome: SweepOutcome) -> None:
        """Store how the sweep ended."""
        atomic_write(self.outcome, outcome.model_dump_json(indent=1))

    def read_outcome(self) -> SweepOutcome | None:
        """Read how the sweep ended, or return None if it has not."""
        return read_record_if_there(SweepOutcome, self.outcome)

    def write_tracking(self, tracking: Tracking) -> None:
        """Store where the sweep's runs are shown."""
        atomic_write(self.tracking, tracking.model_dump_json(indent=1))

    def read_tracking(self) -> Tracking | None:
        """Read where the sweep's runs are shown, or return None if they were never shown anywhere."""
        return read_record_if_there(Tracking, self.tracking)

    def append_output(self, trial_id: str, text: str) -> None:
        """Add what a trial printed to its file, up to :data:`MAX_OUTPUT`; a last line says where it was cut."""
        with open(self.output(trial_id), "a", encoding="utf-8", errors="backslashreplace") as file:
            left = MAX_OUTPUT - file.tell()
            if left > 0:
                file.write(text if len(text) < left else f"{text[:left]}\n[what it printed beyond is not kept]\n")

    def ask_to_stop(self, trial_id: str = "") -> None:
        """Ask the process that drives the sweep to end it, or to end one of its trials."""
        atomic_write(self.wishes / (trial_id or SWEEP), "")

    def asked_to_stop(self) -> frozenset[str]:
        """Tell what the driver is asked to end: ids of trials, and :data:`SWEEP` for all of it."""
        try:
            return frozenset(name for name in os.listdir(self.wishes) if not name.startswith("."))
        except FileNotFoundError:
            return frozenset()

    def forget_wishes(self) -> None:
        """Remove what was asked of an earlier driver."""
        for name in self.asked_to_stop():
            (self.wishes / name).unlink(missing_ok=True)

    def index_beginning(self, path: Path) -> None:
        """Index what a file that grows holds now; only this part of it is checked later."""
        if path.is_file():
            content = path.read_bytes()
            self._index(path, content, len(content))

    def _write(self, path: Path, content: str) -> None:
        """Index a file of the sweep and replace it; its earlier content stays good until then."""
        self._index(path, content)
        atomic_write(path, content)

    def _index(self, path: Path, content: str | bytes, num_bytes: int | None = None) -> None:
        data = content.encode() if isinstance(content, str) else content
        line = IndexLine(path=self.name_of(path), sha256=digest_of(data), num_bytes=num_bytes)
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.index, "ab+") as file:
            size = file.tell()
            file.seek(max(0, size - MAX_LINE))
            end = file.read()
            # A crash may have torn the last line.
            file.truncate(size - len(end) + end.rfind(b"\n") + 1)
            file.write(line.model_dump_json(exclude_none=True).encode() + b"\n")

    def _read_history(self, trial_id: str) -> Iterator[HistoryRow]:
        path = self.history(trial_id)
        if path.is_file():
            yield from read_lines(HistoryRow, path)


@final
class _Stages(RootModel[tuple[Stage, ...]]):
    """The content of ``earlier.json``."""


@final
class _Resolved(RootModel[dict[str, stand_ins.Described]]):
    """The content of ``resolved.json``."""


@final
class _Plugins(RootModel[tuple[str, ...]]):
    """The content of ``plugins.json``."""


def _lines(rows: Iterable[HistoryRow]) -> str:
    return "".join(f"{row.model_dump_json()}\n" for row in rows)


def sweep_names(home: Path) -> list[str]:
    """List the sweeps of a home by name."""
    return sorted(path.parent.name for path in home.glob("*/spec.yaml")) if home.is_dir() else []


def find_sweep(home: Path, name: str, *, of_any_format: bool = False) -> SweepPaths:
    """Find a sweep that was begun.

    Args:
        home: the directory that holds the sweeps.
        name: of the sweep.
        of_any_format: whether a sweep of another version of teleport will do, because nothing of it is read.

    Raises:
        SweepNotFound: no sweep has that name; the message has the nearest name.
        FileUnreadable: another version of teleport wrote the sweep.
    """
    known = sweep_names(home)
    if name not in known:
        raise SweepNotFound(f"no sweep {name!r} in {home}; {nearest(name, known)}")
    paths = SweepPaths(home, name)
    if not of_any_format:
        paths.check_format()
    return paths


def find_trial(beginning: str, among: Collection[str], *, option: str, absent: str) -> str:
    """Find the one trial whose id begins like this.

    Args:
        beginning: what the user gave.
        among: ids of the trials that will do.
        option: by which the user gave it.
        absent: ends the sentence that there is no such trial.

    Raises:
        UserError: no id begins like this, or several do.
    """
    found = [trial_id for trial_id in among if trial_id.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    told = f"{len(found)} trials begin with {beginning!r}" if found else f"no trial {beginning!r} {absent}"
    raise UserError(f"{option}: {told}; {nearest(beginning, found or among)}")
