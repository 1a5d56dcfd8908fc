"""Catches what a trial prints, so that it can be put on file with the trial.

In a process of its own a trial's standard output and error are caught whole, whatever writes to them. In a process that
has other things to print, only what Python writes to ``sys.stdout`` and ``sys.stderr`` is caught.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

# Gives what was printed since the last call.
Take = Callable[[], str]


@contextlib.contextmanager
def python_output() -> Iterator[Take]:
    """Catch what Python prints in this thread's process while the block lasts."""
    printed = io.StringIO()

    def take() -> str:
        text = printed.getvalue()
        printed.seek(0)
        printed.truncate()
        return text

    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield take


@contextlib.contextmanager
def process_output() -> Iterator[Take]:
    """Catch all that this process prints while the block lasts, libraries in C included."""
    with tempfile.TemporaryFile() as file:
        place = 0

        def take() -> str:
            nonlocal place
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            data = os.pread(file.fileno(), os.fstat(file.fileno()).st_size - place, place)
            place += len(data)
            return data.decode("utf-8", "replace")

        before = [os.dup(number) for number in (1, 2)]
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield take
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for number, kept in zip((1, 2), before, strict=True):
                os.dup2(kept, number)
                os.close(kept)
