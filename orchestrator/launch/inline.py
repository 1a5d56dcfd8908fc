"""Trials in this process, one after the other: no cluster, the same results."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import final

from orchestrator.checkpoints import Checkpoints
from orchestrator.launch.base import Launcher, TrialSource
from orchestrator.results import HistoryRow


@final
class InlineLauncher(Launcher):
    """Runs one trial at a time where it is called."""

    def prepared(self) -> AbstractContextManager[None]:
        """Do nothing: what is here is all there is; see :meth:`Launcher.prepared`."""
        return nullcontext()

    def launch(self, source: TrialSource) -> None:
        """Run every trial of a source; see :meth:`Launcher.launch`.

        Args:
            source: of the trials.
        """
        from orchestrator.trial import run_trial

        while not source.is_exhausted:
            source.check()
            config = source.propose()
            assert config is not None, "nothing runs and the source is not exhausted, so it has a trial"

            def report(rows: Sequence[HistoryRow], config=config) -> None:  # type: ignore[no-untyped-def]
                if not source.on_history(config, rows):
                    raise _Ended
                source.check()

            def save(data: bytes, config=config) -> None:  # type: ignore[no-untyped-def]
                source.on_checkpoint(config, data)

            start = source.checkpoint_of(config)
            source.on_started(config)
            with contextlib.suppress(_Ended):
                source.on_ended(config, run_trial(config, report, Checkpoints(start, save)))


@final
class _Ended(BaseException):
    """Leaves a trial that the source has ended; no Exception, which a trial would take for its own."""
