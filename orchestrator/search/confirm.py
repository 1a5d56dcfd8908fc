"""The confirm phase: every arm of a workload on one grid of learning rates, on fresh seeds, arms taking turns.

Each arm's search has found a learning rate of its own, and which one is luck where the search was short. So confirm
does not compare an arm at one rate with the baseline at another. It runs every arm, with the method settings that its
own search found, at the same rates, and each arm is judged at its best one. Arms that do the same differ by nothing
then, whatever their searches found.
"""

from __future__ import annotations

import copy
import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

from orchestrator.home import Trial, TrialConfig, TrialResult, TrialState
from orchestrator.search.candidates import Candidates, stored_id, training_id
from orchestrator.search.costs import run_cost
from orchestrator.search.selection import Champions, champions
from orchestrator.spec import (
    BASELINE,
    LEARNING_RATE,
    LR_FACTOR,
    ConfirmGridOptions,
    Json,
    SharedScope,
    SweepSpec,
    Workload,
    grid_range,
)
from orchestrator.statistics import Cost

# A grid that would begin with more points has larger steps.
MOST_POINTS = 9
# Rates are rounded to so many digits.
DIGITS = 4


@final
@dataclass(frozen=True)
class GridPoint:
    """Training values at which every arm of a workload is confirmed.

    Args:
        training: the workload, every value fixed.
        values: the values of the workload's own parameters.
        rate: the value of the parameter that the grid is along; None where the points are whole configurations.
    """

    training: Workload
    values: Mapping[str, Json]
    rate: float | None = None


@final
@dataclass(frozen=True)
class ConfirmGrid:
    """The points at which the arms of a workload are confirmed, and what came of it.

    Args:
        spec: of the sweep.
        workload: its label.
        best: the champions of each arm that has any, one of each of its independent searches.
        points: in the order of their rates.
        ends: the searched range of the rate; None where the grid never grows.
        factor: the ratio of two neighbouring rates.
        results: id of a confirm trial that was begun -> how it ended; None where it has not.
    """

    spec: SweepSpec
    workload: str
    best: Mapping[str, Sequence[Trial]]
    points: tuple[GridPoint, ...]
    ends: tuple[float, float] | None
    factor: float
    results: Mapping[str, TrialResult | None]

    def config(self, champion: Trial, point: GridPoint, seed: int) -> TrialConfig:
        """Make the confirm trial of a champion at a point on one seed."""
        found, own = champion.config.values, _own_names(self.spec, self.workload)
        if self.spec.is_shared(champion.config.arm):
            values = {**found, **{name: v for name, v in point.values.items() if name in found}}
            if LR_FACTOR in values and point.rate is not None:
                values[LR_FACTOR] = point.rate / _at(self.best[BASELINE][0].config.training, LEARNING_RATE)
        else:
            values = {**{name: v for name, v in found.items() if name not in own}, **point.values}
        return _confirm_config(self.spec, champion, seed, point.training, values)

    def configs(self, arm: str, point: GridPoint, seed: int) -> tuple[TrialConfig, ...]:
        """Make the confirm trials of an arm at a point on one seed: one for each of its distinct settings."""
        found = (self.config(champion, point, seed) for champion in self.best[arm])
        return tuple({config.trial_id: config for config in found}.values())

    @property
    def parameter(self) -> str:
        """Name of the parameter that the grid is along, where its points have rates."""
        return _path(self.spec)

    @cached_property
    def ids(self) -> dict[tuple[str, int], dict[str, tuple[int, ...]]]:
        """Arm and place of a point -> id of each trial there -> the replicates of the search that found its settings.

        The trials are those of each setting on every confirm seed.
        """
        seeds = self.spec.confirm_seeds
        found: dict[tuple[str, int], dict[str, tuple[int, ...]]] = {}
        for arm, searched in self.best.items():
            for place, point in enumerate(self.points):
                there = found[arm, place] = {}
                for champion in searched:
                    config = self.config(champion, point, seeds[0])
                    for trial_id in (config.trial_id_on((seed,)) for seed in seeds):
                        there[trial_id] = (*there.get(trial_id, ()), champion.config.replicate)
        return found

    @cached_property
    def mean_log_steps(self) -> dict[str, tuple[float, ...]]:
        """Arm -> at each point the mean over settings and seeds of the logarithm of the steps to target.

        A miss costs twice the budget, and so does a divergence. A crash is no answer. Infinite where there is none.
        """
        return {arm: tuple(self._mean(arm, place) for place in range(len(self.points))) for arm in self.best}

    def best_place(self, arm: str) -> int:
        """Find the place of an arm's best point: the smallest mean; of equals the nearest to what its search found."""
        means = self.mean_log_steps[arm]
        return min(range(len(self.points)), key=lambda place: (means[place], self._distance(arm, place), place))

    @property
    def edges(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The arms that are best at the lowest rate, and those that are best at the highest."""
        if self.points[0].rate is None or len(self.points) == 1:
            return (), ()
        places = {arm: self.best_place(arm) for arm in self.best}
        last = len(self.points) - 1
        return tuple(a for a, at in places.items() if at == 0), tuple(a for a, at in places.items() if at == last)

    @property
    def is_complete(self) -> bool:
        """Whether every arm has ended on every seed at every point."""
        return all(self.results.get(one) is not None for of in self.ids.values() for one in of)

    def grown(self) -> ConfirmGrid | None:
        """Add a point beyond each end at which an arm is best; None where there is nothing to add."""
        if self.ends is None or not self.is_complete:
            return None
        lowest, highest = self.points[0].rate, self.points[-1].rate
        assert lowest is not None
        assert highest is not None
        at_low, at_high = self.edges
        more: list[float] = []
        if at_low and lowest > self.ends[0]:
            more.append(lowest / self.factor)
        if at_high and highest < self.ends[1]:
            more.append(highest * self.factor)
        if not more:
            return None
        points = [*self.points, *(_point(self.spec, self.workload, _all(self.best), rate) for rate in more)]
        return replace(self, points=tuple(sorted(points, key=lambda point: point.rate or 0.0)))

    def _mean(self, arm: str, place: int) -> float:
        found = [self.results.get(one) for one in self.ids[arm, place]]
        costs = [cost for result in found if result is not None and (cost := self._cost(result)) is not None]
        return sum(math.log(cost.value) for cost in costs) / len(costs) if costs else math.inf

    def _cost(self, result: TrialResult) -> Cost | None:
        if result.state is TrialState.COMPLETE:
            return run_cost(result.seeds[0], "steps_to_target")
        if result.is_no_answer:
            return None
        return Cost.of_miss(result.seeds[0].budget_steps if result.seeds else self._budget)

    @cached_property
    def _budget(self) -> float:
        """The steps of a whole run, for a run that was ended before it could tell."""
        seeds = (seed for result in self.results.values() if result is not None for seed in result.seeds)
        return float(max((seed.budget_steps for seed in seeds), default=1))

    def _distance(self, arm: str, place: int) -> float:
        rate, training = self.points[place].rate, self.best[arm][0].config.training
        if rate is None:
            return float(training_id(training) != training_id(self.points[place].training))
        return abs(math.log(rate / _at(training, _path(self.spec))))


def confirm_grids(candidates: Candidates) -> dict[str, ConfirmGrid]:
    """Make the confirm grid of each workload, as far as it has grown; empty where ``confirm.grid`` is none."""
    spec = candidates.spec
    if not isinstance(spec.confirm.grid, ConfirmGridOptions) or not spec.confirm_seeds:
        return {}
    best = champions(candidates)
    results = {trial.config.trial_id: trial.result for trial in candidates.trials if trial.config.phase == "confirm"}
    found = {}
    for workload in spec.workloads:
        num = spec.search.replicates
        firsts = {arm: best[workload, arm][:num] for arm in spec.arms if best[workload, arm]}
        if firsts:
            grid = _first_grid(spec, workload, firsts, results)
            while (wider := grid.grown()) is not None:
                grid = wider
            found[workload] = grid
    return found


def _first_grid(
    spec: SweepSpec, workload: str, best: Mapping[str, Sequence[Trial]], results: Mapping[str, TrialResult | None]
) -> ConfirmGrid:
    options, every = spec.confirm.grid, _all(best)
    assert isinstance(options, ConfirmGridOptions)
    ends = _ends(spec, workload, best)
    if options.values is not None:
        points = tuple(_point(spec, workload, every, rate) for rate in options.values)
        return ConfirmGrid(spec, workload, best, points, None, options.factor, results)
    if ends is None:
        whole: dict[str, GridPoint] = {}
        for trial in every:
            training = trial.config.training
            whole.setdefault(training_id(training), GridPoint(training, _own_values(spec, workload, trial)))
        return ConfirmGrid(spec, workload, best, tuple(whole.values()), None, options.factor, results)
    rates = [_at(trial.config.training, _path(spec)) for trial in every]
    span = math.log(max(rates) / min(rates))
    num_steps = min(math.ceil(span / math.log(options.factor) - 1e-9), MOST_POINTS - 3)
    factor = max(options.factor, math.exp(span / num_steps)) if num_steps else options.factor
    points = tuple(_point(spec, workload, every, min(rates) * factor**step) for step in range(-1, num_steps + 2))
    ends = min(ends[0], *rates), max(ends[1], *rates)
    return ConfirmGrid(spec, workload, best, points, ends, factor, results)


def _all(best: Mapping[str, Sequence[Trial]]) -> list[Trial]:
    return [trial for trials in best.values() for trial in trials]


def _ends(spec: SweepSpec, workload: str, best: Mapping[str, Sequence[Trial]]) -> tuple[float, float] | None:
    """The searched range of the rate; None where the points are whole configurations."""
    along, scope = grid_range(spec.workloads[workload], spec.confirm), spec.search.scope
    ends = None if along is None else (along.low, along.high)
    factors = scope.lr_factor if isinstance(scope, SharedScope) and _path(spec) == LEARNING_RATE else None
    if factors is not None and BASELINE in best:
        low, high = (_at(best[BASELINE][0].config.training, LEARNING_RATE) * factor for factor in factors)
        ends = (low, high) if ends is None else (min(ends[0], low), max(ends[1], high))
    return ends


def _point(spec: SweepSpec, workload: str, best: Iterable[Trial], rate: float) -> GridPoint:
    """Make a point: all but its rate is as the champion has it whose own rate is nearest."""
    path, rate = _path(spec), float(f"{rate:.{DIGITS}g}")
    nearest = min(best, key=lambda trial: abs(math.log(rate / _at(trial.config.training, path))))
    data = copy.deepcopy(nearest.config.training.model_dump(exclude_unset=True))
    *parents, last = path.split(".")
    inner = data
    for name in parents:
        inner = inner[name]
    inner[last] = rate
    values = _own_values(spec, workload, nearest)
    if path in values:
        values[path] = rate
    return GridPoint(Workload.model_validate(data), values, rate)


def _own_values(spec: SweepSpec, workload: str, trial: Trial) -> dict[str, Json]:
    """The values of the workload's own parameters; a shared candidate has those of the tuned baseline."""
    names = _own_names(spec, workload)
    return {name: value for name, value in trial.config.values.items() if name in names}


def _own_names(spec: SweepSpec, workload: str) -> set[str]:
    return {distribution.name for distribution in spec.workloads[workload].distributions()}


def _path(spec: SweepSpec) -> str:
    options = spec.confirm.grid
    assert isinstance(options, ConfirmGridOptions)
    return options.parameter or LEARNING_RATE


def _at(training: Workload, path: str) -> float:
    inner: Any = training.model_dump()
    for name in path.split("."):
        inner = inner[name]
    return float(inner)


def _confirm_config(
    spec: SweepSpec, champion: Trial, seed: int, training: Workload, values: dict[str, Json]
) -> TrialConfig:
    config = champion.config
    return TrialConfig(
        workload=config.workload,
        arm=config.arm,
        phase="confirm",
        seeds=(seed,),
        training=training,
        method=config.method,
        objective=config.objective,
        also=config.also,
        values=values,
        origin=stored_id(champion),
        replicate=config.replicate,
        share=spec.resources.share("confirm"),
        checkpoint_every=spec.checkpoint.every,
        system_metrics_every=spec.tracking.system_metrics_every,
    )


def confirmed(candidates: Candidates, grids: Mapping[str, ConfirmGrid]) -> Champions:
    """Choose the candidates that go to confirm, those on the grid as they are at their arm's best point of it."""
    found, spec = champions(candidates), candidates.spec
    for (workload, arm), trials in found.items():
        if workload in grids and trials:
            grid, num = grids[workload], spec.search.replicates
            point = grid.points[grid.best_place(arm)]
            found[workload, arm] = (*(_at_point(grid, trial, point) for trial in trials[:num]), *trials[num:])
    return found


def _at_point(grid: ConfirmGrid, champion: Trial, point: GridPoint) -> Trial:
    """Give a champion's search trial the training values of a point."""
    seeds, number = champion.config.seeds, champion.config.number
    config = grid.config(champion, point, seeds[0])
    search = {"phase": "search", "seeds": seeds, "number": number, "origin": None}
    plain = {name: getattr(config, name) for name in TrialConfig.model_fields} | search
    return Trial(config=TrialConfig(**plain), result=champion.result)


def confirm_configs(candidates: Candidates) -> list[TrialConfig]:
    """List the confirm trials that are planned by now, in the order to run them.

    Those are the first choice of each arm at every point of its workload's grid, and its other candidates as their
    search found them. Arms take turns within each seed, and every other seed comes in the opposite order, so that a
    machine that slows down or heats up hurts all alike.
    """
    spec, grids = candidates.spec, confirm_grids(candidates)
    by_seed: list[list[TrialConfig]] = []
    chosen = champions(candidates)
    for turn, seed in enumerate(spec.confirm_seeds):
        configs = [
            config
            for grid in grids.values()
            for point in grid.points
            for arm in grid.best
            for config in grid.configs(arm, point, seed)
        ]
        configs += [
            _confirm_config(spec, trial, seed, trial.config.training, dict(trial.config.values))
            for trials in chosen.values()
            for trial in trials[spec.search.replicates * bool(grids) :]
        ]
        by_seed.append(configs if turn % 2 == 0 else configs[::-1])
    return list({config.trial_id: config for configs in by_seed for config in configs}.values())


@final
class Confirmation:
    """What is left to confirm; the grids may grow once everything has ended."""

    def __init__(self, candidates: Candidates) -> None:
        self._left: deque[TrialConfig] = deque()
        self._known = {trial.config.trial_id for trial in candidates.trials if trial.result is not None}
        self.num_planned: Counter[tuple[str, str]] = Counter()
        self.is_settled = False
        self.grow(candidates)

    @property
    def is_exhausted(self) -> bool:
        """Whether every confirm trial that is planned by now has been handed out."""
        return not self._left

    def grow(self, candidates: Candidates) -> None:
        """Plan what the results on file ask for; ``is_settled`` tells that nothing has come of it."""
        configs = confirm_configs(candidates)
        self.num_planned = Counter((config.workload, config.arm) for config in configs)
        new = [config for config in configs if config.trial_id not in self._known]
        self._left.extend(new)
        self._known |= {config.trial_id for config in new}
        self.is_settled = not new

    def propose(self) -> TrialConfig | None:
        """Hand out the next trial; None where there is none."""
        return self._left.popleft() if self._left else None
