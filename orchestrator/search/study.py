"""The search's memory: one Optuna study per workload and arm, in one journal with one writer.

A study proposes configurations and is told how they ended. The sweep's own files are the truth; the journal is
what the sampler learns from. After a crash a study is brought level with the files, and what had been proposed
but not finished is handed out again under its own number.

The study of a control takes the settings that the search of its teleport arm has chosen, so it waits until that
search is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, final

from orchestrator.errors import SearchNotReproducible
from orchestrator.home import HistoryRow, Trial, TrialConfig, TrialResult
from orchestrator.search.candidates import training_of
from orchestrator.search.counts import num_configurations
from orchestrator.search.early_stopping import Stopping
from orchestrator.search.grid import Grid
from orchestrator.search.journal import TRIAL_ID, Drawn, Ending, Note, StudyLog, Verdicts, ending_of
from orchestrator.search.points import suggest
from orchestrator.search.replay import Order, Turns
from orchestrator.search.samplers import Draw, make_sampler
from orchestrator.spec import ALL, Arm, Json, Search, SweepSpec, Template, Workload
from orchestrator.spec.options import GridOptions, RandomOptions, TeleportOptions

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

SAMPLED_DUPLICATES = 8

Point = Mapping[str, Json]


@final
class Draws:
    """The draws of one study.

    Args:
        search: of the spec.
        study: its name.
        templates: whose distributions are searched.
        points: to propose first, in this order.
    """

    def __init__(self, search: Search, study: str, templates: Sequence[Template], points: Sequence[Point]) -> None:
        self._search = search
        self._study = study
        self._templates = templates
        self._points = points
        self._grid: Grid | None = None
        self._order: list[int] = []
        if isinstance(search.sampler, GridOptions):
            self._grid = Grid(templates, search.sampler.points)
            # As many as are needed should every point above be one of the grid's, and every replacement be made.
            length = search.trials + search.num_replaceable + len(points)
            self._order = self._grid.order(self._draw(0, {}).study_seed, length)

    def of(self, number: int) -> Draw | None:
        """Tell what is settled of a trial.

        Args:
            number: of the trial.

        Returns:
            Its draw; None where a grid has no more points.
        """
        at = number - len(self._points)
        if at < 0:
            return self._draw(number, self._points[number])
        if self._grid is None:
            return self._draw(number, {})
        return self._draw(number, self._grid.point(self._order[at])) if at < len(self._order) else None

    def sampler(self, draw: Draw, num_duplicates: int) -> BaseSampler:
        """Make the sampler of a trial.

        Args:
            draw: of the trial.
            num_duplicates: how many proposals before it had been there already, one after the other.

        Returns:
            The study's sampler, or, where that keeps proposing what was there, a random one.
        """
        if num_duplicates >= SAMPLED_DUPLICATES:
            return make_sampler(RandomOptions(name="random"), draw)
        return make_sampler(self._search.sampler, draw)

    def _draw(self, number: int, fixed: Point) -> Draw:
        return Draw(self._search.seed, self._study, number, self._templates, fixed)


ALL_DUPLICATES = 256


@final
class Study:
    """The search of one workload and arm, or of one arm over all workloads.

    Args:
        spec: of the sweep.
        workload: label of the workload.
        arm: label of the arm.
        storage: from :func:`orchestrator.search.journal.open_journal`.
        results: the search results that are already on file, by trial id. Where the arm is a control that takes
            its settings from another, they are looked at when these are there.
        points: to propose first, in this order; what a point leaves open the sampler chooses.
        order: of an earlier search, to propose as that did; None: by what has ended when it is asked.
        baselines: of a search over all workloads (``*``), each workload's tuned baseline. Its configurations are
            settings, of which each stands here for itself on the first workload.
    """

    def __init__(
        self,
        spec: SweepSpec,
        workload: str,
        arm: str,
        storage: optuna.storages.BaseStorage,
        results: Mapping[str, TrialResult],
        points: Sequence[Point] = (),
        order: Order | None = None,
        baselines: Mapping[str, TrialConfig] | None = None,
    ) -> None:
        self.spec = spec
        self.workload = workload
        self.arm = arm
        self.name = f"{workload}/{arm}"
        self._templates = spec.space(workload, arm)
        self._baseline = None if baselines is None else next(iter(baselines.values()))
        modes = [objective.mode for objective in spec.search.objectives]
        self._is_rebuilt = spec.search.sampler.is_rebuilt_by_replay
        self._log = StudyLog(storage, self.name, modes, keeps_attributes=not self._is_rebuilt)
        self._verdicts = Verdicts(spec.search)
        self._draws = Draws(spec.search, self.name, self._templates, points)
        self._turns = None if order is None else Turns(order)
        stops = None if order is None else order.stops
        self._stopping = Stopping(spec, workload, self.name, storage, stops) if spec.search.scheduler.rungs else None
        # A trial's whole configuration is kept only while it is open: thousands may have ended.
        self._numbers: dict[str, int] = {}
        self._open: set[str] = set()
        self._pending: deque[TrialConfig] = deque()
        self._held: dict[int, TrialResult] = {}
        self._num_duplicates = 0
        self._num_no_answer = 0
        # Trials this search has in all, those that replace others included.
        self.num_planned = num_configurations(spec, workload, arm)
        self._is_exhausted = False
        self._results = results
        self._settings: TeleportOptions | None = None
        self.source = spec.sources.get(arm)
        self.is_waiting = self.source is not None
        if not self.is_waiting:
            self._take_up(results)

    @property
    def num_handed_out(self) -> int:
        """Distinct configurations handed out so far; one that was cut off counts again when it is handed out again."""
        return len(self._numbers) - len(self._pending)

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to propose, unless one that runs must be replaced."""
        if self.is_waiting or self._pending:
            return False
        return self._is_exhausted or len(self._numbers) >= self.num_planned

    @property
    def is_over(self) -> bool:
        """Whether every trial has ended."""
        return self.is_exhausted and not self._open

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Names of the searches that must be over first."""
        return () if self.source is None else (f"{self.workload}/{self.source}",)

    def begin(self, best: Mapping[tuple[str, str], Sequence[Trial]]) -> str:
        """End the wait: take over what the searches have found that this one waits for.

        Args:
            best: the best trials of each workload and arm, the best first.

        Returns:
            Why there is nothing to run, in a sentence; empty where there is.
        """
        assert self.source is not None
        chosen = best[self.workload, self.source]
        self.follow(chosen[0].config.method.teleport if chosen else None)
        told = f"{self.name} has no settings to take: no trial of {self.workload}/{self.source} ended well"
        return "" if chosen else told

    def take_dropped(self) -> Sequence[TrialConfig]:
        """Hand over the trials that were planned and will not run: none, each goes by itself."""
        return ()

    def follow(self, settings: TeleportOptions | None) -> None:
        """End the wait for another arm's search.

        Args:
            settings: what it has chosen; None: nothing, so that this study has nothing to run.
        """
        self.is_waiting = False
        self._settings = settings
        if settings is None:
            self._is_exhausted = True
        else:
            self._take_up(self._results)

    def propose(self) -> TrialConfig | None:
        """Hand out the next configuration to run.

        Returns:
            The configuration, one that was cut off before any new one; None where the search is exhausted, waits
            for another arm's, or follows an order whose next proposal comes after a trial that still runs.
        """
        if self._pending:
            return self._pending.popleft()
        if self.is_waiting or self.is_exhausted:
            return None
        while self._num_duplicates < ALL_DUPLICATES:
            number = self._log.num_trials
            if self._turns is not None and not self._turns.may_propose(number):
                return None
            draw = self._draws.of(number)
            if draw is None:
                break
            config = self._keep(self._draw(draw))
            self._release()
            if config is not None:
                return config
        self._is_exhausted = True
        return None

    def judge(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> int | None:
        """Let the scheduler see new rows of a running trial; see :meth:`Stopping.judge`.

        Args:
            config: that this study proposed.
            rows: in order; first of all those that it keeps from before it was cut off.

        Returns:
            How many of these rows the trial keeps, where it is to end; None where it goes on.
        """
        return None if self._stopping is None else self._stopping.judge(config, rows)

    def tell(self, result: TrialResult) -> None:
        """Say how a trial ended; saying it again changes nothing.

        Args:
            result: of a configuration that this study proposed.
        """
        if result.trial_id not in self._open:
            return
        self._open.discard(result.trial_id)
        self._count(result)
        self._held[self._numbers[result.trial_id]] = result
        self._release()

    def _release(self) -> None:
        """Pass on what ended, but for what an order that is followed has later."""
        for number in sorted(self._held):
            if self._turns is None or self._turns.may_tell(number, self._log.num_trials):
                ending = self._verdicts.ending(self._held.pop(number))
                self._log.tell(number, ending)
                self._end_judging(number, ending)
                if self._turns is not None:
                    self._turns.on_told(number)

    def _end_judging(self, number: int, ending: Ending) -> None:
        if self._stopping is not None:
            self._stopping.end(number, ending.state, None if ending.values is None else ending.values[0])

    def _count(self, result: TrialResult) -> None:
        if result.is_no_answer:
            self._num_no_answer += 1
            self.num_planned = num_configurations(self.spec, self.workload, self.arm, self._num_no_answer)

    def _draw(self, draw: Draw) -> Drawn:
        sampler = self._draws.sampler(draw, self._num_duplicates)
        return self._log.draw(sampler, lambda trial: suggest(self._templates, trial))

    def _keep(self, drawn: Drawn) -> TrialConfig | None:
        config = self._config(drawn.values, drawn.number)
        is_duplicate = config.trial_id in self._numbers
        self._log.keep(drawn, config.trial_id, is_duplicate=is_duplicate)
        if is_duplicate:
            self._num_duplicates += 1
            return None
        self._add(config.trial_id, drawn.number)
        return config

    def _add(self, trial_id: str, number: int) -> None:
        self._num_duplicates = 0
        self._numbers[trial_id] = number
        self._open.add(trial_id)

    def _config(self, values: dict[str, Json], number: int) -> TrialConfig:
        method = Arm.model_validate(self._templates[1].concretise(values))
        if self._settings is not None:
            method = method.following(self._settings)
        return TrialConfig(
            workload=self.workload,
            arm=self.arm,
            phase="search",
            seeds=self.spec.search.seeds,
            training=self._training(values),
            method=method,
            objective=self.spec.search.objective,
            also=self.spec.search.also,
            values=values,
            number=number,
            share=self.spec.resources.share("search"),
            checkpoint_every=self.spec.checkpoint.every,
            system_metrics_every=self.spec.tracking.system_metrics_every,
        )

    def _training(self, values: dict[str, Json]) -> Workload:
        if self._baseline is not None:
            return training_of(self.spec, self._baseline, values)
        return Workload.model_validate(self._templates[0].concretise(values))

    def _take_up(self, results: Mapping[str, TrialResult]) -> None:
        """Bring the study level with the files, and find what was proposed but has not ended."""
        self._log.refuse(trial.number for trial in self._log.on_file() if self._trial_id(trial) is None)
        trials = self._log.on_file()
        for trial in trials:
            if self._is_rebuilt:
                self._ask_again(trial, trials)
            else:
                self._log.recall(trial)
            self._recall(trial, results)
        for trial in trials:
            if trial.state.is_finished():
                ending = ending_of(trial)
                self._log.repeat_tell(trial.number, ending)
                self._end_judging(trial.number, ending)
        self._release()

    def _recall(self, trial: FrozenTrial, results: Mapping[str, TrialResult]) -> None:
        """Take note of a trial of the journal, and of its result where that is on file."""
        import optuna

        trial_id = self._trial_id(trial)
        note = Note.of(trial)
        if trial_id is None:
            return
        if trial_id in self._numbers:
            self._num_duplicates += 1
            if not trial.state.is_finished():  # dismissed by an older version, which died before it said so
                self._log.tell(trial.number, Ending(optuna.trial.TrialState.FAIL))
            return
        self._add(trial_id, trial.number)
        result = results.get(trial_id)
        if result is None:
            self._pending.append(self._config(dict(trial.params), trial.number))
            return
        self._open.discard(trial_id)
        if note is not None:  # an older version replaced none, and may have begun to confirm
            self._count(result)
        if trial.state.is_finished():
            self._verdicts.recall(trial)
            if self._turns is not None:
                self._turns.on_told(trial.number)
        else:
            self._held[trial.number] = result

    def _trial_id(self, trial: FrozenTrial) -> str | None:
        """The id of a trial's configuration; None where an older version had not put all its values on file."""
        stored = trial.user_attrs.get(TRIAL_ID)
        if stored is not None:
            return str(stored)
        try:
            return self._config(dict(trial.params), trial.number).trial_id
        except KeyError:
            return None

    def _ask_again(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> None:
        """Bring the sampler to where it was by doing again what was done; it must propose what is on file."""
        note, draw = Note.of(trial), self._draws.of(trial.number)
        assert note is not None
        assert draw is not None
        for number in note.told:
            self._log.repeat_tell(number, ending_of(trials[number]))
        drawn = self._draw(draw)
        if drawn.values != trial.params:
            name = self.spec.search.sampler.name
            raise SearchNotReproducible(
                f"{self.name}: {name} proposes {drawn.values} for trial {trial.number}, but {trial.params} is on file; "
                f"{name} or numpy was updated since: go on with the versions of provenance.json, or begin a new sweep "
                "that takes this one's best points (search.warm_start)"
            )
        self._log.repeat_keep(drawn, note)


def plan_studies(
    spec: SweepSpec,
    storage: optuna.storages.BaseStorage,
    results: Iterable[TrialResult],
    points: Mapping[str, Sequence[Point]] | None = None,
    orders: Mapping[str, Order] | None = None,
) -> list[Study]:
    """Open the study of every workload and arm that has one of its own.

    Args:
        spec: of the sweep.
        storage: from :func:`orchestrator.search.journal.open_journal`.
        results: the search results on file.
        points: what each study proposes first, by its name.
        orders: that studies follow, by their names, from :func:`orchestrator.search.replay.read_orders`.

    Returns:
        The studies, workload by workload.
    """
    known = {result.trial_id: result for result in results}
    points, orders = points or {}, orders or {}
    return [
        Study(spec, workload, arm, storage, known, points.get(name, ()), orders.get(name))
        for workload, arm in spec.searches
        if workload != ALL
        for name in [f"{workload}/{arm}"]
    ]
