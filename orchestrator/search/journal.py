"""The sweep's journal: what each search has proposed and been told, kept on file and in memory.

A sampler works on a study in memory. What it proposes goes into the journal in one line: the values, and whatever the
sampler has noted in the study or the trial. So a driver that dies leaves a whole proposal on file or none, and the
sampler then goes on from the same state. The journal is read when a sweep is taken up, and never by a sampler.
"""

from __future__ import annotations

import os
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

DIRECTIONS: dict[Mode, Literal["minimize", "maximize"]] = {"min": "minimize", "max": "maximize"}

# Names of attributes in the journal: a proposal's note, the rung at which it was stopped, the ids of its runs.
NOTE = "teleport"
STOPPED_AT = "stopped_at"
RUN_IDS = "trial_ids"
# The constraint that no candidate diverges, and its value where a candidate keeps it.
DIVERGENCE = "divergence"
KEPT = -1.0


@final
@dataclass(frozen=True)
class CandidateOutcome:
    """How a candidate ended.

    Args:
        state: COMPLETE where the candidate ran on every seed.
        values: of each objective; empty unless COMPLETE.
        failed: the run that settled the candidate, where that run did not end well.
        curve: step -> value by which a sampler ranks a PRUNED candidate; empty where the journal has the curve already.
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
    """Translate how a candidate ended into what its sampler is told.

    Where divergence is a constraint, a candidate that diverged is COMPLETE to the sampler, because a sampler looks at
    the constraints of no other state. It is told the worst values of the search so far, and a violation that is the
    larger the earlier the candidate diverged. In the sweep's own files the candidate is FAIL.

    Args:
        outcome: of the candidate.
        search: of the spec.
        worst: worst value of each objective so far; None where no candidate has any.
    """
    import optuna

    states, is_constraint = optuna.trial.TrialState, search.divergence == "constraint"
    if outcome.state is TrialState.COMPLETE:
        return Ending(states.COMPLETE, outcome.values, KEPT if is_constraint else None)
    if outcome.state is TrialState.PRUNED:
        return Ending(states.PRUNED, curve=outcome.curve)
    # A FAIL is told without a value. With NaN as the value of a COMPLETE trial Optuna would keep the trial RUNNING,
    # and constant_liar would avoid its neighbourhood for ever.
    if outcome.is_no_answer or not is_constraint or outcome.failed is None:
        return Ending(states.FAIL)
    return Ending(states.COMPLETE, worst or tuple(0.0 for _ in search.objectives), _violation(outcome.failed))


def _violation(result: TrialResult) -> float:
    """Give 1 where it diverged in the last step, 2 where it diverged in the first one, and values in between."""
    if not result.seeds:
        return 2.0
    last = result.seeds[-1]
    return 2.0 - last.num_steps / last.budget_steps


def open_journal(path: Path) -> optuna.storages.BaseStorage:
    """Open the sweep's Optuna storage; only the driver that holds the sweep's lock writes it.

    Raises:
        FileUnreadable: the file is no journal.
        OSError: the file cannot be read or written.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if path.is_file():
        _mend(path)
    # Optuna's INFO lines would break into the live display; the sweep's own log says more.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - Optuna checks no line before it uses it
        reason = " ".join(str(error).split())[:200]
        raise FileUnreadable(damage(path, f"is no journal of Optuna ({type(error).__name__}: {reason})")) from None


def _mend(path: Path) -> None:
    """Remove what a killed driver left: its lock, and a line cut short, to which Optuna would append."""
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    written = path.read_bytes()
    num_whole = written.rfind(b"\n") + 1
    if num_whole < len(written):
        os.truncate(path, num_whole)


@final
@dataclass(frozen=True)
class Note:
    """What the journal says of a proposal beside its values.

    Args:
        run_ids: trial ids of the candidate's runs, in the order in which they are looked at.
        attributes: what the sampler set in the study while it proposed.
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


@final
@dataclass(frozen=True)
class Ending:
    """How a candidate ended, as its sampler is told.

    Args:
        state: Optuna's.
        values: one per objective; None unless COMPLETE.
        violation: of the constraint not to diverge, above 0 where the candidate diverged; None where there is no such
            constraint.
        curve: step -> value of a PRUNED candidate, where the journal does not have it yet.
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
        number: of the proposal.
        values: parameter name -> value.
        attributes: what the sampler set in the study while it proposed.
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
        keeps_attributes: whether the sampler's notes go into the journal.
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

        directions = [DIRECTIONS[mode] for mode in modes]
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
        """Bring a proposal of the journal back to memory; all are recalled by number before a new one is drawn."""
        for key, value in note.attributes.items():
            self._in_memory.set_study_system_attr(self._memory_id, key, value)
        self._memory.add_trial(trial)
        self.num_trials += 1

    def draw(self, sampler: BaseSampler, suggest: Callable[[optuna.Trial], dict[str, Json]]) -> Drawn:
        """Let a sampler propose, where ``suggest`` asks it for every value; nothing is on file yet."""
        import optuna

        before = dict(self._in_memory.get_study_system_attrs(self._memory_id))
        # This does what ``ask`` does, without its search through all trials for an enqueued one.
        study = optuna.Study(self._memory.study_name, self._in_memory, sampler=sampler)
        trial = optuna.Trial(study, self._in_memory.create_new_trial(self._memory_id))
        values = suggest(trial)
        after = self._in_memory.get_study_system_attrs(self._memory_id)
        noted = {key: value for key, value in after.items() if key not in before or before[key] != value}
        self.num_trials += 1
        return Drawn(trial.number, values, noted)

    def keep(self, drawn: Drawn, run_ids: Sequence[str], *, is_duplicate: bool = False) -> None:
        """Put a proposal on file with the trial ids of its runs; a duplicate is dismissed at once."""
        import optuna

        states = optuna.trial.TrialState
        trial = self._in_memory.get_trial(drawn.number)
        of_trial, of_study = (trial.system_attrs, drawn.attributes) if self._keeps_attributes else ({}, {})
        self._journal.add_trial(
            optuna.trial.create_trial(
                state=states.FAIL if is_duplicate else states.RUNNING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={RUN_IDS: list(run_ids)},
                system_attrs={**of_trial, NOTE: {"study": dict(of_study), "duplicate": is_duplicate}},
            )
        )
        if is_duplicate:
            self.dismiss(drawn.number)

    def dismiss(self, number: int) -> None:
        """Tell the sampler's study that a proposal was a duplicate."""
        import optuna

        self._memory.tell(number, state=optuna.trial.TrialState.FAIL)

    def tell(self, number: int, ending: Ending) -> None:
        """Tell memory and the journal how a candidate ended; a repetition changes nothing."""
        stored = self._on_file(number)
        for step, value in ending.curve.items():
            if step not in stored.intermediate_values and not stored.state.is_finished():
                self._storage.set_trial_intermediate_value(stored._trial_id, step, value)
        self.repeat_tell(number, ending)
        if ending.violation is not None:
            _constrain(self._journal, self._on_file(number)._trial_id, ending.violation)
        self._journal.tell(number, ending.values, state=ending.state, skip_if_finished=True)

    def repeat_tell(self, number: int, ending: Ending) -> None:
        """Tell memory alone how a candidate ended."""
        import optuna

        if self._in_memory.get_trial(number).state.is_finished():
            return
        if ending.violation is not None:
            _constrain(self._memory, number, ending.violation)
        if ending.state is optuna.trial.TrialState.PRUNED:  # a sampler ranks it by its curve
            for step, value in self._on_file(number).intermediate_values.items():
                self._in_memory.set_trial_intermediate_value(number, step, value)
        self._memory.tell(number, ending.values, state=ending.state)

    def _on_file(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number))


def ending_of(trial: FrozenTrial) -> Ending:
    """Read from a finished trial of the journal how its candidate ended."""
    import optuna

    is_complete = trial.state is optuna.trial.TrialState.COMPLETE
    return Ending(trial.state, trial.values if is_complete else None, trial.constraints.get(DIVERGENCE))


def _constrain(study: optuna.Study, trial_id: int, violation: float) -> None:
    import optuna

    trial = optuna.Trial(study, trial_id)
    if DIVERGENCE not in trial.constraints:  # told already, before a crash
        trial.set_constraint(DIVERGENCE, violation)
