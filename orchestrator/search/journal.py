"""What a study has proposed and been told: in the sweep's journal for good, in memory for its sampler.

A sampler works on a study in memory. What it proposes goes into the journal whole, in one line: the values, and
whatever the sampler has noted in study or trial meanwhile. So a driver that dies at any moment leaves a proposal on
file or none, never a part of one, and a sampler that is asked again after that is where it was. The journal is read
when a sweep is taken up, and never by a sampler.

A line also says which trials had been told since the proposal before it. That is all the order a search has: a
sampler looks at what has ended, not at when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from orchestrator.errors import FileUnreadable
from orchestrator.home import TrialResult, TrialState, damage
from orchestrator.spec import Json, Mode, Search

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

KEPT = -1.0


@final
class Verdicts:
    """Translates the results of one study.

    Where divergence is a constraint, a trial that diverged is COMPLETE to the sampler, which looks at the
    constraints of no other; its values are the worst of the study so far, since a sampler wants some, and its
    violation is the larger the earlier it diverged. In the sweep's own files it is FAIL all the same.

    Args:
        search: of the spec.
    """

    def __init__(self, search: Search) -> None:
        self._is_constraint = search.divergence == "constraint"
        self._signs = [1.0 if objective.mode == "min" else -1.0 for objective in search.objectives]
        self._worst: tuple[float, ...] | None = None

    def ending(self, result: TrialResult) -> Ending:
        """Translate a result.

        Args:
            result: of a search trial.

        Returns:
            What the sampler is told.
        """
        import optuna

        states = optuna.trial.TrialState
        if result.state is TrialState.COMPLETE:
            assert result.value is not None
            values = result.values or (result.value,)
            self._see(values)
            return Ending(states.COMPLETE, values, KEPT if self._is_constraint else None)
        if result.state is TrialState.PRUNED:
            return Ending(states.PRUNED)
        # A FAIL is told without a value: Optuna refuses NaN with state COMPLETE and would keep the trial
        # RUNNING, where constant_liar holds it against its neighbourhood for ever.
        if result.is_no_answer or not self._is_constraint:
            return Ending(states.FAIL)
        worst = self._worst or tuple(0.0 for _ in self._signs)
        return Ending(states.COMPLETE, worst, _violation(result))

    def recall(self, trial: FrozenTrial) -> None:
        """Take note of a trial that was told before a crash.

        Args:
            trial: of the journal, finished.
        """
        if trial.values is not None and trial.constraints.get(DIVERGENCE, KEPT) <= 0:
            self._see(tuple(trial.values))

    def _see(self, values: tuple[float, ...]) -> None:
        if len(values) != len(self._signs):
            return  # of a pruned trial, whose last report stands for one objective
        worst = self._worst or values
        self._worst = tuple(
            sign * max(sign * one, sign * other) for sign, one, other in zip(self._signs, worst, values, strict=True)
        )


def _violation(result: TrialResult) -> float:
    """From 1, diverged in the last step, to 2, in the first one."""
    if not result.seeds:
        return 2.0
    last = result.seeds[-1]
    return 2.0 - last.num_steps / last.budget_steps


NOTE = "teleport"
STOPPED_AT = "stopped_at"


def open_journal(path: Path) -> optuna.storages.BaseStorage:
    """Open the sweep's Optuna storage; only the driver that holds the sweep's lock writes it.

    Args:
        path: of the journal file.

    Returns:
        The storage.

    Raises:
        FileUnreadable: it is no journal.
    """
    if path.is_file():
        _mend(path)
    return _load(path)


def read_journal(path: Path) -> dict[str, list[FrozenTrial]]:
    """Read a journal without touching it, also while another process writes it.

    Args:
        path: of the journal file.

    Returns:
        Name of the study -> its trials, by number; empty where there is no file.

    Raises:
        FileUnreadable: it is no journal.
    """
    import optuna

    if not path.is_file():
        return {}
    storage = _load(path)
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False) for name in names}


def _load(path: Path) -> optuna.storages.BaseStorage:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    # Its INFO lines would break into the live display; the sweep's own log says more.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - Optuna checks no line before it uses it
        reason = " ".join(str(error).split())[:200]
        raise FileUnreadable(damage(path, f"is no journal of Optuna ({type(error).__name__}: {reason})")) from None


def _mend(path: Path) -> None:
    """Remove what a driver that was killed left: a line cut short, to which Optuna would append, and its lock."""
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    with open(path, "rb+") as file:
        end = file.seek(0, 2)
        keep = end
        while keep:
            start = max(0, keep - 65_536)
            file.seek(start)
            found = file.read(keep - start).rfind(b"\n")
            if found >= 0:
                keep = start + found + 1
                break
            keep = start
        if keep < end:
            file.truncate(keep)


@final
@dataclass(frozen=True)
class Note:
    """What the journal says of a proposal beside its values.

    Args:
        told: numbers of the trials that had been told since the proposal before it.
        attributes: what the sampler set in the study meanwhile.
        is_duplicate: whether its configuration had been proposed before, so that it was dismissed.
    """

    told: tuple[int, ...]
    attributes: Mapping[str, Any]
    is_duplicate: bool

    @classmethod
    def of(cls, trial: FrozenTrial) -> Note | None:
        """Read the note of a trial; None where an older version wrote it."""
        written = trial.system_attrs.get(NOTE)
        if written is None:
            return None
        return cls(tuple(written["told"]), written["study"], written["duplicate"])

    def to_json(self) -> dict[str, Any]:
        """Write it as plain data."""
        return {"told": list(self.told), "study": dict(self.attributes), "duplicate": self.is_duplicate}


TRIAL_ID = "trial_id"
DIVERGENCE = "divergence"

_DIRECTIONS: dict[Mode, Literal["minimize", "maximize"]] = {"min": "minimize", "max": "maximize"}


@final
@dataclass(frozen=True)
class Ending:
    """How a trial ended, as a sampler hears it.

    Args:
        state: Optuna's.
        values: one per objective; None unless COMPLETE.
        violation: of the constraint not to diverge, above 0 where it did; None: there is no such constraint.
    """

    state: optuna.trial.TrialState
    values: Sequence[float] | None = None
    violation: float | None = None


@final
@dataclass(frozen=True)
class Drawn:
    """What a sampler proposes.

    Args:
        number: of the trial.
        values: parameter name -> value.
        attributes: what the sampler set in the study meanwhile.
    """

    number: int
    values: dict[str, Json]
    attributes: Mapping[str, Any]


@final
class StudyLog:
    """One study, in the journal and in memory.

    Args:
        storage: from :func:`orchestrator.search.journal.open_journal`.
        name: of the study.
        modes: of the objectives.
        keeps_attributes: whether what the sampler notes goes into the journal.
    """

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        modes: Sequence[Mode],
        *,
        keeps_attributes: bool,
    ) -> None:
        import optuna

        directions = [_DIRECTIONS[mode] for mode in modes]
        self._journal = optuna.create_study(
            storage=storage, study_name=name, directions=directions, load_if_exists=True
        )
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(name)
        self._in_memory = optuna.storages.InMemoryStorage()
        self._memory = optuna.create_study(storage=self._in_memory, study_name=name, directions=directions)
        self._memory_id = self._in_memory.get_study_id_from_name(name)
        self._keeps_attributes = keeps_attributes
        self._told: set[int] = set()
        self.num_trials = 0

    def on_file(self) -> list[FrozenTrial]:
        """Read the trials of the journal, by number."""
        return self._journal.get_trials(deepcopy=False)

    def recall(self, trial: FrozenTrial) -> None:
        """Bring a trial of the journal back to memory; by number, all of them before anything is proposed.

        Args:
            trial: of the journal.
        """
        note = Note.of(trial)
        if note is not None:
            self._told.difference_update(note.told)
            for key, value in note.attributes.items():
                self._in_memory.set_study_system_attr(self._memory_id, key, value)
        self._memory.add_trial(trial)
        if trial.state.is_finished() and not (note is not None and note.is_duplicate):
            self._told.add(trial.number)
        self.num_trials += 1

    def draw(self, sampler: BaseSampler, suggest: Callable[[optuna.Trial], dict[str, Json]]) -> Drawn:
        """Let a sampler propose; nothing is on file yet.

        Args:
            sampler: who proposes.
            suggest: asks it for every value.

        Returns:
            The proposal.
        """
        import optuna

        before = dict(self._in_memory.get_study_system_attrs(self._memory_id))
        # As ``ask`` does it, but for its search through all trials for one that was enqueued.
        study = optuna.Study(self._memory.study_name, self._in_memory, sampler=sampler)
        trial = optuna.Trial(study, self._in_memory.create_new_trial(self._memory_id))
        values = suggest(trial)
        after = self._in_memory.get_study_system_attrs(self._memory_id)
        noted = {key: value for key, value in after.items() if key not in before or before[key] != value}
        self.num_trials += 1
        return Drawn(trial.number, values, noted)

    def keep(self, drawn: Drawn, trial_id: str, *, is_duplicate: bool = False) -> None:
        """Put a proposal on file.

        Args:
            drawn: from :meth:`draw`.
            trial_id: of its configuration.
            is_duplicate: whether to dismiss it.
        """
        import optuna

        states = optuna.trial.TrialState
        trial = self._in_memory.get_trial(drawn.number)
        note = Note(tuple(sorted(self._told)), drawn.attributes if self._keeps_attributes else {}, is_duplicate)
        attributes = trial.system_attrs if self._keeps_attributes else {}
        self._journal.add_trial(
            optuna.trial.create_trial(
                state=states.FAIL if is_duplicate else states.RUNNING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={TRIAL_ID: trial_id},
                system_attrs={**attributes, NOTE: note.to_json()},
            )
        )
        self.repeat_keep(drawn, note)

    def repeat_keep(self, drawn: Drawn, note: Note) -> None:
        """Do in memory what :meth:`keep` does there.

        Args:
            drawn: from :meth:`draw`.
            note: that is on file for it.
        """
        import optuna

        self._told.clear()
        if note.is_duplicate:
            self._memory.tell(drawn.number, state=optuna.trial.TrialState.FAIL)

    def tell(self, number: int, ending: Ending) -> None:
        """Say how a trial ended, to memory and to the journal; saying it again changes nothing.

        Args:
            number: of the trial.
            ending: how.
        """
        self.repeat_tell(number, ending)
        if ending.violation is not None:
            _constrain(self._journal, self._on_file(number)._trial_id, ending.violation)
        self._journal.tell(number, ending.values, state=ending.state, skip_if_finished=True)

    def repeat_tell(self, number: int, ending: Ending) -> None:
        """Say how a trial ended to memory alone.

        Args:
            number: of the trial.
            ending: how.
        """
        import optuna

        if self._in_memory.get_trial(number).state.is_finished():
            return
        if ending.violation is not None:
            _constrain(self._memory, number, ending.violation)
        if ending.state is optuna.trial.TrialState.PRUNED:  # what a sampler ranks it by
            for step, value in self._on_file(number).intermediate_values.items():
                self._in_memory.set_trial_intermediate_value(number, step, value)
        self._memory.tell(number, ending.values, state=ending.state)
        self._told.add(number)

    def _on_file(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number))

    def refuse(self, numbers: Iterable[int]) -> None:
        """End trials of the journal that can never run.

        Args:
            numbers: of trials whose values an older version had not all put on file.
        """
        import optuna

        for number in numbers:
            self._journal.tell(number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)


def ending_of(trial: FrozenTrial) -> Ending:
    """Read how a trial ended.

    Args:
        trial: of the journal, finished.

    Returns:
        What was told of it.
    """
    import optuna

    is_complete = trial.state is optuna.trial.TrialState.COMPLETE
    return Ending(trial.state, trial.values if is_complete else None, trial.constraints.get(DIVERGENCE))


def _constrain(study: optuna.Study, trial_id: int, violation: float) -> None:
    import optuna

    trial = optuna.Trial(study, trial_id)
    if DIVERGENCE not in trial.constraints:  # told already, before a crash
        trial.set_constraint(DIVERGENCE, violation)
