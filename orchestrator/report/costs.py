"""What candidates cost away from the workload they were tuned on, seed by seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from orchestrator.home import Trial, TrialState
from orchestrator.report.schema.evidence import TimeMetric
from orchestrator.report.sources import Matcher, Source
from orchestrator.search import Candidates, complete_of, run_cost, run_limit
from orchestrator.spec import BASELINE, Phase
from orchestrator.statistics import ComparedSetting, Cost, SettingTable

NAMED_DIGITS = 6


def table_of(
    sweeps: Sequence[Candidates], sources: Sequence[Source], phase: Phase, metric: TimeMetric = "steps_to_target"
) -> SettingTable:
    """Gather what each candidate cost on each workload and seed.

    Where two sweeps ran the same on the same seed, the first sweep counts. Of confirm, only seeds count that no search
    of the sources has seen. Of a shared search, only candidates count that ran in full, since what the others would
    have cost is not known. The winners of the sources come first, in their order, then what else ran on at least two
    workloads, by number.
    """
    matcher = Matcher(sources)
    seen = {seed for source in sources for seed in source.sweep.spec.search.seeds} if phase == "confirm" else set()
    costs: dict[tuple[str, str], dict[int, Cost]] = {}
    baseline: dict[str, dict[int, Cost]] = {source.workload: {} for source in sources}
    firsts: dict[str, Trial] = {}
    limits = _limits(sweeps, matcher, metric)
    for trial in _trials(sweeps, phase, sources[0].best.config.arm):
        for key, workload in matcher.places(trial.config):
            runs = baseline[workload]
            if key:
                firsts.setdefault(key, trial)
                runs = costs.setdefault((key, workload), {})
            for seed, cost in costs_of(trial, metric, limits.get(workload)).items():
                if seed not in seen:
                    runs.setdefault(seed, cost)
    return SettingTable(
        workloads=tuple(source.workload for source in sources),
        settings=tuple(_settings(sources, firsts, costs)),
        costs=costs,
        baseline=baseline,
        own={source.workload: source.key for source in sources},
    )


def _settings(
    sources: Sequence[Source], firsts: dict[str, Trial], costs: dict[tuple[str, str], dict[int, Cost]]
) -> Iterator[ComparedSetting]:
    winners: dict[str, list[Source]] = {}
    for source in sources:
        winners.setdefault(source.key, []).append(source)
    for key, won in winners.items():
        best, labels = won[0].best.config, [source.workload for source in won]
        if won[0].is_shared:
            # It was found on all workloads together, so a choice that leaves one of them out may still choose it.
            yield ComparedSetting(key, _label(key, best.number), best.values)
        else:
            yield ComparedSetting(key, f"from {', '.join(labels)}", best.values, frozenset(labels))
    counts: dict[str, int] = {}
    for (key, _), runs in costs.items():
        counts[key] = counts.get(key, 0) + bool(runs)
    others = [(firsts[key].config.number, key) for key, count in counts.items() if count > 1 and key not in winners]
    for number, key in sorted(others, key=lambda each: (each[0] is None, each[0] or 0, each[1])):
        yield ComparedSetting(key, _label(key, number), firsts[key].config.values)


def _label(key: str, number: int | None) -> str:
    return key[:NAMED_DIGITS] if number is None else f"#{number} ({key[:NAMED_DIGITS]})"


def _trials(sweeps: Iterable[Candidates], phase: Phase, arm: str) -> Iterator[Trial]:
    """List the trials that may count; a shared search of an arm chose from its own candidates alone."""
    for sweep in sweeps:
        spec = sweep.spec
        only = {arm, BASELINE} if arm in spec.arms and spec.is_shared(arm) else spec.arms.keys()
        shared = sweep.shared if phase == "search" else {}
        whole = {label: {candidate.number for candidate in complete_of(of)} for label, of in shared.items()}
        found = [
            trial
            for trial in sweep.trials
            if trial.config.phase == phase and trial.result is not None and trial.config.arm in only
            if trial.config.arm not in whole or trial.config.number in whole[trial.config.arm]
        ]
        yield from sorted(found, key=lambda trial: (trial.config.number or 0, trial.trial_id))


def _limits(sweeps: Sequence[Candidates], matcher: Matcher, metric: TimeMetric) -> dict[str, float]:
    """Find the budget of each workload, for runs that were ended before they could tell it."""
    found: dict[str, float] = {}
    for trial in (trial for sweep in sweeps for trial in sweep.trials):
        seeds = trial.result.seeds if trial.result is not None else ()
        for _, workload in matcher.places(trial.config) if seeds else ():
            for seed in seeds:
                if seed.num_steps:
                    found[workload] = max(found.get(workload, 0.0), run_limit(seed, metric))
    return found


def costs_of(trial: Trial, metric: TimeMetric, limit: float | None = None) -> dict[int, Cost]:
    """Tell what each seed of a trial cost.

    A divergence or a timeout is a miss on every seed. The answer is empty where the trial gave none, and where early
    stopping ended it, since what it would have cost is not known. ``limit`` is the workload's budget, for a run that
    was ended without a result.
    """
    result = trial.result
    if result is None or result.is_no_answer or result.state is TrialState.PRUNED:
        return {}
    known = {seed.seed: seed for seed in result.seeds if seed.num_steps}
    if result.failure is not None:
        limits = [run_limit(seed, metric) for seed in known.values()] or ([] if limit is None else [limit])
        return dict.fromkeys(trial.config.seeds, Cost.of_miss(max(limits))) if limits else {}
    return {seed: run_cost(found, metric) for seed, found in known.items()}
