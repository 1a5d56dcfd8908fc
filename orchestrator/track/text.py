"""Makes text fit for a store or a message: short enough, and without credentials."""

from __future__ import annotations

import re

MAX_TAG = 7_900
MAX_PARAM = 5_900
# Stands where a text had credentials.
HIDDEN = "***"

# It reaches to the last @ of a word, since a password may hold an @ or a quote.
_USERINFO = re.compile(r"(?<=://)\S*@")
_SECRET = re.compile(r"(?i)\b([\w-]*(?:password|passwd|token|secret|api_key)[\w-]*=)[^\s&;'\"]+")
_NOT_IN_KEYS = re.compile(r"[^\w.\-/ ]", re.ASCII)


def redact(text: str) -> str:
    """Put ``***`` in the place of user names, passwords and tokens in every address of a text.

    >>> redact("no answer from https://me:pa@ss@host:5000/x?token=abc&y=1")
    'no answer from https://***@host:5000/x?token=***&y=1'
    """
    return _SECRET.sub(rf"\1{HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", text))


def clean(text: str, limit: int = MAX_TAG) -> str:
    """Make any text storable: no credentials, no NUL (PostgreSQL refuses it), valid Unicode.

    A text longer than the limit is cut there, and ends with how long it was.
    """
    valid = redact(text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8"))
    if len(valid) <= limit:
        return valid
    return f"{valid[:limit]}… ({len(valid)} characters)"


def note(markdown: str) -> str:
    """Make a description storable. One that is too long is cut after a whole line, so that its tables stay tables."""
    whole = clean(markdown, len(markdown))
    if len(whole) <= MAX_TAG:
        return whole
    kept = whole[: MAX_TAG - 100]
    kept = kept[: kept.rfind("\n")] if "\n" in kept else kept
    return f"{kept}\n\nThe rest is in the report, among the artifacts."


def clean_key(name: str) -> str:
    """Make a name that stores take for a metric or a tag."""
    return _NOT_IN_KEYS.sub("_", name)[:250]
