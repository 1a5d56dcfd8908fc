"""Which trials run again: those whose worker died, and those that ran out of memory beside others."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import final

from orchestrator.home.records import TrialConfig, TrialResult

# A worker that dies says nothing of its trial: a machine was taken away, or another trial took the memory.
NUM_RETRIES = 2


@final
class Retries:
    """Takes back trials that deserve another try.

    A trial that was lost runs again a limited number of times. One that ran out of memory runs again once and alone:
    with a GPU to itself where it had a share of one, else while nothing else runs.
    """

    def __init__(self) -> None:
        self._at_once: deque[TrialConfig] = deque()
        self._alone: deque[TrialConfig] = deque()
        self._num_lost: Counter[str] = Counter()
        self._tried_alone: set[str] = set()
        self._runs_alone: str | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether any trial waits for its next try."""
        return bool(self._at_once or self._alone)

    @property
    def runs_alone(self) -> bool:
        """Whether a trial runs beside which nothing else may start."""
        return self._runs_alone is not None

    def take_back(self, config: TrialConfig, result: TrialResult) -> bool:
        """Look at how a trial ended.

        Args:
            config: of the trial.
            result: of this try.

        Returns:
            Whether it is to run again, so that this result does not stand.
        """
        was_alone = self._runs_alone == config.trial_id
        if was_alone:
            self._runs_alone = None
        kind = result.failure_kind
        if kind == "lost" and self._num_lost[config.trial_id] < NUM_RETRIES:
            self._num_lost[config.trial_id] += 1
            (self._alone if was_alone else self._at_once).append(config)
            return True
        if kind == "memory" and config.trial_id not in self._tried_alone:
            self._tried_alone.add(config.trial_id)
            if config.share.gpu % 1.0:
                whole = config.share.model_copy(update={"gpu": float(math.ceil(config.share.gpu))})
                self._at_once.append(config.model_copy(update={"share": whole}))
            else:
                self._alone.append(config)
            return True
        return False

    def take(self) -> TrialConfig | None:
        """Hand out a trial that may run beside others; None where none waits."""
        return self._at_once.popleft() if self._at_once else None

    def take_alone(self) -> TrialConfig | None:
        """Hand out a trial beside which nothing runs, and nothing may start; None where none waits."""
        if not self._alone:
            return None
        config = self._alone.popleft()
        self._runs_alone = config.trial_id
        return config
