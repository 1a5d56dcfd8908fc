"""Names, and spans of time as people write them: ``90``, ``90s``, ``10m``, ``1h30m``, ``2d``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, final

from pydantic import AfterValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from orchestrator.spec.yaml_text import shorten

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


def check_name(name: str) -> str:
    """Return a name of a sweep, workload or arm if it can be a file's name and a label in every table.

    Raises:
        ValueError: it cannot.
    """
    if not _NAME.match(name) or ".." in name:
        raise ValueError(
            f"{shorten(name)} is no valid name: letters, digits, '_', '-' and '.', at most 64, beginning with a "
            "letter or digit, without '/' or '..'"
        )
    return name


Name = Annotated[str, AfterValidator(check_name)]


# Ten years; a thread cannot wait for an arbitrarily large number of seconds.
MAX_SECONDS = 3_650 * 86_400.0
_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
# Units stand from the largest down, each at most once, so that a slip such as 10m5m is refused.
_TEXT = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in _UNITS) + r"\Z", re.ASCII)


@final
@dataclass(frozen=True)
class Duration:
    """A span of time above 0; it is written again as it was read.

    Args:
        written: a number of seconds, or text with units.
        seconds: the length of the span.
    """

    written: float | str
    seconds: float

    @classmethod
    def parse(cls, written: object) -> Duration:
        """Read a span of time as the spec has it.

        Raises:
            ValueError: it is none; the message says what one looks like.

        >>> Duration.parse("1h30m").seconds, str(Duration.parse(90))
        (5400.0, '90s')
        """
        if isinstance(written, Duration):
            return written
        seconds = _seconds(written)
        if not isinstance(written, int | float | str) or not 0.0 < seconds <= MAX_SECONDS:
            raise ValueError(
                f"must be a time above 0 and at most 3650d: seconds as a number, or text such as 90s, 10m, 1h30m or 2d "
                f"(units d, h, m, s in this order), is {shorten(written)}"
            )
        return cls(written, seconds)

    def __str__(self) -> str:
        return self.written if isinstance(self.written, str) else f"{self.written:g}s"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        as_written = core_schema.plain_serializer_function_ser_schema(lambda duration: duration.written)
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=as_written)


def _seconds(written: object) -> float:
    """Convert to seconds; NaN where it is no time."""
    if isinstance(written, int | float) and not isinstance(written, bool):
        return float(written)
    found = _TEXT.match(written) if isinstance(written, str) and written else None
    if found is None:
        return math.nan
    return sum(float(number) * unit for number, unit in zip(found.groups(), _UNITS.values(), strict=True) if number)


def duration_text(seconds: float) -> str:
    """Write a span of time as a number and one unit.

    >>> [duration_text(s) for s in (4.2, 90, 7000, 2e5)]
    ['4 s', '2 min', '1.9 h', '2.3 d']
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 86400 else f"{seconds / 86400:.1f} d"
