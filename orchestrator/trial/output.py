"""Catches what a trial prints, so that it can be put on file with the trial.

In a process of its own a trial's standard output and error are caught whole, whatever writes to them. In a process that
has other things to print, only what Python writes in the trial's thread is caught.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast, final

# Gives what was printed since the last call.
Take = Callable[[], str]


@final
class PythonOutput:
    """What Python prints in one thread, the one that made this object; other threads print as they did before."""

    def __init__(self) -> None:
        self._printed = io.StringIO()
        self._thread = threading.get_ident()
        self._is_paused = False

    def take(self) -> str:
        """Give what was printed since the last call."""
        text = self._printed.getvalue()
        self._printed.seek(0)
        self._printed.truncate()
        return text

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let this thread print where it printed before for the length of a block."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def stream_for(self, usual: Any) -> Any:
        """Give the stream in which a print of this thread now goes, in place of the usual one."""
        return usual if self._is_paused or threading.get_ident() != self._thread else self._printed


@final
class _Split:
    """Stands for ``sys.stdout`` or ``sys.stderr``, and gives each print to the stream that its thread has."""

    def __init__(self, output: PythonOutput, usual: Any) -> None:
        self._output = output
        self._usual = usual

    def write(self, text: str) -> int:
        return int(self._output.stream_for(self._usual).write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._usual, name)


@contextlib.contextmanager
def python_output() -> Iterator[PythonOutput]:
    """Catch what Python prints in this thread while the block lasts."""
    output = PythonOutput()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast("tuple[TextIO, TextIO]", tuple(_Split(output, usual) for usual in before))
    try:
        yield output
    finally:
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def process_output() -> Iterator[Take]:
    """Catch all that this process prints while the block lasts, libraries in C included."""
    with tempfile.TemporaryFile() as file:
        place = 0

        def take() -> str:
            nonlocal place
            _flush()
            data = os.pread(file.fileno(), os.fstat(file.fileno()).st_size - place, place)
            place += len(data)
            return data.decode("utf-8", "replace")

        before = [os.dup(number) for number in (1, 2)]
        _flush()
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            yield take
        finally:
            _flush()
            for number, kept in zip((1, 2), before, strict=True):
                os.dup2(kept, number)
                os.close(kept)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
