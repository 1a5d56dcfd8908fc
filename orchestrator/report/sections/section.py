"""One table of the report, as plain text that every format renders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

Rows = list[tuple[str, ...]]
Chapter = Literal["answer", "best", "transfer", "exploratory", "cost", "search"]

_NUMBER = re.compile(r"([−+×]|< |≠ )?\d[\d,.]*(e[+−-]?\d+)?( %| points)?|[+−]?∞( %)?|–|missed|")


@final
@dataclass(frozen=True)
class Section:
    """One table of the report.

    Args:
        key: its name, unique within a sweep: the anchor on the page and the label in LaTeX.
        chapter: the part of the page that it stands in.
        title: what the table shows.
        note: how to read it; may be empty.
        header: names of the columns.
        rows: a text for each column. Formats leave out a section without rows.
    """

    key: str
    chapter: Chapter
    title: str
    note: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    @property
    def right(self) -> tuple[int, ...]:
        """Columns that hold numbers alone, which are set to the right."""
        columns = enumerate(zip(*self.rows, strict=True))
        return tuple(column for column, cells in columns if any(cells) and all(map(_NUMBER.fullmatch, cells)))
