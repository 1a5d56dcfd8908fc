"""Runs trials in this process, one after the other, with the same results as on a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import final

from orchestrator.home import Checkpoints, HistoryRow
from orchestrator.launch.base import Launcher, TrialSource


@final
class InlineLauncher(Launcher):
    """Runs one trial at a time in the process that calls it."""

    def prepared(self) -> AbstractContextManager[None]:
        """Do nothing, since this process is ready; see :meth:`Launcher.prepared`."""
        return nullcontext()

    def launch(self, source: TrialSource) -> None:
        """Run each trial of a source; see :meth:`Launcher.launch`."""
        from orchestrator.trial import run_trial

        while not source.is_exhausted:
            source.check()
            config = source.propose()
            assert config is not None, "nothing runs and the source is not exhausted, so it has a trial"

            def report(rows: Sequence[HistoryRow], config=config) -> None:  # type: ignore[no-untyped-def]
                with _carried_out():
                    goes_on = source.on_history(config, rows)
                if not goes_on:
                    raise _Ended
                source.check()

            def save(data: bytes, config=config) -> None:  # type: ignore[no-untyped-def]
                with _carried_out():
                    source.on_checkpoint(config, data)

            start = source.checkpoint_of(config)
            source.on_started(config)
            try:
                result = run_trial(config, report, Checkpoints(start, save))
            except _Ended:
                continue
            except _SourceFailed as failed:
                raise failed.error from None
            source.on_ended(config, result)


@final
class _Ended(BaseException):
    """Leaves a trial that the source has ended; the trial would take an Exception for its own failure."""


@final
class _SourceFailed(BaseException):
    """Carries a failure of the source, such as a full disk, out of a trial that did not cause it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def _carried_out() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _SourceFailed(error) from error
