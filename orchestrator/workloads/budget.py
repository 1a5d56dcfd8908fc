"""How many steps a workload takes and when it is evaluated: arithmetic without torch, for the dry run too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self, final

from orchestrator.spec import EVALUATIONS_PER_RUN, Workload


@final
@dataclass(frozen=True)
class Budget:
    """The optimizer steps of one seed.

    Args:
        batches_per_epoch: optimizer steps per pass over the training split.
        num_steps: of the whole run.
        evaluate_every: steps between evaluations.
    """

    batches_per_epoch: int
    num_steps: int
    evaluate_every: int

    @classmethod
    def of(cls, workload: Workload, num_train: int) -> Self:
        """Work out a workload's budget.

        An epoch has full batches only: what is left over of one permutation is not used in that epoch. So
        every step costs the same, and steps compare. A batch larger than the split is the whole split.

        Args:
            workload: batch size, epochs and evaluation.
            num_train: size of the training split.

        Returns:
            The budget.
        """
        batches_per_epoch = max(1, num_train // workload.data.batch_size)
        num_steps = batches_per_epoch * workload.epochs
        every = workload.evaluate.every or max(1, num_steps // EVALUATIONS_PER_RUN)
        return cls(batches_per_epoch, num_steps, every)

    def stretches(self) -> Iterator[tuple[int, int]]:
        """Give the runs of steps between evaluations.

        Yields:
            First step and the one after the last; together they are ``0 .. num_steps``.
        """
        for first in range(0, self.num_steps, self.evaluate_every):
            yield first, min(first + self.evaluate_every, self.num_steps)
