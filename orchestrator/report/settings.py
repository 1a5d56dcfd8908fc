"""Which settings ran on which workloads, recognised by their configuration, whatever sweeps and arms are called.

A setting is an arm's options with every value fixed. It counts on a workload where it ran with the training values that
were tuned for the workload's baseline, so that settings are compared with each other and with nothing else. A setting
of a shared search (``search.scope: shared``) is more: it may multiply these learning rates by a factor of its own, and
have common parameters. Then it counts where it ran with what it makes of the training values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from orchestrator.errors import Fault
from orchestrator.home import SweepRecord, Trial, TrialConfig, TrialState
from orchestrator.report.schema.evidence import TimeMetric
from orchestrator.search import (
    Champions,
    best_over,
    champions,
    complete_of,
    run_cost,
    run_limit,
    settings_of,
    training_of,
    trials_of,
)
from orchestrator.search import Setting as SharedSetting
from orchestrator.spec import ALL, BASELINE, LR_FACTOR, Arm, Json, Phase, SweepSpec, Workload, digest
from orchestrator.statistics import ComparedSetting, Cost, SettingTable

NAMED_DIGITS = 6

Place = tuple[str, str]


@final
@dataclass(frozen=True)
class Source:
    """A workload on which an arm was tuned.

    Args:
        workload: label.
        record: the sweep that tuned it there.
        best: the arm's champion; of a shared search, the setting that is best on this workload.
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

    @property
    def arm(self) -> str:
        """Its label."""
        return self.best.config.arm

    @property
    def is_shared(self) -> bool:
        """Whether one search tuned it on all workloads of the sweep together."""
        return self.record.spec.is_shared(self.arm)

    @property
    def key(self) -> str:
        """Of the setting that was tuned here."""
        config = self.best.config
        return setting_id(config.method, changes_of(self.record.spec, config.arm, config.values))


def training_id(training: Workload) -> str:
    """Identify a workload with every value fixed; where data lies does not count."""
    data = training.model_dump(mode="json", exclude_defaults=True)
    data["data"].pop("root", None)
    return digest(data)


def method_id(method: Arm) -> str:
    """Identify a setting, whatever the arm is called."""
    return digest(method.model_dump(mode="json", exclude_defaults=True))


def changes_of(spec: SweepSpec, arm: str, values: Mapping[str, Json]) -> dict[str, Json]:
    """Tell what a setting makes of a workload's training values.

    Args:
        spec: of the sweep that searched it.
        arm: label.
        values: of the setting.

    Returns:
        Its factor of the learning rate, and its common parameters; empty where it leaves all as it was tuned.
    """
    if not spec.is_shared(arm):
        return {}
    names = {distribution.name for distribution in spec.space(ALL, arm)[0].distributions()}
    return {name: value for name, value in values.items() if name in names and (name, value) != (LR_FACTOR, 1.0)}


def setting_id(method: Arm, changes: Mapping[str, Json]) -> str:
    """Identify a setting.

    Args:
        method: every value fixed.
        changes: from :func:`changes_of`.

    Returns:
        That of the method alone where it changes nothing else.
    """
    key = method_id(method)
    return digest([key, dict(sorted(changes.items()))]) if changes else key


def shared_settings_of(source: Source) -> list[SharedSetting]:
    """Gather the settings of a shared search that ran in full, by number."""
    record = source.record
    return complete_of(settings_of(record.spec, record.trials)[source.arm])


def key_of(spec: SweepSpec, setting: SharedSetting) -> str:
    """Identify a setting of a shared search of which a unit was begun."""
    return setting_id(_method_of(setting), changes_of(spec, setting.arm, setting.values))


def _method_of(setting: SharedSetting) -> Arm:
    return next(unit.trial.config.method for unit in setting.units if unit.trial is not None)


@final
class Matcher:
    """Tells of which setting on which workload a run is.

    Args:
        sources: of the arm, at least one.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._kind = sources[0].best.config.method.kind
        self._tuned: dict[str, list[str]] = {}
        self._changed: dict[tuple[str, str], list[Place]] = {}
        self.changes: dict[str, dict[str, Json]] = {}
        """What each setting makes of the training values; those that change nothing are left out."""
        for source in sources:
            self._tuned.setdefault(source.training, []).append(source.workload)
        for setting in shared_settings_of(sources[0]) if sources[0].is_shared else ():
            spec = sources[0].record.spec
            method, changes = _method_of(setting), changes_of(spec, setting.arm, setting.values)
            if changes:
                key = setting_id(method, changes)
                self.changes[key] = changes
                for source in sources:
                    training = training_id(training_of(spec, source.baseline.config, setting.values))
                    self._changed.setdefault((training, method_id(method)), []).append((key, source.workload))

    def places(self, config: TrialConfig) -> list[Place]:
        """Find what a run counts as.

        Args:
            config: of the run.

        Returns:
            Keys of settings, empty for the baseline, and labels of workloads.
        """
        kind, training = config.method.kind, training_id(config.training)
        if kind == BASELINE:
            return [("", workload) for workload in self._tuned.get(training, ())]
        if kind != self._kind:
            return []
        method = method_id(config.method)
        # What a setting asks for may be what was tuned; then its runs are its own, and none of the bare method's.
        changed = self._changed.get((training, method))
        return changed or [(method, workload) for workload in self._tuned.get(training, ())]


def sources_of(records: Sequence[SweepRecord], arm: str) -> tuple[tuple[Source, ...], tuple[Fault, ...]]:
    """Find the workloads on which an arm was tuned.

    Args:
        records: in order.
        arm: label.

    Returns:
        The workloads, and what keeps others from being among them.
    """
    found: dict[str, Source] = {}
    faults: list[Fault] = []
    for record in records:
        if arm not in record.spec.arms or arm == BASELINE:
            continue
        first = next((source.record for source in found.values()), record)
        if record is not first and (record.spec.is_shared(arm) or first.spec.is_shared(arm)):
            faults.append(_mixed(record, first, arm))
            continue
        best = champions(record) | _own_bests(record, arm)
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


def _mixed(record: SweepRecord, first: SweepRecord, arm: str) -> Fault:
    shared, other = (record, first) if record.spec.is_shared(arm) else (first, record)
    return Fault(
        f"sweep {record.spec.name}",
        f"{arm} was searched on all workloads of {shared.spec.name} together, so each of its settings is one for all "
        f"of them, and none can be chosen on these and on those of {other.spec.name}; name one of the two",
    )


def _own_bests(record: SweepRecord, arm: str) -> Champions:
    """The setting of a shared search that is best on each workload; empty of any other."""
    settings = settings_of(record.spec, record.trials)
    complete = complete_of(settings.get(arm, ()))
    found = trials_of(record.spec, record.trials, {arm: complete}) if complete else {}
    return {
        (workload, label): tuple(trial for trial in trials if trial.config.number == best.number)
        for (workload, label), trials in found.items()
        for best in [best_over({workload}, complete)]
    }


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
        phase: of the trials. Of confirm, only seeds count that no search of the sources has seen; of a shared search,
            only settings that ran in full, since what the others would have cost is not known.
        metric: what a cost is.

    Returns:
        The winners of the sources, in their order, then what else ran on at least two workloads, by number; costs of
        the baselines beside them.
    """
    matcher = Matcher(sources)
    seen = {seed for source in sources for seed in source.record.spec.search.seeds} if phase == "confirm" else set()
    costs: dict[tuple[str, str], dict[int, Cost]] = {}
    baseline: dict[str, dict[int, Cost]] = {source.workload: {} for source in sources}
    firsts: dict[str, Trial] = {}
    limits = _limits(records, matcher, metric)
    for trial in _trials(records, phase, sources[0].arm):
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
            # Found on all workloads together: whoever leaves one out may choose it all the same.
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


def _trials(records: Iterable[SweepRecord], phase: Phase, arm: str) -> Iterator[Trial]:
    """What may count: where its search is shared, an arm had its own settings to choose from, not another's."""
    for record in records:
        only = {arm, BASELINE} if arm in record.spec.arms and record.spec.is_shared(arm) else record.spec.arms.keys()
        whole = {
            label: {setting.number for setting in complete_of(settings)}
            for label, settings in (settings_of(record.spec, record.trials) if phase == "search" else {}).items()
        }
        found = [
            trial
            for trial in record.trials
            if trial.config.phase == phase and trial.result is not None and trial.config.arm in only
            if trial.config.arm not in whole or trial.config.number in whole[trial.config.arm]
        ]
        yield from sorted(found, key=lambda trial: (trial.config.number or 0, trial.trial_id))


def _limits(records: Sequence[SweepRecord], matcher: Matcher, metric: TimeMetric) -> dict[str, float]:
    """The budget of each workload, for runs that were ended before they could tell it."""
    found: dict[str, float] = {}
    for record in records:
        for trial in record.trials:
            seeds = trial.result.seeds if trial.result is not None else ()
            for _, workload in matcher.places(trial.config) if seeds else ():
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
