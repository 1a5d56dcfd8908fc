"""How far a download is, on stderr: a bar for each file, or plain lines where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 5.0

# Takes the file's name, the bytes that are here, and how many there will be (None: unknown).
Watch = Callable[[str, int, int | None], None]


@contextmanager
def watch() -> Iterator[Watch]:
    """Show progress while the block lasts.

    Yields:
        What is to be called with every new state of a file.
    """
    console = Console(stderr=True)
    if not (sys.stderr.isatty() and console.is_terminal):
        yield Lines().show
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        yield Bars(progress).show


@final
class Bars:
    """A bar for each file.

    Args:
        progress: that draws them.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, name: str, num_done: int, num_total: int | None) -> None:
        """Move a file's bar.

        Args:
            name: of the file.
            num_done: bytes that are here.
            num_total: bytes that there will be; None: unknown.
        """
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name)
        self._progress.update(self._tasks[name], completed=num_done, total=num_total)


@final
class Lines:
    """Plain lines: one when a file begins and when it is there, and one every few seconds between."""

    def __init__(self) -> None:
        self._last_time = 0.0
        self._last_name = ""

    def show(self, name: str, num_done: int, num_total: int | None) -> None:
        """Print a line where there is something new to say.

        Args:
            name: of the file.
            num_done: bytes that are here.
            num_total: bytes that there will be; None: unknown.
        """
        now = time.monotonic()
        is_news = name != self._last_name or num_done == num_total
        if is_news or now - self._last_time >= SECONDS_BETWEEN_LINES:
            self._last_time, self._last_name = now, name
            of = "" if num_total is None else f" of {num_total / 1e6:.1f}"
            print(f"{name}: {num_done / 1e6:.1f}{of} MB", file=sys.stderr, flush=True)
