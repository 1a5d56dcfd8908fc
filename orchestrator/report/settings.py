"""Which settings ran on which workloads, recognised by their configuration, whatever sweeps and arms are called.

A setting is an arm's options with every value fixed. It counts on a workload where it ran with the training values that
were tuned for the workload's baseline, so that settings are compared with each other and with nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.costs import run_cost, run_limit
from orchestrator.errors import Fault
from orchestrator.ids import digest
from orchestrator.report.champions import champions
from orchestrator.report.schema.evidence import TimeMetric
from orchestrator.results import SweepRecord, Trial, TrialState
from orchestrator.spec import BASELINE, Arm, Phase, Workload
from orchestrator.statistics import Cost, Setting, SettingTable

NAMED_DIGITS = 6


@final
@dataclass(frozen=True)
class Source:
    """A workload on which an arm was tuned.

    Args:
        workload: label.
        record: the sweep that tuned it there.
        best: the arm's champion.
        baseline: the baseline's champion: its training values are those of every setting on this workload.
    """

    workload: str
    record: SweepRecord
    best: Trial
    baseline: Trial

    @property
    def training(self) -> str:
        """Identity of the workload with these training values."""
        return training_id(self.baseline.config.training)


def training_id(training: Workload) -> str:
    """Identify a workload with every value fixed; where data lies does not count."""
    data = training.model_dump(mode="json", exclude_defaults=True)
    data["data"].pop("root", None)
    return digest(data)


def method_id(method: Arm) -> str:
    """Identify a setting, whatever the arm is called."""
    return digest(method.model_dump(mode="json", exclude_defaults=True))


def sources_of(records: Sequence[SweepRecord], arm: str) -> tuple[tuple[Source, ...], tuple[Fault, ...]]:
    """Find the workloads on which an arm was tuned.

    Args:
        records: in order.
        arm: label.

    Returns:
        The workloads, and what keeps others from being among them.
    """
    found: dict[str, Source] = {}
    faults = []
    for record in records:
        if arm not in record.spec.arms or arm == BASELINE:
            continue
        best = champions(record)
        for workload in record.spec.workloads:
            name = f"sweep {record.spec.name}"
            lacking = [label for label in (BASELINE, arm) if not best[workload, label]]
            if workload in found:
                other = found[workload].record.spec.name
                faults.append(
                    Fault(
                        name, f"{workload}/{arm} was tuned in {other} too, and each has its own best; name one of them"
                    )
                )
            elif lacking:
                studies = " and ".join(f"{workload}/{label}" for label in lacking)
                faults.append(
                    Fault(
                        name,
                        f"no trial of the search of {studies} ended well, so there is no best setting to carry over",
                    )
                )
            else:
                found[workload] = Source(workload, record, best[workload, arm][0], best[workload, BASELINE][0])
    return tuple(found.values()), tuple(faults)


def mismatches(records: Sequence[SweepRecord], sources: Sequence[Source]) -> Iterator[Fault]:
    """Find workloads that share a label and are not the same: their runs could not be put side by side.

    Args:
        records: in order.
        sources: of an arm.

    Yields:
        A fault for each, with what differs.
    """
    for source in sources:
        here = _essence(source.baseline.config.training)
        for record in records:
            if record is source.record or source.workload not in record.spec.workloads:
                continue
            template = record.spec.workloads[source.workload]
            there = _essence(Workload.model_validate(template.concretise(template.corners()[0])))
            different = [part for part in here if here[part] != there[part]]
            if different:
                told = ", ".join(f"{part} ({here[part]} and {there[part]})" for part in different)
                names = f"{source.record.spec.name} and {record.spec.name}"
                yield Fault(
                    f"workload {source.workload}",
                    f"is not the same in {names}: {told} differ; run one of them again under another label",
                )


def _essence(training: Workload) -> dict[str, str]:
    """What makes it that workload, beside what may be tuned."""
    target = f"{training.target.metric} {training.target.value:g}"
    return {"target": target, "model": training.model.name, "data": training.data.name}


def table_of(
    records: Sequence[SweepRecord], sources: Sequence[Source], phase: Phase, metric: TimeMetric = "steps_to_target"
) -> SettingTable:
    """Gather what ran.

    Args:
        records: in order; where two ran the same on the same seed the first one counts.
        sources: of the arm, at least one.
        phase: of the trials. Of confirm, only seeds count that no search of the sources has seen.
        metric: what a cost is.

    Returns:
        The winners of the sources, in their order, then what else ran on at least two workloads, by number; costs of
        the baselines beside them.
    """
    places: dict[str, list[str]] = {}
    for source in sources:
        places.setdefault(source.training, []).append(source.workload)
    kind = sources[0].best.config.method.kind
    seen = {seed for source in sources for seed in source.record.spec.search.seeds} if phase == "confirm" else set()
    costs: dict[tuple[str, str], dict[int, Cost]] = {}
    baseline: dict[str, dict[int, Cost]] = {source.workload: {} for source in sources}
    firsts: dict[str, Trial] = {}
    limits = _limits(records, places, metric)
    for trial in _trials(records, phase):
        config = trial.config
        if config.method.kind not in {kind, BASELINE}:
            continue
        for workload in places.get(training_id(config.training), ()):
            runs = baseline[workload]
            if config.method.kind != BASELINE:
                key = method_id(config.method)
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
        own={source.workload: method_id(source.best.config.method) for source in sources},
    )


def _settings(
    sources: Sequence[Source], firsts: dict[str, Trial], costs: dict[tuple[str, str], dict[int, Cost]]
) -> Iterator[Setting]:
    winners: dict[str, list[Source]] = {}
    for source in sources:
        winners.setdefault(method_id(source.best.config.method), []).append(source)
    for key, won in winners.items():
        labels = [source.workload for source in won]
        yield Setting(key, f"from {', '.join(labels)}", won[0].best.config.values, frozenset(labels))
    counts: dict[str, int] = {}
    for (key, _), runs in costs.items():
        counts[key] = counts.get(key, 0) + bool(runs)
    others = [(firsts[key].config.number, key) for key, count in counts.items() if count > 1 and key not in winners]
    for number, key in sorted(others, key=lambda each: (each[0] is None, each[0] or 0, each[1])):
        label = key[:NAMED_DIGITS] if number is None else f"#{number} ({key[:NAMED_DIGITS]})"
        yield Setting(key, label, firsts[key].config.values)


def _trials(records: Iterable[SweepRecord], phase: Phase) -> Iterator[Trial]:
    for record in records:
        found = [trial for trial in record.trials if trial.config.phase == phase and trial.result is not None]
        yield from sorted(found, key=lambda trial: (trial.config.number or 0, trial.trial_id))


def _limits(records: Sequence[SweepRecord], places: dict[str, list[str]], metric: TimeMetric) -> dict[str, float]:
    """The budget of each workload, for runs that were ended before they could tell it."""
    found: dict[str, float] = {}
    for record in records:
        for trial in record.trials:
            seeds = trial.result.seeds if trial.result is not None else ()
            for workload in places.get(training_id(trial.config.training), ()) if seeds else ():
                for seed in seeds:
                    if seed.num_steps:
                        found[workload] = max(found.get(workload, 0.0), run_limit(seed, metric))
    return found


def costs_of(trial: Trial, metric: TimeMetric, limit: float | None = None) -> dict[int, Cost]:
    """Tell what each seed of a trial cost.

    Args:
        trial: that ended.
        metric: what a cost is.
        limit: the workload's budget, for a run that was ended without a result.

    Returns:
        Seed -> its cost; a divergence or a timeout is a miss on every seed. Empty where the trial gave no answer, and
        where a scheduler stopped it: what it would have cost is not known.
    """
    result = trial.result
    if result is None or result.is_no_answer or result.state is TrialState.PRUNED:
        return {}
    known = {seed.seed: seed for seed in result.seeds if seed.num_steps}
    if result.failure is not None:
        limits = [run_limit(seed, metric) for seed in known.values()] or ([] if limit is None else [limit])
        return dict.fromkeys(trial.config.seeds, Cost.of_miss(max(limits))) if limits else {}
    return {seed: run_cost(found, metric) for seed, found in known.items()}
