"""What a private Ray needs on this machine: a token that nobody else can read, and short paths for its sockets."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.errors import UserError

# A socket's path may have 107 bytes, and Ray's own part of it has up to 68.
MAX_DIRECTORY = 39
SHORT_DIRECTORIES = ("/tmp", "/var/tmp", "/dev/shm")


def keep_token_private() -> None:
    """Make the token that guards a private Ray readable for its owner alone; Ray would make it readable for all."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    with suppress(OSError):  # Ray itself tells of a place that cannot be written, if it has to write there
        token.parent.mkdir(parents=True, exist_ok=True)
        if not token.exists():
            # The files of tempfile are readable for their owner alone. Another Ray may start at this moment, and
            # must find no token or a whole one.
            with tempfile.NamedTemporaryFile("w", dir=token.parent) as new, suppress(FileExistsError):
                new.write(secrets.token_hex(32))
                new.flush()
                os.link(new.name, token)
        token.chmod(0o600)


@contextmanager
def short_directory(*, is_needed: bool) -> Iterator[dict[str, str]]:
    """Give Ray's option for a directory of its own where the usual one is too long for the paths of its sockets.

    Args:
        is_needed: whether a Ray is to be started here at all.

    Raises:
        UserError: no shorter directory can be written.
    """
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or SHORT_DIRECTORIES[0]
    if not is_needed or len(os.fsencode(usual)) <= MAX_DIRECTORY:
        yield {}
        return
    short = next((place for place in SHORT_DIRECTORIES if os.access(place, os.W_OK)), None)
    if short is None:
        raise UserError(
            f"TMPDIR: {usual!r} is too long for the sockets of Ray, which take {MAX_DIRECTORY} bytes of it at most, "
            f"and none of {', '.join(SHORT_DIRECTORIES)} can be written; set RAY_TMPDIR to a shorter directory"
        )
    with tempfile.TemporaryDirectory(prefix="teleport-", dir=short, ignore_cleanup_errors=True) as directory:
        yield {"_temp_dir": directory}
