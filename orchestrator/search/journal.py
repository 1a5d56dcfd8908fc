"""The sweep's journal: what each search has proposed and been told, on file for good and in memory for its sampler.

A sampler works on a study in memory. What it proposes goes into the journal whole, in one line: the values, and
whatever the sampler has noted in study or trial meanwhile. So a driver that dies at any moment leaves a proposal on
file or none, never a part of one, and a sampler that is asked again after that is where it was. The journal is read
when a sweep is taken up, and never by a sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from orchestrator.errors import FileUnreadable, SearchNotReproducible
from orchestrator.home import TrialResult, TrialState, damage
from orchestrator.spec import Json, Mode, Search

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

KEPT = -1.0


@final
@dataclass(frozen=True)
class CandidateOutcome:
    """What a candidate came to.

    Args:
        state: COMPLETE where it ran on every seed.
        values: of each objective; empty unless COMPLETE.
        failed: the run that settled it, where that did not end well.
        curve: what a sampler ranks a PRUNED candidate by, step by step; empty where the journal has it already.
    """

    state: TrialState
    values: tuple[float, ...] = ()
    failed: TrialResult | None = None
    curve: Mapping[int, float] = field(default_factory=dict)

    @property
    def is_no_answer(self) -> bool:
        """Whether it failed without telling anything of its values, so that another candidate takes its place."""
        return self.failed is not None and self.failed.is_no_answer


def told_to_sampler(outcome: CandidateOutcome, search: Search, worst: tuple[float, ...] | None) -> Ending:
    """Translate what a candidate came to into what its sampler is told.

    Where divergence is a constraint, a candidate that diverged is COMPLETE to the sampler, which looks at the
    constraints of no other. Its values are then the worst of the search so far, since a sampler wants some, and its
    violation is the larger the earlier it diverged. In the sweep's own files it is FAIL all the same.

    Args:
        outcome: of the candidate.
        search: of the spec.
        worst: value of each objective so far; None: there is none.
    """
    import optuna

    states, is_constraint = optuna.trial.TrialState, search.divergence == "constraint"
    if outcome.state is TrialState.COMPLETE:
        return Ending(states.COMPLETE, outcome.values, KEPT if is_constraint else None)
    if outcome.state is TrialState.PRUNED:
        return Ending(states.PRUNED, curve=outcome.curve)
    # A FAIL is told without a value: Optuna refuses NaN with state COMPLETE and would keep the trial RUNNING, where
    # constant_liar holds it against its neighbourhood for ever.
    if outcome.is_no_answer or not is_constraint or outcome.failed is None:
        return Ending(states.FAIL)
    return Ending(states.COMPLETE, worst or tuple(0.0 for _ in search.objectives), _violation(outcome.failed))


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
        run_ids: trial ids of the candidate's runs, in the order in which they are looked at.
        attributes: what the sampler set in the study meanwhile.
        is_duplicate: whether the candidate had been proposed before, so that it was dismissed.
    """

    run_ids: tuple[str, ...]
    attributes: Mapping[str, Any]
    is_duplicate: bool

    @classmethod
    def of(cls, trial: FrozenTrial) -> Note:
        """Read the note of a proposal."""
        written = trial.system_attrs[NOTE]
        return cls(tuple(trial.user_attrs[RUN_IDS]), written["study"], written["duplicate"])


# Under this name a proposal of the journal lists the ids of its trials, also for whoever browses it.
RUN_IDS = "trial_ids"
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
        curve: of a PRUNED candidate, where it is not in the journal yet: step -> value.
    """

    state: optuna.trial.TrialState
    values: Sequence[float] | None = None
    violation: float | None = None
    curve: Mapping[int, float] = field(default_factory=dict)


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
        self.num_trials = 0

    def on_file(self) -> list[FrozenTrial]:
        """Read the proposals of the journal, by number.

        Raises:
            SearchNotReproducible: another program has written one of them.
        """
        found = self._journal.get_trials(deepcopy=False)
        foreign = [trial.number for trial in found if NOTE not in trial.system_attrs]
        if foreign:
            raise SearchNotReproducible(
                f"{self._memory.study_name}: proposal {foreign[0]} in the journal was written by another program, so "
                "the search cannot go on from it; put a copy of study.journal from before in its place, or begin a new "
                "sweep that takes this one's best points (search.warm_start)"
            )
        return found

    def recall(self, trial: FrozenTrial, note: Note) -> None:
        """Bring a proposal of the journal back to memory; by number, all of them before anything is proposed."""
        for key, value in note.attributes.items():
            self._in_memory.set_study_system_attr(self._memory_id, key, value)
        self._memory.add_trial(trial)
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

    def keep(self, drawn: Drawn, run_ids: Sequence[str], *, is_duplicate: bool = False) -> None:
        """Put a proposal on file; a duplicate is dismissed at once.

        Args:
            drawn: from :meth:`draw`.
            run_ids: trial ids of the candidate's runs.
            is_duplicate: whether the candidate had been proposed before.
        """
        import optuna

        states = optuna.trial.TrialState
        trial = self._in_memory.get_trial(drawn.number)
        note = Note(tuple(run_ids), drawn.attributes if self._keeps_attributes else {}, is_duplicate)
        attributes = trial.system_attrs if self._keeps_attributes else {}
        self._journal.add_trial(
            optuna.trial.create_trial(
                state=states.FAIL if is_duplicate else states.RUNNING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={RUN_IDS: list(run_ids)},
                system_attrs={**attributes, NOTE: {"study": dict(note.attributes), "duplicate": is_duplicate}},
            )
        )
        self.repeat_keep(drawn, note)

    def repeat_keep(self, drawn: Drawn, note: Note) -> None:
        """Do in memory what :meth:`keep` does there."""
        import optuna

        if note.is_duplicate:
            self._memory.tell(drawn.number, state=optuna.trial.TrialState.FAIL)

    def tell(self, number: int, ending: Ending) -> None:
        """Say how a trial ended, to memory and to the journal; saying it again changes nothing.

        Args:
            number: of the trial.
            ending: how.
        """
        stored = self._on_file(number)
        for step, value in ending.curve.items():
            if step not in stored.intermediate_values and not stored.state.is_finished():
                self._storage.set_trial_intermediate_value(stored._trial_id, step, value)
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

    def _on_file(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number))


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
