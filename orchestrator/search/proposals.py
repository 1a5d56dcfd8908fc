"""Proposes the candidates of one search, in an order that depends on nothing but the spec and the results.

Proposal ``n`` is made when the candidates ``0 … n − c`` have ended, and its sampler has been told exactly these, in the
order of their numbers. ``c`` is ``search.concurrency``. A result that comes earlier waits for its turn. So the same
spec and seed propose the same candidates with one worker or with many, under every launcher, and after every kill.

A sampler works on a study in memory. What it proposes goes into the sweep's journal whole, in one line. A driver that
dies leaves a proposal on file or none, never a part of one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, final

from orchestrator.errors import SearchNotReproducible
from orchestrator.search.counts import num_candidates
from orchestrator.search.grid import Grid
from orchestrator.search.journal import CandidateOutcome, Note, StudyLog, ending_of, told_to_sampler
from orchestrator.search.points import suggest
from orchestrator.search.samplers import Draw, make_sampler
from orchestrator.spec import Json, SweepSpec
from orchestrator.spec.options import GridOptions, RandomOptions

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

# After so many proposals in a row that had been made before, a random sampler takes over …
SAMPLED_DUPLICATES = 8
# … and after so many the space counts as exhausted.
ALL_DUPLICATES = 256

Point = Mapping[str, Json]


@final
class Proposals:
    """The proposals of one search.

    Args:
        spec: of the sweep.
        study: labels of the workload, ``*`` for a search over all of them, and of the arm.
        name: of the search.
        storage: from :func:`orchestrator.search.journal.open_journal`.
        points: proposed first, in this order; the sampler chooses what a point leaves open.
        run_ids: makes of a candidate's values and number the ids of its runs, in their order. Two candidates whose
            first runs have the same id are the same, and the later one is dismissed.
    """

    def __init__(
        self,
        spec: SweepSpec,
        study: tuple[str, str],
        name: str,
        storage: optuna.storages.BaseStorage,
        points: Sequence[Point],
        run_ids: Callable[[dict[str, Json], int], Sequence[str]],
    ) -> None:
        self._spec = spec
        self._study = study
        self._points = points
        self._run_ids = run_ids
        self._templates = spec.space(*study)
        self._name = name
        self._is_rebuilt = spec.search.sampler.is_rebuilt_by_replay
        modes = [objective.mode for objective in spec.search.objectives]
        self._log = StudyLog(storage, self._name, modes, keeps_attributes=not self._is_rebuilt)
        self._grid: Grid | None = None
        self._grid_order: list[int] = []
        if isinstance(spec.search.sampler, GridOptions):
            self._grid = Grid(self._templates, spec.search.sampler.points)
            # As many as are needed should every point above be one of the grid's, and every replacement be made.
            length = spec.search.trials + spec.search.num_replaceable + len(points)
            self._grid_order = self._grid.order(self._draw_of(0, {}).study_seed, length)
        self._known: set[str] = set()
        # Candidates that the sampler has not been told of -> how they ended; None: they have not.
        self._untold: dict[int, CandidateOutcome | None] = {}
        self._worst: tuple[float, ...] | None = None
        self._num_duplicates = 0
        self._num_no_answer = 0
        self._is_space_exhausted = False
        # Candidates of this search in all, those that replace others included.
        self.num_planned = num_candidates(spec, *study)

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to propose, unless a candidate that runs must be replaced."""
        return self._is_space_exhausted or len(self._known) >= self.num_planned

    def take_up(self) -> list[tuple[int, dict[str, Json], tuple[str, ...]]]:
        """Read from the journal what had been proposed, once, before anything else.

        Returns:
            Number, values and ids of the runs of every candidate.

        Raises:
            SearchNotReproducible: the sampler must propose again what is on file, and proposes something else.
        """
        trials = self._log.on_file()
        ended = deque(trial for trial in trials if trial.state.is_finished() and not Note.of(trial).is_duplicate)
        found = []
        for trial in trials:
            note = Note.of(trial)
            if self._is_rebuilt:
                while ended and ended[0].number <= trial.number - self._spec.search.concurrency:
                    self._repeat_tell(ended.popleft())
                self._ask_again(trial, note)
            else:
                self._log.recall(trial, note)
            if note.is_duplicate:
                self._num_duplicates += 1
                continue
            self._add(trial.number, note.run_ids)
            if trial.state.is_finished():
                self._recall_end(trial)
            found.append((trial.number, dict(trial.params), note.run_ids))
        for trial in ended:
            self._repeat_tell(trial)
        return found

    def propose(self) -> tuple[int, dict[str, Json], tuple[str, ...]] | None:
        """Make the next proposal.

        Returns:
            Number, values and ids of the runs; None where the search is exhausted, or waits for a candidate to end.
        """
        while not self.is_exhausted:
            number = self._log.num_trials
            if not self._tell(number - self._spec.search.concurrency):
                return None
            draw = self._draw(number)
            if draw is None or self._num_duplicates >= ALL_DUPLICATES:
                self._is_space_exhausted = True
                return None
            drawn = self._log.draw(self._sampler(draw), lambda trial: suggest(self._templates, trial))
            run_ids = tuple(self._run_ids(drawn.values, drawn.number))
            is_duplicate = run_ids[0] in self._known
            self._log.keep(drawn, run_ids, is_duplicate=is_duplicate)
            if is_duplicate:
                self._num_duplicates += 1
                continue
            self._add(number, run_ids)
            return number, drawn.values, run_ids
        return None

    def end(self, number: int, outcome: CandidateOutcome) -> None:
        """Take in how a candidate ended; the sampler is told when it is the candidate's turn."""
        if outcome.is_no_answer:
            self._num_no_answer += 1
            self.num_planned = num_candidates(self._spec, *self._study, self._num_no_answer)
        if number in self._untold:
            self._untold[number] = outcome
        is_over = self.is_exhausted and None not in self._untold.values()
        # What the next proposal is made with is told at once, so that the journal shows it while the search waits.
        self._tell(self._log.num_trials - (0 if is_over else self._spec.search.concurrency))

    def _add(self, number: int, run_ids: Sequence[str]) -> None:
        self._num_duplicates = 0
        self._known.add(run_ids[0])
        self._untold[number] = None

    def _tell(self, last: int) -> bool:
        """Tell the sampler of the candidates up to a number; whether all of them have ended."""
        while self._untold and (number := next(iter(self._untold))) <= last:
            outcome = self._untold[number]
            if outcome is None:
                return False
            ending = told_to_sampler(outcome, self._spec.search, self._worst)
            self._log.tell(number, ending)
            del self._untold[number]
            if outcome.values:
                self._see(outcome.values)
        return True

    def _see(self, values: tuple[float, ...]) -> None:
        """Keep the worst value of each objective."""
        worst = self._worst or values
        self._worst = tuple(
            (max if objective.mode == "min" else min)(pair)
            for objective, pair in zip(self._spec.search.objectives, zip(values, worst, strict=True), strict=True)
        )

    def _recall_end(self, trial: FrozenTrial) -> None:
        del self._untold[trial.number]
        ending = ending_of(trial)
        if ending.values is not None and not (ending.violation or 0.0) > 0.0:
            self._see(tuple(ending.values))

    def _repeat_tell(self, trial: FrozenTrial) -> None:
        self._log.repeat_tell(trial.number, ending_of(trial))

    def _ask_again(self, trial: FrozenTrial, note: Note) -> None:
        """Let the sampler propose again what is on file."""
        draw = self._draw(trial.number)
        assert draw is not None
        drawn = self._log.draw(self._sampler(draw), lambda asked: suggest(self._templates, asked))
        if drawn.values != trial.params:
            name = self._spec.search.sampler.name
            raise SearchNotReproducible(
                f"{self._name}: {name} proposes {drawn.values} for trial {trial.number}, but {trial.params} is on "
                f"file; {name} or numpy was updated since: go on with the versions of provenance.json, or begin a new "
                "sweep that takes this one's best points (search.warm_start)"
            )
        if note.is_duplicate:
            self._log.dismiss(drawn.number)

    def _draw(self, number: int) -> Draw | None:
        """Say what of a proposal is settled before a sampler is asked; None where a grid has no more points."""
        at = number - len(self._points)
        if at < 0:
            return self._draw_of(number, self._points[number])
        if self._grid is None:
            return self._draw_of(number, {})
        if at >= len(self._grid_order):
            return None
        return self._draw_of(number, self._grid.point(self._grid_order[at]))

    def _draw_of(self, number: int, fixed: Point) -> Draw:
        return Draw(self._spec.search.seed, self._name, number, self._templates, fixed)

    def _sampler(self, draw: Draw) -> BaseSampler:
        is_stuck = self._num_duplicates >= SAMPLED_DUPLICATES
        return make_sampler(RandomOptions(name="random") if is_stuck else self._spec.search.sampler, draw)
