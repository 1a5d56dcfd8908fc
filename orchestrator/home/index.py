"""The index of a sweep's files, ``index.jsonl``: their SHA-256, so that damage is found (not forgery).

The process that drives a sweep adds a line for each file on which results depend. Lines are only ever added. A file is
whole if its digest is one of those that stand in the index for its path.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.errors import FileUnreadable
from orchestrator.home.files import content_of, digest_of, read_record
from orchestrator.home.paths import SweepPaths
from orchestrator.home.records import IndexLine, TrialConfig, TrialResult


@final
@dataclass(frozen=True)
class Damage:
    """A file of a sweep that is not as the sweep has stored it.

    Args:
        path: of the file, below the sweep's directory.
        reason: what is wrong with it, in words that follow its name.
        trial_id: of the trial that it belongs to; empty if it belongs to the whole sweep.
    """

    path: str
    reason: str
    trial_id: str = ""

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


def damages(paths: SweepPaths, *, with_unfinished: bool = False) -> Iterator[Damage]:
    """Find what is damaged or gone of a sweep's files.

    Args:
        paths: of the sweep's files.
        with_unfinished: whether to look at trials without a result too, whose files change while the sweep runs.
    """
    known: defaultdict[str, list[IndexLine]] = defaultdict(list)
    for number, line in enumerate(_lines(paths.index), start=1):
        if line is None:
            yield Damage(paths.index.name, f"has a damaged line, number {number}")
        else:
            known[line.path].append(line)
    indexed = {Path(path).parts[1] for path in known if path.startswith("trials/") and path.endswith("result.json")}
    for trial_id in sorted(indexed.union(paths.trial_ids())):
        if trial_id in indexed or paths.result(trial_id).exists():
            yield from _of_trial(paths, trial_id, known)
        elif with_unfinished and paths.config(trial_id).exists():
            yield from _of_unfinished(paths, trial_id, known)
    yield from (damage for path in paths.of_sweep() for damage in _of_file(paths, path, known))


def _of_trial(paths: SweepPaths, trial_id: str, known: dict[str, list[IndexLine]]) -> Iterator[Damage]:
    """Look at the files of a trial with a result; its result says what the other two are."""
    found = list(_of_file(paths, paths.result(trial_id), known, trial_id))
    yield from found
    if not found:
        for name, digest in read_record(TrialResult, paths.result(trial_id)).files.items():
            path = paths.result(trial_id).with_name(name)
            yield from _of_file(paths, path, {paths.name_of(path): [IndexLine(path="", sha256=digest)]}, trial_id)


def _of_unfinished(paths: SweepPaths, trial_id: str, known: dict[str, list[IndexLine]]) -> Iterator[Damage]:
    """Look at a trial that was cut off: at its rows up to the last checkpoint, and at whose configuration it has."""
    yield from _of_file(paths, paths.history(trial_id), known, trial_id)
    name = paths.name_of(paths.config(trial_id))
    try:
        config = read_record(TrialConfig, paths.config(trial_id))
    except FileUnreadable:
        yield Damage(name, "cannot be read", trial_id)
    else:
        if config.trial_id != trial_id:
            yield Damage(name, "describes another trial", trial_id)


def _of_file(paths: SweepPaths, path: Path, known: dict[str, list[IndexLine]], trial_id: str = "") -> Iterator[Damage]:
    name = paths.name_of(path)
    lines = known.get(name, [])
    if not lines:
        return
    if not os.path.lexists(path):
        yield Damage(name, "is gone", trial_id)
        return
    try:
        content = content_of(path)
    except FileUnreadable:
        yield Damage(name, "is no regular file", trial_id)
        return
    # Of a file that grows, the last line says how it began; every other file is as one of its lines says.
    last = lines[-1]
    if last.num_bytes is not None:
        content, lines = content[: last.num_bytes], [last]
    if digest_of(content) not in {line.sha256 for line in lines}:
        yield Damage(name, "is not as it was stored", trial_id)


def _lines(path: Path) -> Iterator[IndexLine | None]:
    """Read the index line by line, None for a damaged one; a last line without an end is left out."""
    if not path.is_file():
        return
    for line in content_of(path).splitlines(keepends=True):
        if line.endswith(b"\n"):
            try:
                yield IndexLine.model_validate_json(line)
            except ValueError:
                yield None
