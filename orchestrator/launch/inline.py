"""Runs trials in this process, one after the other, with the same results as on a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import final

from orchestrator.home import Checkpoints, HistoryRow, TrialConfig, TrialResult
from orchestrator.launch.base import Launcher, TrialSource


@final
class InlineLauncher(Launcher):
    """Runs one trial at a time in the process that calls it."""

    def prepared(self) -> AbstractContextManager[None]:
        """Do nothing, since this process is ready; see :meth:`Launcher.prepared`."""
        return nullcontext()

    def launch(self, source: TrialSource) -> None:
        """Run each trial of a source; see :meth:`Launcher.launch`."""
        while not source.is_exhausted:
            source.check()
            config = source.propose()
            assert config is not None, "nothing runs and the source is not exhausted, so it has a trial"
            start = source.checkpoint_of(config)
            source.on_started(config)
            try:
                result = _run(source, config, start)
            except _Ended:
                continue
            except _SourceFailed as failed:
                raise failed.error from None
            source.on_ended(config, result)


def _run(source: TrialSource, config: TrialConfig, start: bytes | None) -> TrialResult:
    from orchestrator.trial import python_output, run_trial

    with python_output() as output:

        def tell() -> None:
            if text := output.take():
                source.on_output(config, text)

        # The source prints too, the progress for one, which does not belong to the trial's output.
        def report(rows: Sequence[HistoryRow]) -> None:
            with output.paused(), _carried_out():
                tell()
                goes_on = source.on_history(config, rows)
            if not goes_on:
                raise _Ended
            source.check()

        def save(data: bytes) -> None:
            with output.paused(), _carried_out():
                source.on_checkpoint(config, data)

        try:
            return run_trial(config, report, Checkpoints(start, save))
        finally:
            tell()


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
