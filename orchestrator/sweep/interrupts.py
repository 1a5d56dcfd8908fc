"""Takes Ctrl-C and SIGTERM at points where nothing is half done.

A signal handler that raises may interrupt any instruction, also one in a library's clean-up: when Ctrl-C meets Optuna's
journal at the release of its file lock, Optuna raises an OSError about a lock file instead. So while a sweep runs its
trials the handler only takes note, and the code that runs trials asks at suitable points.
"""

from __future__ import annotations

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
        """Listen to Ctrl-C, and to SIGTERM, which Slurm and Kubernetes send for the same reason."""
        signal.signal(signal.SIGINT, self._take)
        signal.signal(signal.SIGTERM, self._take)

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
        if self._num_asked > 1 or not self._is_deferred:
            raise KeyboardInterrupt
