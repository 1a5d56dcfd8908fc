"""What the launchers of the tests have in common."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from orchestrator.launch import Launcher


class ReadyLauncher(Launcher):
    """A launcher that needs no machine made ready."""

    def prepared(self) -> AbstractContextManager[None]:
        return nullcontext()
