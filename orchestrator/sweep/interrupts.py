"""Takes Ctrl-C, SIGTERM and the end of the terminal at points where nothing is half done.

A signal handler that raises may interrupt any instruction, also one in a library's clean-up: when Ctrl-C meets Optuna's
journal at the release of its file lock, Optuna raises an OSError about a lock file instead. So while a sweep runs its
trials the handler only takes note, and the code that runs trials asks at suitable points.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final


@final
class Interrupts:
    """Keeps the user's wish to stop, and raises it as KeyboardInterrupt. It hears nothing before :meth:`install`."""

    def __init__(self) -> None:
        self._num_asked = 0
        self._is_deferred = False

    @property
    def is_asked(self) -> bool:
        """Whether anyone has asked to stop."""
        return self._num_asked > 0

    def install(self) -> None:
        """Listen to Ctrl-C, to SIGTERM (Slurm, Kubernetes), and to SIGHUP, unless nohup has it ignored."""
        signal.signal(signal.SIGINT, self._take)
        signal.signal(signal.SIGTERM, self._take)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._take)

    def ask(self) -> None:
        """Ask to stop, as a signal would."""
        self._num_asked += 1

    def check(self) -> None:
        """Stop here if the user has asked to.

        Raises:
            KeyboardInterrupt: the user has.
        """
        if self.is_asked:
            raise KeyboardInterrupt

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only take note of a first wish while the block lasts; a second wish takes effect immediately.

        Raises:
            KeyboardInterrupt: at the end of a block that went well, where the user asked during it.
        """
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        self.check()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._num_asked += 1
        if number == signal.SIGHUP:
            _leave_terminal()
        if self._num_asked > 1 or not self._is_deferred:
            raise KeyboardInterrupt


def _leave_terminal() -> None:
    """Let what is still printed go nowhere: writing to a terminal that has closed is an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        if os.isatty(number):
            os.dup2(nowhere, number)
    os.close(nowhere)
