"""What a command shows on stderr while it works: redrawn tables and bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
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
# Below this many columns a terminal shows fewer columns of a table.
WIDE = 70


@final
class Lines:
    """Prints only lines that say something new, and at most one every few seconds."""

    def __init__(self) -> None:
        self._last_time = -math.inf
        self._last_news: object = None

    def show(self, line: str, *, news: object, is_urgent: bool) -> None:
        """Print a line, unless ``news`` has not changed, or the last line is too recent and this one is not urgent."""
        now = time.monotonic()
        if news != self._last_news and (is_urgent or now - self._last_time >= SECONDS_BETWEEN_LINES):
            self._last_time, self._last_news = now, news
            print(line, file=sys.stderr, flush=True)


@contextmanager
def watch_sweep() -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows each new state of a sweep."""
    console = Console(stderr=True)
    if not _is_watched(console):
        lines = Lines()
        yield lambda state: lines.show(line(state), news=state.num_done, is_urgent=state.is_finished)
        return
    with Live(Text("starting …"), console=console, refresh_per_second=4, transient=False) as live:
        yield lambda state: live.update(table(state, console.width))


def _is_watched(console: Console) -> bool:
    return sys.stderr.isatty() and console.is_terminal


def line(progress: Progress) -> str:
    """Say in one line how many trials ended, the best value of each study, and the time left."""
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
    """Draw the state of each study for a terminal of so many columns."""
    wide = width >= WIDE
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
    running = [str(study.num_running)] if wide else []
    best = "-" if study.best is None else f"{study.best:.4g}"
    return [study.study, study.phase, f"{study.num_done}/{study.num_planned}", *running, str(study.num_failed), best]


def time_left(seconds: float | None) -> str:
    """Say how long something will take.

    >>> time_left(95.0)
    'about 2 min left'
    """
    return "time left unknown" if seconds is None else f"about {duration_text(seconds)} left"
