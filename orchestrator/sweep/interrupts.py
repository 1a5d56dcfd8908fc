"""Ctrl-C and SIGTERM, taken where nothing is half done.

An exception that a signal handler raises lands between any two instructions, inside a library's clean-up too:
Optuna's journal, caught while it gives its file lock back, turns it into an OSError about a lock file. So while a
sweep runs its trials the handler only takes note, and those who run them ask at points of their own choosing.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final


@final
class Interrupts:
    """The wish to stop, as KeyboardInterrupt. Until :meth:`install`, nobody ever wishes."""

    def __init__(self) -> None:
        self._num_asked = 0
        self._is_deferred = False

    @property
    def is_asked(self) -> bool:
        """Whether anyone has asked to stop."""
        return self._num_asked > 0

    def install(self) -> None:
        """Listen to Ctrl-C, and to SIGTERM, with which Slurm and Kubernetes ask the same."""
        signal.signal(signal.SIGINT, self._take)
        signal.signal(signal.SIGTERM, self._take)

    def check(self) -> None:
        """Stop here if anyone has asked to.

        Raises:
            KeyboardInterrupt: someone has.
        """
        if self.is_asked:
            raise KeyboardInterrupt

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Take note only, for as long as the block lasts; a second wish is not kept waiting.

        Raises:
            KeyboardInterrupt: at the end of a block that went well, where someone asked during it.
        """
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        self.check()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._num_asked += 1
        if self._num_asked > 1 or not self._is_deferred:
            raise KeyboardInterrupt
