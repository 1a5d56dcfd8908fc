"""Text of users on a page: whatever it holds, it is shown as text."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence

MAX_CELL = 200
MAX_BLOCK = 4_000
MAX_LINE = 40

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")

STYLE = """<style>
.stMainBlockContainer { padding-top: 4.25rem; padding-bottom: 3rem; }
.t-scroll { overflow-x: auto; }
.t-scroll table { border-collapse: collapse; width: 100%; font-size: .9rem; }
.t-scroll th, .t-scroll td { padding: .35rem .7rem; border-bottom: 1px solid rgba(128,128,128,.25); text-align: left;
  vertical-align: top; white-space: nowrap; }
.t-scroll th { font-weight: 600; opacity: .75; }
.t-scroll .right { text-align: right; font-variant-numeric: tabular-nums; }
.t-scroll td.long { white-space: normal; overflow-wrap: anywhere; min-width: 16rem; max-width: 40rem; }
.t-text { white-space: pre-wrap; overflow-wrap: anywhere; }
.t-answer { font-size: 1.05rem; margin: .2rem 0 .5rem; }
</style>"""


def clip(text: str, limit: int = MAX_CELL) -> str:
    """Cut a text that is too long, saying how much there was.

    >>> clip("abcdef", 3)
    'abc… (6 characters)'
    """
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def plain(text: str, limit: int = MAX_CELL) -> str:
    r"""Write a text as one line of Markdown that shows it, so that nothing in it is taken for markup.

    >>> plain("<b> *x*\n:smile:")
    '\\<b\\> \\*x\\* \\:smile\\:'
    """
    return _PUNCTUATION.sub(r"\\\1", " ".join(clip(text, limit).split()))


def block(text: str, name: str = "t-text", limit: int = MAX_BLOCK) -> str:
    """Write a text as a paragraph of HTML with its line breaks kept; ``name`` is the class of its style."""
    return f'<div class="t-text {name}"><bdi>{html.escape(clip(text, limit))}</bdi></div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> str:
    """Write a table as HTML that scrolls where it is wider than the page; ``right`` are the columns of numbers."""
    names = ["right" if column in right else "" for column in range(len(header))]
    head = "".join(f'<th class="{name}">{html.escape(text)}</th>' for name, text in zip(names, header, strict=True))
    body = "".join(f"<tr>{''.join(map(_cell, names, row))}</tr>" for row in rows)
    return f'<div class="t-scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(name: str, text: str) -> str:
    name = f"{name} long" if len(text) > MAX_LINE else name
    return f'<td class="{name}"><bdi>{html.escape(clip(text))}</bdi></td>'
