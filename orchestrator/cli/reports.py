"""Checks what `teleport report` is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from orchestrator.errors import Fault, SweepNotFound, UserError, nearest
from orchestrator.home import SweepPaths, find_sweep
from orchestrator.report import FORMATS
from orchestrator.spec import digest

MAX_NAME = 128


@final
@dataclass(frozen=True)
class Asked:
    """A report that can be made of these sweeps, in these formats, into this directory."""

    sweeps: tuple[SweepPaths, ...]
    formats: tuple[str, ...]
    directory: Path


def asked_for(home: Path, names: Sequence[str], formats: Sequence[str], out: Path | None) -> Asked:
    """Check everything that a report is asked for before any file is read.

    Args:
        home: the directory that holds the sweeps.
        names: the sweeps' names.
        formats: the formats' names; several in one text are separated by commas.
        out: the directory for the report; None: that of the sweep, or :func:`joint_directory` for several.

    Raises:
        UserError: it lists everything that is wrong.
    """
    words = tuple(dict.fromkeys(word.strip() for text in formats for word in text.split(",")))
    found, unfound = named_sweeps(home, names)
    faults = [*_format_faults(words), *unfound]
    if out is not None and out.exists() and not out.is_dir():
        faults.append(Fault("--out", f"{out} is a file; name a directory"))
    if faults:
        raise UserError(*faults)
    own = found[0].report if len(found) == 1 else joint_directory(home, names)
    return Asked(tuple(found), words, out or own)


def _format_faults(words: Sequence[str]) -> Iterator[Fault]:
    for word in words:
        if word not in FORMATS:
            yield Fault("--format", f"{word!r} is not known; {nearest(word, FORMATS)}")


def named_sweeps(home: Path, names: Sequence[str]) -> tuple[list[SweepPaths], list[Fault]]:
    """Find the sweeps of a home, and the faults of names that are given more than once or are of no sweep."""
    found: list[SweepPaths] = []
    faults: list[Fault] = []
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            faults.append(Fault("NAME", f"{name!r} is named {names.count(name)} times; name each sweep once"))
        try:
            found.append(find_sweep(home, name))
        except SweepNotFound as error:
            faults += error.faults
    return found, faults


def joint_directory(home: Path, names: Sequence[str]) -> Path:
    """Return the directory ``HOME/A+B`` of a report over sweeps A and B; no sweep's name may contain a plus.

    A name that is too long is cut, and then ends in a digest of the whole name.
    """
    name = "+".join(names)
    return home.absolute() / (name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 9]}+{digest(name, 8)}")
