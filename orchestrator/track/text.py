"""Text on its way into a store or a message: within its limits, and without credentials."""

from __future__ import annotations

import re

MAX_TAG = 7_900
MAX_PARAM = 5_900

# Up to the last @ of a word: a password may hold one itself, or a quote.
_USERINFO = re.compile(r"(?<=://)\S*@")
_SECRET = re.compile(r"(?i)\b([\w-]*(?:password|passwd|token|secret|api_key)[\w-]*=)[^\s&;'\"]+")
_METRIC_KEY = re.compile(r"[^\w.\-/ ]", re.ASCII)


def redact(text: str) -> str:
    """Take user names, passwords and tokens out of every address in a text.

    Args:
        text: a URI, a command, an error.

    Returns:
        The text with ``***`` in their place.

    >>> redact("no answer from https://me:pa@ss@host:5000/x?token=abc&y=1")
    'no answer from https://***@host:5000/x?token=***&y=1'
    """
    return _SECRET.sub(r"\1***", _USERINFO.sub("***@", text))


def clean(text: str, limit: int = MAX_TAG) -> str:
    """Make any text storable: no credentials, no NUL (PostgreSQL refuses it), valid Unicode, not too long.

    Args:
        text: whatever a user or an exception wrote.
        limit: most characters.

    Returns:
        The text; where it was cut, it ends with how long it had been.
    """
    valid = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    valid = redact(valid)
    if len(valid) <= limit:
        return valid
    return f"{valid[:limit]}… ({len(valid)} characters)"


def note(markdown: str) -> str:
    """Make a description storable: where it is too long it ends after a whole line, so that tables stay tables.

    Args:
        markdown: the description.

    Returns:
        The description, or its beginning and where the rest is.
    """
    whole = clean(markdown, len(markdown))
    if len(whole) <= MAX_TAG:
        return whole
    kept = whole[: MAX_TAG - 100]
    kept = kept[: kept.rfind("\n")] if "\n" in kept else kept
    return f"{kept}\n\nThe rest is in the report, among the artifacts."


def metric_key(name: str) -> str:
    """Make a name that stores take for a metric."""
    return _METRIC_KEY.sub("_", name)[:250]
