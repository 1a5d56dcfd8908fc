"""The order of a search: what had ended at each proposal, so that a search of many trials at once can be repeated.

With several trials at once a sampler proposes by what has ended so far, and which that is depends on the machines.
The journal says it of every proposal (:mod:`orchestrator.study_log`), so nothing else need be recorded. A search that
follows an order makes each proposal when exactly the same trials have been told, and holds back the results that
come too early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

from orchestrator.errors import UserError
from orchestrator.home.records import StudyOrder
from orchestrator.journal import STOPPED_AT, Note, read_journal

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@final
@dataclass(frozen=True)
class Order:
    """The order of one study.

    Args:
        told: for each proposal, by number, which trials were told since the one before it.
        stops: number of each trial that a scheduler ended -> where in its budget.
    """

    told: tuple[tuple[int, ...], ...]
    stops: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, record: StudyOrder) -> Order:
        """Take it from what is on file."""
        return cls(record.told, record.stops)

    def to_record(self) -> StudyOrder:
        """Write it as what goes on file."""
        return StudyOrder(told=self.told, stops=dict(self.stops))


@final
class Turns:
    """Whose turn it is, for a study that follows an order; behind its end everything may come as it comes.

    Args:
        order: to follow.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._due = {number: at for at, numbers in enumerate(order.told) for number in numbers}
        self._told: set[int] = set()

    def may_propose(self, number: int) -> bool:
        """Tell whether every trial that had been told before a proposal has been told.

        Args:
            number: of the proposal.

        Returns:
            Whether it is its turn.
        """
        return number >= len(self._order.told) or self._told.issuperset(self._order.told[number])

    def may_tell(self, number: int, proposed: int) -> bool:
        """Tell whether a trial had been told before the next proposal.

        Args:
            number: of the trial.
            proposed: how many proposals there are.

        Returns:
            Whether it is its turn.
        """
        return proposed >= len(self._order.told) or self._due.get(number, len(self._order.told)) <= proposed

    def on_told(self, number: int) -> None:
        """Take note that a trial was told.

        Args:
            number: of the trial.
        """
        self._told.add(number)


def read_orders(journal: Path) -> dict[str, Order]:
    """Read the order of each study of a sweep, also while it runs.

    Args:
        journal: of the sweep.

    Returns:
        Name of the study -> its order.

    Raises:
        UserError: it was written by a version that recorded none.
    """
    return {
        name: Order(tuple(_told(journal, trials)), _stops(trials)) for name, trials in read_journal(journal).items()
    }


def _told(journal: Path, trials: Sequence[FrozenTrial]) -> list[tuple[int, ...]]:
    notes = [Note.of(trial) for trial in trials]
    known = [note.told for note in notes if note is not None]
    if len(known) < len(notes):
        raise UserError(f"{journal}: was begun by a version that recorded no order, so it cannot be replayed")
    return known


def _stops(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    return {trial.number: trial.user_attrs[STOPPED_AT] for trial in trials if STOPPED_AT in trial.user_attrs}
