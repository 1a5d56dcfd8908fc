"""The live display of a sweep on stderr: a table that redraws itself, or plain lines where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.spec import duration_text
from orchestrator.sweep import Progress, StudyProgress

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def watch() -> Iterator[Callable[[Progress], None]]:
    """Show progress while the block lasts.

    Yields:
        What is to be called with every new state.
    """
    console = Console(stderr=True)
    if not (sys.stderr.isatty() and console.is_terminal):
        yield Lines().show
        return
    with Live(Text("starting …"), console=console, refresh_per_second=4, transient=False) as live:
        yield lambda progress: live.update(table(progress, console.width))


@final
class Lines:
    """Plain lines: one when the number of finished trials has changed, at most every few seconds."""

    def __init__(self) -> None:
        self._last_time = 0.0
        self._last_done = -1

    def show(self, progress: Progress) -> None:
        """Print a line where there is something new to say.

        Args:
            progress: where the sweep stands.
        """
        now = time.monotonic()
        is_news = progress.num_done != self._last_done
        is_due = now - self._last_time >= SECONDS_BETWEEN_LINES or progress.is_finished
        if is_news and is_due:
            self._last_time, self._last_done = now, progress.num_done
            print(line(progress), file=sys.stderr, flush=True)


def line(progress: Progress) -> str:
    """Say in one line where a sweep stands.

    Args:
        progress: of the sweep.

    Returns:
        Counts, the best of each study, and the time left.
    """
    best = ", ".join(f"{s.study} {s.best:.4g}" for s in progress.studies if s.phase == "search" and s.best is not None)
    parts = [
        f"{progress.num_done}/{progress.num_planned} trials",
        f"{progress.num_running} running",
        f"{progress.num_failed} failed",
    ]
    if best:
        parts.append(f"best {progress.objective}: {best}")
    if not progress.is_finished:
        parts.append(time_left(progress.seconds_left))
    return " | ".join(parts)


def table(progress: Progress, width: int) -> Group:
    """Draw where a sweep stands.

    Args:
        progress: of the sweep.
        width: columns of the terminal; below 70 the less needed columns are left out.

    Returns:
        Something rich can print.
    """
    wide = width >= 70
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    drawn.add_column("study", overflow="fold")
    drawn.add_column("phase")
    drawn.add_column("done", justify="right")
    if wide:
        drawn.add_column("running", justify="right")
    drawn.add_column("failed", justify="right")
    drawn.add_column(f"best {progress.objective}" if wide else "best", justify="right")
    for study in progress.studies:
        drawn.add_row(*_cells(study, wide))
    summary = f"{progress.num_done}/{progress.num_planned} trials"
    if not progress.is_finished:
        summary += f", {time_left(progress.seconds_left)}"
    return Group(drawn, Text(summary))


def _cells(study: StudyProgress, wide: bool) -> list[str]:
    cells = [study.study, study.phase, f"{study.num_done}/{study.num_planned}"]
    if wide:
        cells.append(str(study.num_running))
    return [*cells, str(study.num_failed), "-" if study.best is None else f"{study.best:.4g}"]


def time_left(seconds: float | None) -> str:
    """Say how long it will take.

    Args:
        seconds: the estimate; None where there is none yet.

    Returns:
        For example ``about 2 min left``.

    >>> time_left(95.0)
    'about 2 min left'
    """
    if seconds is None:
        return "time left unknown"
    return f"about {duration_text(seconds)} left"
