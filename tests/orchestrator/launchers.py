"""What the launchers of the tests have in common."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext

from orchestrator.home.records import HistoryRow, TrialConfig, TrialResult
from orchestrator.launch import Launcher, TrialSource


class ReadyLauncher(Launcher):
    """A launcher that needs no machine made ready."""

    def prepared(self) -> AbstractContextManager[None]:
        return nullcontext()


class Relay(TrialSource):
    """A source that hands everything on to another one; a test changes what it is about."""

    def __init__(self, source: TrialSource) -> None:
        self.source = source

    @property
    def is_exhausted(self) -> bool:
        return self.source.is_exhausted

    def propose(self) -> TrialConfig | None:
        return self.source.propose()

    def check(self) -> None:
        self.source.check()

    def checkpoint_of(self, config: TrialConfig) -> bytes | None:
        return self.source.checkpoint_of(config)

    def on_started(self, config: TrialConfig) -> None:
        self.source.on_started(config)

    def on_history(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> bool:
        return self.source.on_history(config, rows)

    @property
    def overdue(self) -> Collection[str]:
        return self.source.overdue

    def on_checkpoint(self, config: TrialConfig, data: bytes) -> None:
        self.source.on_checkpoint(config, data)

    def on_output(self, config: TrialConfig, text: str) -> None:
        self.source.on_output(config, text)

    def on_ended(self, config: TrialConfig, result: TrialResult) -> None:
        self.source.on_ended(config, result)
