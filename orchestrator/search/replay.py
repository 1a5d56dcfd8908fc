"""A sweep that does again what another did, proposal by proposal, whichever trial ends first this time."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

from orchestrator.errors import Fault, SweepConflict, UserError
from orchestrator.home import Replay, StudyOrder, SweepPaths, find_sweep
from orchestrator.search.journal import STOPPED_AT, Note, read_journal
from orchestrator.spec import SharedScope, SweepSpec, parse_spec, read_file

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


def begin_replay(spec: SweepSpec, paths: SweepPaths, name: str) -> None:
    """Put on file the order that a sweep is to follow, so that nothing depends on what becomes of the other.

    Args:
        spec: of the sweep that follows.
        paths: of its files.
        name: of the sweep of the same home that it follows.

    Raises:
        SweepNotFound: there is none of that name; the message has the nearest one.
        SweepConflict: that sweep's spec differs in more than its name.
        UserError: this sweep was begun without an order, or with another's, or its search is shared.
    """
    if isinstance(spec.search.scope, SharedScope):
        raise UserError(
            Fault(
                "--replay",
                "a shared search (search.scope) cannot be replayed: its race decides by what has ended at each pair of "
                "workload and seed, and no order of these is kept; with max_concurrent: 1 the same spec and seed give "
                "the same search",
            )
        )
    followed = paths.read_replay()
    if followed is not None:
        if followed.sweep != name:
            raise UserError(Fault("--replay", f"sweep {paths.name!r} follows {followed.sweep!r}, not {name!r}"))
        return
    if paths.exists():
        raise UserError(Fault("--replay", f"sweep {paths.name!r} was begun without it; choose another --name"))
    source = find_sweep(paths.home, name)
    _refuse_other_spec(spec, parse_spec(read_file(source.spec)), name)
    orders = {study: order.to_record() for study, order in read_orders(source.journal).items()}
    paths.write_replay(Replay(sweep=name, orders=orders))


def orders_of(paths: SweepPaths) -> dict[str, Order]:
    """Read the orders that the studies of a sweep follow; empty where it follows none.

    Args:
        paths: of its files.

    Returns:
        Name of each study -> its order.
    """
    followed = paths.read_replay()
    return {} if followed is None else {study: Order.of(order) for study, order in followed.orders.items()}


def _refuse_other_spec(spec: SweepSpec, followed: SweepSpec, name: str) -> None:
    if spec.model_copy(update={"name": name}).identity == followed.identity:
        return
    theirs, ours = (one.model_copy(update={"name": name}).to_yaml().splitlines() for one in (followed, spec))
    difference = difflib.unified_diff(theirs, ours, name, "given", lineterm="", n=1)
    told = "\n".join(f"  {line}" for line in difference)
    raise SweepConflict(f"--replay: sweep {name!r} has another spec, so its order says nothing here:\n{told}")
