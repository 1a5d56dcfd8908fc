"""Identity: canonical JSON and the digest of a configuration.

A trial is addressed by what it is, not by when it was proposed: equal configurations have equal ids on every
machine, so finished work is recognised and never repeated.
"""

from __future__ import annotations

import hashlib
import json

from pydantic import JsonValue

Json = JsonValue


def canonical_json(value: object) -> str:
    """Write a JSON value in its one canonical form: sorted keys, no spaces, shortest floats; a tuple counts as a list.

    Raises:
        ValueError: a number is not finite.
        TypeError: something is no JSON value.

    >>> canonical_json({"b": 1.0, "a": (1, None)})
    '{"a":[1,null],"b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object, length: int = 12) -> str:
    """Return the first ``length`` hexadecimal digits of the SHA-256 of a value's canonical JSON.

    With 12 digits, two of 10,000 trials have the same digest with probability 2e-7.
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]
