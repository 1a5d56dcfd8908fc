"""One search over all workloads: a trial of its study is a setting, run on every workload and seed.

The settings are proposed, remembered and replaced by an ordinary :class:`orchestrator.search.study.Study` over the
shared space. This module runs each of them as units, one per pair of workload and seed, lets the race look at the
units in its order, and tells the study what the setting came to. A unit's result is on file before it is looked at
and the race's decision is in the journal before anything follows from it, so after a crash the same decisions are
there, and what was not decided yet is decided from the same results.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, final

from orchestrator.home import HistoryRow, Trial, TrialConfig, TrialResult, TrialState
from orchestrator.search.candidates import (
    Pair,
    aggregate_of,
    baseline_costs,
    first_failure,
    log_ratio_of,
    race_order,
    unit_configs,
)
from orchestrator.search.journal import STOPPED_AT, TRIAL_ID, Note
from orchestrator.search.study import Point, Study
from orchestrator.spec import ALL, BASELINE, Arm, SharedScope, SweepSpec
from orchestrator.spec.options import SCHEDULERS, TeleportOptions, WilcoxonOptions

if TYPE_CHECKING:
    import optuna


@final
class SettingRace:
    """Decides which settings of one shared search are given up.

    Args:
        options: of the scheduler.
        name: of the study.
        storage: the journal, in which the study is.
    """

    def __init__(self, options: WilcoxonOptions, name: str, storage: optuna.storages.BaseStorage) -> None:
        import optuna

        self._storage = storage
        self._study_id = storage.get_study_id_from_name(name)
        self._judged = optuna.create_study(
            study_name=name,
            direction="minimize",
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=SCHEDULERS[options.name].load()(options),
        )
        self._trials: list[optuna.Trial] = []
        self._best: float | None = None
        self.min_pairs = options.min_pairs
        for stored in storage.get_all_trials(self._study_id, deepcopy=False):
            for step, value in sorted(stored.intermediate_values.items()):
                self._trial(stored.number).report(value, step)

    @property
    def has_leader(self) -> bool:
        """Whether any setting ran in full, so that others can lose to it."""
        return self._best is not None

    def is_out(self, number: int, step: int, log_ratio: float, so_far: float, *, is_last: bool) -> bool:
        """Take in what a setting cost on its next pair.

        Args:
            number: of the setting.
            step: the pair's place in the race's order.
            log_ratio: of its cost over the baseline's, finite: the pruner never gives up what has an infinite value.
            so_far: the setting's aggregate over its pairs up to this one. One that is no worse than the leader's is
                never given up: the signed-rank test speaks of most pairs, the aggregate may be of the worst workload.
            is_last: whether it has no more pairs; then there is nothing left to save.

        Returns:
            Whether the setting is given up here; never where the journal has it as ended, and it runs again since a
            result is no longer on file.
        """
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        stored = self._storage.get_trial(trial_id)
        stopped_at = stored.user_attrs.get(STOPPED_AT)
        if step not in stored.intermediate_values and not stored.state.is_finished():
            trial = self._trial(number)
            trial.report(log_ratio, step)
            is_behind = self._best is not None and so_far > self._best
            if stopped_at is None and not is_last and is_behind and trial.should_prune():
                stopped_at = step
                self._storage.set_trial_user_attr(trial_id, STOPPED_AT, step)
            self._storage.set_trial_intermediate_value(trial_id, step, log_ratio)
        return stopped_at == step

    def end(self, number: int, aggregate: float | None) -> None:
        """Take note that a setting has ended.

        Args:
            number: of the setting.
            aggregate: where it ran in full; None: it lost, or failed.
        """
        import optuna

        states = optuna.trial.TrialState
        state = states.FAIL if aggregate is None else states.COMPLETE
        self._judged.tell(self._trial(number), aggregate, state=state, skip_if_finished=True)
        if aggregate is not None:
            self._best = aggregate if self._best is None else min(self._best, aggregate)

    def _trial(self, number: int) -> optuna.Trial:
        while len(self._trials) <= number:
            self._trials.append(self._judged.ask())
        return self._trials[number]


@final
class _OpenSetting:
    """A setting whose units run, or are to run, in the race's order."""

    def __init__(self, config: TrialConfig, units: Sequence[TrialConfig]) -> None:
        assert config.number is not None
        self.config = config
        self.number = config.number
        self.units = units
        self.results: dict[int, TrialResult] = {}
        self.handed_out: set[int] = set()
        self.log_ratios: list[float] = []

    @property
    def left(self) -> Iterator[int]:
        """Places of the units that have not been handed out and have no result."""
        known = self.handed_out | self.results.keys()
        return (place for place in range(len(self.units)) if place not in known)


@final
class SharedStudy:
    """The search of one arm over all workloads.

    Args:
        spec: of the sweep.
        arm: label.
        storage: from :func:`orchestrator.search.journal.open_journal`.
        results: the search results that are already on file, by trial id.
        points: settings to propose first.
    """

    def __init__(
        self,
        spec: SweepSpec,
        arm: str,
        storage: optuna.storages.BaseStorage,
        results: Mapping[str, TrialResult],
        points: Sequence[Point] = (),
    ) -> None:
        assert isinstance(spec.search.scope, SharedScope)
        self.spec = spec
        self.arm = arm
        self.name = f"{ALL}/{arm}"
        self.is_waiting = True
        self._aggregation = spec.search.scope.aggregate
        self._storage = storage
        self._results = results
        self._points = points
        self._order = race_order(spec)
        self._baselines: dict[str, TrialConfig] = {}
        self._costs: dict[Pair, float] = {}
        self._study: Study | None = None
        self._race: SettingRace | None = None
        self._open: dict[int, _OpenSetting] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._closed: set[int] = set()
        self._dropped: list[TrialConfig] = []

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Names of the searches that must be over first: every baseline's, and that of the arm it follows."""
        source = self.spec.sources.get(self.arm)
        baselines = tuple(f"{workload}/{BASELINE}" for workload in self.spec.workloads)
        return baselines if source is None else (*baselines, f"{ALL}/{source}")

    @property
    def num_handed_out(self) -> int:
        """Settings begun so far."""
        return 0 if self._study is None else self._study.num_handed_out

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to hand out, unless a setting that runs must be replaced."""
        if self.is_waiting:
            return False
        if self._study is None:
            return True
        return self._study.is_exhausted and not any(True for setting in self._open.values() for _ in setting.left)

    @property
    def is_over(self) -> bool:
        """Whether every setting has ended."""
        return self.is_exhausted and not self._open

    def begin(self, best: Mapping[tuple[str, str], Sequence[Trial]]) -> str:
        """End the wait: take over the tuned baselines, and the settings of the arm that this one follows.

        Args:
            best: the best trials of each workload and arm, the best first.

        Returns:
            Why there is nothing to run, in a sentence; empty where there is.
        """
        self.is_waiting = False
        source = self.spec.sources.get(self.arm)
        untuned = [workload for workload in self.spec.workloads if not best[workload, BASELINE]]
        if untuned:
            return f"{self.name} has nothing to compare with: no trial of {untuned[0]}/{BASELINE} ended well"
        settings: TeleportOptions | None = None
        if source is not None:
            chosen = best[next(iter(self.spec.workloads)), source]
            if not chosen:
                return f"{self.name} has no settings to take: no trial of {ALL}/{source} ended well"
            settings = chosen[0].config.method.teleport
        baselines = {workload: best[workload, BASELINE][0] for workload in self.spec.workloads}
        self._baselines = {workload: trial.config for workload, trial in baselines.items()}
        self._costs = baseline_costs(self.spec, baselines)
        settled = self._settled(settings)
        study = Study(self.spec, ALL, self.arm, self._storage, settled, self._points, baselines=self._baselines)
        if isinstance(self.spec.search.scheduler, WilcoxonOptions):
            self._race = SettingRace(self.spec.search.scheduler, self.name, self._storage)
            for trial in self._on_file():
                result = settled.get(str(trial.user_attrs.get(TRIAL_ID)))
                if result is not None and trial.state.is_finished():
                    self._race.end(trial.number, result.value)
        if study.is_waiting:
            study.follow(settings)
        self._study = study
        return ""

    def propose(self) -> TrialConfig | None:
        """Hand out the next unit to run.

        A unit that the race may still save waits for those before it while there is anything else to run.

        Returns:
            Its configuration; None where there is none, or the study waits.
        """
        if self._study is None:
            return None
        while True:
            unit = self._next_unit(may_be_saved=False)
            if unit is not None:
                return unit
            config = self._study.propose()
            if config is None:
                return self._next_unit(may_be_saved=True)
            self._take(config)

    def judge(self, config: TrialConfig, rows: Sequence[HistoryRow]) -> int | None:
        """End a unit that runs on although its setting has ended.

        Args:
            config: of the unit.
            rows: new ones, in order.

        Returns:
            How many of these rows it keeps, where it is to end; None where it goes on.
        """
        is_closed = config.number in self._closed
        return len(rows) if is_closed and any(row.step for row in rows) else None

    def tell(self, result: TrialResult) -> None:
        """Say how a unit ended; saying it again changes nothing, nor does it once its setting has ended.

        Args:
            result: of a unit that was handed out.
        """
        number, place = self._places[result.trial_id]
        setting = self._open.get(number)
        if setting is not None and place not in setting.results:
            setting.results[place] = result
            self._advance(setting)

    def take_dropped(self) -> Sequence[TrialConfig]:
        """Hand over the units that will not run since their settings have ended; each once."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def _next_unit(self, *, may_be_saved: bool) -> TrialConfig | None:
        for setting in self._open.values():
            place = next(setting.left, None)
            if place is None or not (may_be_saved or self._is_due(setting, place)):
                continue
            setting.handed_out.add(place)
            return setting.units[place]
        return None

    def _is_due(self, setting: _OpenSetting, place: int) -> bool:
        if self._race is None or not self._race.has_leader:
            return True
        return place < max(self._race.min_pairs, len(setting.log_ratios) + 1)

    def _take(self, config: TrialConfig) -> None:
        """Open a setting, with what is on file of it."""
        setting = _OpenSetting(config, self._units(config.method, config.values, config.number or 0))
        self._open[setting.number] = setting
        self._closed.discard(setting.number)
        for place, unit in enumerate(setting.units):
            self._places[unit.trial_id] = (setting.number, place)
            result = self._results.get(unit.trial_id)
            # A unit is PRUNED only where its setting has ended, and this one has not.
            if result is not None and result.state is not TrialState.PRUNED:
                setting.results[place] = result
        self._advance(setting)

    def _advance(self, setting: _OpenSetting) -> None:
        """Look at the units that have ended, in the race's order."""
        failed = first_failure(setting.results.values())
        if failed is not None:
            self._close(setting, failed.model_copy(update={"trial_id": setting.config.trial_id}))
            return
        while (place := len(setting.log_ratios)) < len(setting.units):
            result = setting.results.get(place)
            if result is None:
                return
            setting.log_ratios.append(log_ratio_of(self.spec.search.objective, result, self._costs[self._order[place]]))
            if self._race is not None and self._race.is_out(
                setting.number,
                place,
                setting.log_ratios[-1],
                self._aggregate(setting.log_ratios),
                is_last=place + 1 == len(setting.units),
            ):
                self._close(setting, _pruned(setting.config.trial_id, setting.results.values()))
                return
        value = self._aggregate(setting.log_ratios)
        self._close(setting, _complete(setting.config.trial_id, value, setting.results.values()))

    def _close(self, setting: _OpenSetting, result: TrialResult) -> None:
        assert self._study is not None
        del self._open[setting.number]
        self._closed.add(setting.number)
        self._dropped += [setting.units[place] for place in setting.left]
        self._study.tell(result)
        if self._race is not None:
            self._race.end(setting.number, result.value)

    def _aggregate(self, log_ratios: Sequence[float]) -> float:
        """Over the first pairs of the race's order."""
        by_workload: dict[str, list[float]] = defaultdict(list)
        for (workload, _), log_ratio in zip(self._order, log_ratios, strict=False):
            by_workload[workload].append(log_ratio)
        return aggregate_of(self._aggregation, by_workload)

    def _units(self, method: Arm, values: Mapping[str, object], number: int) -> list[TrialConfig]:
        made = unit_configs(self.spec, self._baselines, self.arm, method, dict(values), number)  # type: ignore[arg-type]
        return [made[pair] for pair in self._order]

    def _on_file(self) -> list[optuna.trial.FrozenTrial]:
        try:
            study_id = self._storage.get_study_id_from_name(self.name)
        except KeyError:
            return []
        return self._storage.get_all_trials(study_id, deepcopy=False)

    def _settled(self, settings: TeleportOptions | None) -> dict[str, TrialResult]:
        """Make the results of the settings that had ended; what the journal has as ended but the files have not, runs.

        Returns:
            Id of a setting -> its result.
        """
        found: dict[str, TrialResult] = {}
        for trial in self._on_file():
            note = Note.of(trial)
            if not trial.state.is_finished() or (note is not None and note.is_duplicate):
                continue
            method = Arm.model_validate(self.spec.arms[self.arm].concretise(trial.params))
            method = method if settings is None else method.following(settings)
            units = self._units(method, trial.params, trial.number)
            results = [self._results.get(unit.trial_id) for unit in units]
            ended = self._ending_of(trial, results)
            if ended is None:
                continue
            found[ended.trial_id] = ended
            self._closed.add(trial.number)
            self._places |= {unit.trial_id: (trial.number, place) for place, unit in enumerate(units)}
            self._dropped += [unit for unit, result in zip(units, results, strict=True) if result is None]
        return found

    def _ending_of(self, trial: optuna.trial.FrozenTrial, results: Sequence[TrialResult | None]) -> TrialResult | None:
        trial_id = str(trial.user_attrs[TRIAL_ID])
        known = [result for result in results if result is not None]
        failed = first_failure(known)
        if STOPPED_AT in trial.user_attrs and known:
            return _pruned(trial_id, known)
        if failed is not None:
            return failed.model_copy(update={"trial_id": trial_id})
        if len(known) < len(results) or any(result.state is not TrialState.COMPLETE for result in known):
            return None
        objective = self.spec.search.objective
        log_ratios = [
            log_ratio_of(objective, result, self._costs[pair]) for pair, result in zip(self._order, known, strict=True)
        ]
        return _complete(trial_id, self._aggregate(log_ratios), known)


def _pruned(trial_id: str, units: Iterable[TrialResult]) -> TrialResult:
    return _result(trial_id, TrialState.PRUNED, None, units)


def _complete(trial_id: str, value: float, units: Iterable[TrialResult]) -> TrialResult:
    return _result(trial_id, TrialState.COMPLETE, value, units)


def _result(trial_id: str, state: TrialState, value: float | None, units: Iterable[TrialResult]) -> TrialResult:
    """What a setting came to, as its study hears it; it is on file as its units alone."""
    known = list(units)
    return TrialResult(
        trial_id=trial_id,
        state=state,
        value=value,
        seeds=(),
        started_at=min(unit.started_at for unit in known),
        ended_at=max(unit.ended_at for unit in known),
    )
