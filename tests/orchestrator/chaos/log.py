"""What a sweep's log says of its trials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import final

from orchestrator.home.paths import SweepPaths

_LINE = re.compile(
    r"(?P<at>\S+) [A-Z]+ (?P<verb>started|going on with|ended|failed|lost) "
    r".*?\((?P<trial_id>[0-9a-f]{6,})\)(?: from step (?P<step>\d+) of seed (?P<seed>\d+))?"
)


@final
@dataclass(frozen=True)
class Event:
    """One line on a trial.

    Args:
        at: Unix time, to the millisecond below.
        verb: ``started``, ``going on with``, ``ended``, ``failed`` or ``lost``.
        trial_id: whose.
        row: seed and step that it goes on from.
    """

    at: float
    verb: str
    trial_id: str
    row: tuple[int, int] | None

    @property
    def is_begin(self) -> bool:
        """Whether the trial runs from here on."""
        return self.verb in ("started", "going on with")

    @property
    def is_end(self) -> bool:
        """Whether the trial has its result."""
        return self.verb in ("ended", "failed")


def read_events(paths: SweepPaths) -> list[Event]:
    """Read a sweep's log; lines on anything but trials are passed over."""
    found = map(_LINE.match, paths.log.read_text(encoding="utf-8").splitlines())
    return [
        Event(
            datetime.strptime(line["at"], "%Y-%m-%dT%H:%M:%S.%f%z").timestamp(),
            line["verb"],
            line["trial_id"],
            None if line["step"] is None else (int(line["seed"]), int(line["step"])),
        )
        for line in found
        if line is not None
    ]
