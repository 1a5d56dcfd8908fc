"""Works out from stored sweeps whether one setting serves all workloads; no claim rests on it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from orchestrator.home import Trial
from orchestrator.report.costs import costs_of, table_of
from orchestrator.report.identity import key_of
from orchestrator.report.schema.comparison import Interval
from orchestrator.report.schema.evidence import TimeMetric
from orchestrator.report.schema.transfer import (
    CandidateForAll,
    EvidenceKind,
    Leave,
    LeftOutWorkload,
    MissingCell,
    OwnBest,
    RankAgreement,
    RankStability,
    Transfer,
    TransferCandidate,
    TransferCell,
)
from orchestrator.report.sensitivity import sensitivities_of
from orchestrator.report.sources import Matcher, Source, sources_of
from orchestrator.search import Candidates, aggregate_of, best_over, judges_of, stored_id, training_id
from orchestrator.spec import SharedScope
from orchestrator.statistics import (
    ALPHA,
    TOLERANCE,
    ComparedSetting,
    Cost,
    SettingTable,
    against_baseline,
    concordance,
    cost_ratio,
    rank_agreement,
    rank_agreement_interval,
    regret_of,
    shared_settings,
)

MIN_RANKED = 3
# Key of a setting, its aggregate over the judges, how many it was chosen from, and on which kind of seeds.
Choice = tuple[str, float, int, EvidenceKind]


def transfers_of(sweeps: Sequence[Candidates]) -> tuple[Transfer, ...]:
    """Evaluate every arm that was tuned on at least two workloads and about which there is something to say.

    An arm with nothing to tune is the same setting everywhere.
    """
    found = []
    tuned = [
        label
        for sweep in sweeps
        for label, template in sweep.spec.arms.items()
        if template.distributions() or sweep.spec.is_shared(label)
    ]
    for arm in dict.fromkeys(tuned):
        sources, _ = sources_of(sweeps, arm)
        if len(sources) > 1:
            transfer = transfer_of(sweeps, arm, sources)
            if transfer.has_findings:
                found.append(transfer)
    return tuple(found)


def transfer_of(
    sweeps: Sequence[Candidates],
    arm: str,
    sources: Sequence[Source],
    metric: TimeMetric = "steps_to_target",
    *,
    leave: Leave | None = None,
    tolerance: float = TOLERANCE,
) -> Transfer:
    """Evaluate an arm across workloads.

    Args:
        sweeps: those that tuned the arm and those that ran its settings elsewhere, in order.
        arm: label of the arm.
        sources: the workloads on which it was tuned, at least one.
        metric: what a cost is.
        leave: what leaving one out leaves out; None: what a shared sweep has confirmed, else architectures, or
            workloads where all have the same architecture.
        tolerance: how far above the best a sensitivity band reaches, as a share.
    """
    confirmed = table_of(sweeps, sources, "confirm", metric)
    searched = table_of(sweeps, sources, "search", metric)
    found = _Evidence(confirmed, searched)
    scope = sources[0].sweep.spec.search.scope
    leave = leave or _leave(sources)
    groups = architectures_of(sources) if leave == "architecture" else {each: each for each in confirmed.workloads}
    return Transfer(
        sweeps=tuple(sweep.spec.name for sweep in sweeps),
        arm=arm,
        metric=metric,
        workloads=confirmed.workloads,
        aggregate=scope.aggregate if isinstance(scope, SharedScope) else None,
        settings=_named(sweeps, sources, found),
        own=tuple(_own(source, confirmed, metric) for source in sources),
        cells=tuple(found.cells.values()),
        missing=found.missing,
        shared=_shared(confirmed, searched),
        leave=leave,
        left_out=tuple(_left_out(sources, found, groups)),
        stability=_stability(confirmed, searched),
        sensitivity=tuple(sensitivities_of(sources, arm, metric, tolerance)),
    )


@final
@dataclass(frozen=True)
class _Evidence:
    """What ran in confirm and in search, with the cells of the transfer matrix that follow."""

    confirmed: SettingTable
    searched: SettingTable

    @cached_property
    def settings(self) -> dict[str, ComparedSetting]:
        """Key of a setting -> the setting, those of confirm first."""
        return {each.key: each for each in (*self.confirmed.settings, *self.searched.settings)}

    @cached_property
    def cells(self) -> dict[tuple[str, str], TransferCell]:
        """Key of a setting and label of a workload -> cell, where there is something to compare."""
        return {
            (setting, workload): cell
            for setting in self.settings
            for workload in self.confirmed.workloads
            if (cell := _cell(self.confirmed, self.searched, setting, workload)) is not None
        }

    @property
    def missing(self) -> tuple[MissingCell, ...]:
        """Cells of the transfer matrix of winners that are not confirmed."""
        told = {place for place, cell in self.cells.items() if cell.evidence == "confirmed"}
        winners = [key for key in self.settings if key in self.confirmed.own.values()]
        places = ((key, workload) for workload in self.confirmed.workloads for key in winners)
        return tuple(MissingCell(setting=key, workload=on) for key, on in places if (key, on) not in told)


def _named(sweeps: Sequence[Candidates], sources: Sequence[Source], found: _Evidence) -> tuple[TransferCandidate, ...]:
    matcher = Matcher(sources)
    methods = {source.key: source.best.config.method for source in sources}
    for trial in (trial for sweep in sweeps for trial in sweep.trials):
        for key, _ in matcher.places(trial.config):
            methods.setdefault(key, trial.config.method)
    return tuple(
        TransferCandidate(
            key=each.key,
            label=each.label,
            sources=tuple(sorted(each.sources, key=found.confirmed.workloads.index)),
            values=dict(each.values),
            method=methods[each.key].model_dump(mode="json", exclude_none=True),
            training=matcher.changes.get(each.key, {}),
        )
        for each in found.settings.values()
    )


def _cell(confirmed: SettingTable, searched: SettingTable, setting: str, workload: str) -> TransferCell | None:
    """Compare a setting with the own one of a workload, on confirm seeds where there are any, else on search seeds."""
    evidence: EvidenceKind = "confirmed"
    table, found = confirmed, regret_of(confirmed, setting, workload)
    if found is None:
        evidence, table, found = "exploratory", searched, regret_of(searched, setting, workload)
    if found is None:
        return None
    is_own = confirmed.own[workload] == setting
    interval = Interval(low=found.low, high=found.high, confidence=1.0 - ALPHA, excludes_none=found.p <= ALPHA)
    return TransferCell(
        setting=setting,
        workload=workload,
        is_own=is_own,
        evidence=evidence,
        seeds=found.seeds,
        regret=found.ratio,
        estimate=found.estimate,
        interval=interval if evidence == "confirmed" and not is_own else None,
        against_baseline=against_baseline(table, setting, workload),
        num_misses=found.num_misses,
        num_own_misses=found.num_own_misses,
    )


def _own(source: Source, confirmed: SettingTable, metric: TimeMetric) -> OwnBest:
    tuned, plain = (_confirmed(source.sweep, champion, metric) for champion in (source.best, source.baseline))
    return OwnBest(
        workload=source.workload,
        setting=source.key,
        trial_id=stored_id(source.best),
        tuned=cost_ratio(tuned, plain),
        alone=against_baseline(confirmed, source.key, source.workload),
        is_same_training=source.is_shared or training_id(source.best.config.training) == source.training,
    )


def _confirmed(sweep: Candidates, champion: Trial, metric: TimeMetric) -> dict[int, Cost]:
    mine = champion.config.configuration_id
    runs = [t for t in sweep.trials if t.config.phase == "confirm" and t.config.configuration_id == mine]
    return {seed: cost for trial in runs for seed, cost in costs_of(trial, metric).items()}


def _shared(confirmed: SettingTable, searched: SettingTable) -> tuple[CandidateForAll, ...]:
    """Rate each setting as the one for all, on confirm seeds where it ran on every workload, else on search seeds."""
    found: dict[str, CandidateForAll] = {}
    kinds: tuple[tuple[EvidenceKind, SettingTable], ...] = (("confirmed", confirmed), ("exploratory", searched))
    for evidence, table in kinds:
        for each in shared_settings(table):
            told = CandidateForAll(
                setting=each.setting,
                evidence=evidence,
                geometric_mean=each.geometric_mean,
                worst=each.worst,
                worst_on=each.worst_on,
                regret=each.regret,
                worst_regret=each.worst_regret,
                worst_regret_on=each.worst_regret_on,
            )
            found.setdefault(each.setting, told)
    return tuple(sorted(found.values(), key=lambda each: (each.evidence != "confirmed", each.geometric_mean)))


def architectures_of(sources: Iterable[Source]) -> dict[str, str]:
    """Look up the model of each workload."""
    return {source.workload: source.baseline.config.training.architecture for source in sources}


def _leave(sources: Sequence[Source]) -> Leave:
    """Choose what is left out: what the sweep has confirmed leaving out, else architectures where there are several."""
    if len(set(architectures_of(sources).values())) < 2:
        return "workload"
    roles = sources[0].sweep.spec.confirm.candidates if sources[0].is_shared else ()
    return "workload" if "leave_one_out" in roles and "leave_architecture_out" not in roles else "architecture"


def _left_out(sources: Sequence[Source], found: _Evidence, groups: Mapping[str, str]) -> Iterator[LeftOutWorkload]:
    """Choose without each workload, and look up what the choice costs there."""
    for workload in found.confirmed.workloads:
        judges = judges_of("leave_architecture_out", workload, groups)
        choice = _choice_of_shared(sources[0], judges) if sources[0].is_shared else _choice(found, judges)
        if choice is not None:
            key, others, num_candidates, chosen_on = choice
            yield LeftOutWorkload(
                workload=workload,
                beside=tuple(each for each, of in groups.items() if each != workload and of == groups[workload]),
                setting=key,
                num_candidates=num_candidates,
                others=others,
                chosen_on=chosen_on,
                cell=found.cells.get((key, workload)),
            )


def _choice(found: _Evidence, judges: set[str]) -> Choice | None:
    """Choose from confirm's settings unless search has more of them; None where no setting ran on all judges."""
    fresh, search = (_aggregates(table, judges) if judges else {} for table in (found.confirmed, found.searched))
    is_fresh = bool(fresh) and len(fresh) >= len(search)
    choices = fresh if is_fresh else search
    if not choices:
        return None
    key = min(choices, key=choices.__getitem__)
    return key, choices[key], len(choices), "confirmed" if is_fresh else "exploratory"


def _choice_of_shared(source: Source, judges: set[str]) -> Choice:
    """Choose as the sweep chose what it confirmed: by the search's objective and aggregate, over the judges."""
    choice = best_over(judges, source.complete)
    others = choice.over(judges)
    assert others is not None
    return key_of(source.sweep.spec, choice), others, len(source.complete), "exploratory"


def _aggregates(table: SettingTable, judges: set[str]) -> dict[str, float]:
    """Give key -> geometric mean over the judges of the cost over the baseline's, for settings that they brought up."""
    found = {}
    for setting in table.settings:
        ratios = {workload: against_baseline(table, setting.key, workload) for workload in sorted(judges)}
        logs = {workload: [math.log(ratio)] for workload, ratio in ratios.items() if ratio is not None}
        if len(logs) == len(judges) and (not setting.sources or setting.sources & judges):
            found[setting.key] = aggregate_of("geometric_mean", logs)
    return found


def _stability(confirmed: SettingTable, searched: SettingTable) -> RankStability | None:
    """Compare the workloads' orders, on the seeds on which more settings ran everywhere."""
    fresh, search = _complete(confirmed), _complete(searched)
    evidence: EvidenceKind = "confirmed" if len(fresh) >= len(search) else "exploratory"
    rows = fresh if evidence == "confirmed" else search
    if len(rows) < MIN_RANKED or len(confirmed.workloads) < 2:
        return None
    by_workload = [list(column) for column in zip(*rows, strict=True)]
    found = concordance(by_workload)
    if found is None:
        return None
    pairs = []
    for (one, xs), (other, ys) in itertools.combinations(zip(confirmed.workloads, by_workload, strict=True), 2):
        ends = rank_agreement_interval(xs, ys) or (None, None)
        pairs.append(RankAgreement(one=one, other=other, tau=rank_agreement(xs, ys), low=ends[0], high=ends[1]))
    return RankStability(
        evidence=evidence, num_settings=len(rows), w=found.w, p=found.p, method=found.method, pairs=tuple(pairs)
    )


def _complete(table: SettingTable) -> list[list[float]]:
    """List the costs over the baseline's of each setting that ran everywhere, workload by workload."""
    rows = []
    for setting in table.settings:
        ratios = [against_baseline(table, setting.key, workload) for workload in table.workloads]
        known = [ratio for ratio in ratios if ratio is not None]
        if len(known) == len(ratios):
            rows.append(known)
    return rows
