"""The error tree: what went wrong, where, and what to do about it.

A user's mistake is a :class:`UserError`. It carries every fault that was found, each with its place; the command line
prints it without a traceback and exits with 2. A trial that crashes raises nothing here: it has a FAIL as its result.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final


@final
@dataclass(frozen=True)
class Fault:
    """One mistake in what the user gave.

    Args:
        place: where it is, for example ``sweeps/quick.yaml:12: arms.teleport.teleport.tau``; may be empty.
        message: the rule, the value that breaks it, and the nearest valid value where there is one.
    """

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class TeleportError(Exception):
    """Root of all errors that this package raises on purpose."""

    exit_code: ClassVar[int] = 1


class UserError(TeleportError):
    """The user's input is wrong; the error carries all faults.

    Args:
        faults: a bare string stands for a fault without a place.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, *faults: Fault | str) -> None:
        self.faults: tuple[Fault, ...] = tuple(f if isinstance(f, Fault) else Fault("", f) for f in faults)
        super().__init__("\n".join(map(str, self.faults)))


@final
class SpecError(UserError):
    """A sweep spec cannot be run as it is written."""


@final
class SweepConflict(UserError):
    """Another sweep with a different spec has the name already."""


@final
class SweepLocked(UserError):
    """Another process drives this sweep."""


@final
class FileUnreadable(UserError):
    """A file of a sweep is damaged, or another version wrote it."""


@final
class SweepNotFound(UserError):
    """The home holds no sweep of that name."""


@final
class DataNotFound(UserError):
    """A data set is in none of the places that were searched."""


@final
class DataCorrupt(UserError):
    """A data file is not what its name says."""


@final
class PluginError(UserError):
    """A plug-in cannot be imported, or does not register what it should."""


@final
class Infeasible(UserError):
    """The cluster can never place what the spec asks for."""


@final
class SearchNotReproducible(UserError):
    """A search cannot go on, because its sampler proposes other values than those on file."""


@final
class ClusterUnreachable(UserError):
    """No Ray cluster answers at the address."""


@final
class Interrupted(TeleportError):
    """The user, or the machine's scheduler, asked the sweep to stop; its files are kept."""

    exit_code: ClassVar[int] = 130


def nearest(name: object, known: Iterable[str]) -> str:
    """Say which known name the user may have meant, in a clause.

    >>> nearest("tua", ["tau", "step"])
    "did you mean 'tau'? (known: step, tau)"
    """
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    listing = f"known: {', '.join(names)}" if names else "none is known"
    return f"did you mean {close[0]!r}? ({listing})" if close else f"({listing})"
