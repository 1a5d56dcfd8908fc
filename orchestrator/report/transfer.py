"""Does one setting serve all? From stored sweeps to the numbers; nothing here chooses for a claim."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.home import SweepRecord, Trial
from orchestrator.report.schema.comparison import Interval
from orchestrator.report.schema.evidence import TimeMetric
from orchestrator.report.schema.transfer import (
    EvidenceKind,
    Leave,
    LeftOutWorkload,
    MissingCell,
    OwnBest,
    RankAgreement,
    RankStability,
    SharedSetting,
    Transfer,
    TransferCell,
    TransferSetting,
)
from orchestrator.report.sensitivity import sensitivities_of
from orchestrator.report.settings import (
    Matcher,
    Source,
    costs_of,
    key_of,
    shared_settings_of,
    sources_of,
    table_of,
    training_id,
)
from orchestrator.search import best_over, judges_of, stored_id
from orchestrator.spec import Json, SharedScope
from orchestrator.statistics import (
    ALPHA,
    TOLERANCE,
    ComparedSetting,
    Cost,
    SettingTable,
    against_baseline,
    concordance,
    cost_ratio,
    leave_one_out,
    rank_agreement,
    rank_agreement_interval,
    regret_of,
    shared_settings,
)

MIN_RANKED = 3


def transfers_of(records: Sequence[SweepRecord]) -> tuple[Transfer, ...]:
    """Evaluate every arm of some sweeps across their workloads.

    Args:
        records: of the sweeps on a page.

    Returns:
        One for each arm that was tuned on at least two workloads and about which there is something to say; an arm
        with nothing to tune is the same setting everywhere.
    """
    found = []
    tuned = [
        label
        for record in records
        for label, template in record.spec.arms.items()
        if template.distributions() or record.spec.is_shared(label)
    ]
    for arm in dict.fromkeys(tuned):
        sources, _ = sources_of(records, arm)
        if len(sources) > 1:
            transfer = transfer_of(records, arm, sources)
            if transfer.has_findings:
                found.append(transfer)
    return tuple(found)


def transfer_of(
    records: Sequence[SweepRecord],
    arm: str,
    sources: Sequence[Source],
    metric: TimeMetric = "steps_to_target",
    *,
    leave: Leave | None = None,
    tolerance: float = TOLERANCE,
) -> Transfer:
    """Evaluate an arm across workloads.

    Args:
        records: in order; those that tuned the arm and those that ran its settings elsewhere.
        arm: label.
        sources: the workloads on which it was tuned, at least one.
        metric: what a cost is.
        leave: what leaving one out leaves out; None: what a shared sweep has confirmed, else architectures, or
            workloads where there is one architecture alone.
        tolerance: of the sensitivity bands.

    Returns:
        What is stored comes to.
    """
    confirmed = table_of(records, sources, "confirm", metric)
    searched = table_of(records, sources, "search", metric)
    settings = {each.key: each for each in (*confirmed.settings, *searched.settings)}
    winners = [each for each in settings.values() if each.key in confirmed.own.values()]
    scope = sources[0].record.spec.search.scope
    matcher = Matcher(sources)
    cells = tuple(
        cell
        for setting in settings
        for workload in confirmed.workloads
        if (cell := _cell(confirmed, searched, setting, workload)) is not None
    )
    told = {(cell.setting, cell.workload) for cell in cells if cell.evidence == "confirmed"}
    leave = leave or _leave(sources)
    groups = architectures_of(sources) if leave == "architecture" else {each: each for each in confirmed.workloads}
    return Transfer(
        sweeps=tuple(record.spec.name for record in records),
        arm=arm,
        metric=metric,
        workloads=confirmed.workloads,
        aggregate=scope.aggregate if isinstance(scope, SharedScope) else None,
        settings=_named(settings.values(), confirmed.workloads, _methods(records, sources, matcher), matcher.changes),
        own=tuple(_own(records, source, confirmed, metric) for source in sources),
        cells=cells,
        missing=tuple(
            MissingCell(setting=each.key, workload=workload)
            for workload in confirmed.workloads
            for each in winners
            if (each.key, workload) not in told
        ),
        shared=_shared(confirmed, searched),
        leave=leave,
        left_out=(
            _left_out_of_shared(sources, cells, groups)
            if sources[0].is_shared
            else _left_out(confirmed, searched, cells, groups)
        ),
        stability=_stability(confirmed, searched),
        sensitivity=tuple(sensitivities_of(sources, arm, metric, tolerance)),
    )


def _named(
    settings: Iterable[ComparedSetting],
    workloads: Sequence[str],
    methods: Mapping[str, dict[str, Json]],
    changes: Mapping[str, dict[str, Json]],
) -> tuple[TransferSetting, ...]:
    return tuple(
        TransferSetting(
            key=each.key,
            label=each.label,
            sources=tuple(sorted(each.sources, key=workloads.index)),
            values=dict(each.values),
            method=methods[each.key],
            training=changes.get(each.key, {}),
        )
        for each in settings
    )


def _methods(records: Sequence[SweepRecord], sources: Sequence[Source], matcher: Matcher) -> dict[str, dict[str, Json]]:
    found = {source.key: source.best.config.method for source in sources}
    for trial in (trial for record in records for trial in record.trials):
        for key, _ in matcher.places(trial.config):
            found.setdefault(key, trial.config.method)
    return {key: method.model_dump(mode="json", exclude_none=True) for key, method in found.items()}


def _cell(confirmed: SettingTable, searched: SettingTable, setting: str, workload: str) -> TransferCell | None:
    """From confirm where there is something to compare, else from search."""
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


def _own(records: Sequence[SweepRecord], source: Source, confirmed: SettingTable, metric: TimeMetric) -> OwnBest:
    tuned, plain = (_confirmed(source.record, champion, metric) for champion in (source.best, source.baseline))
    return OwnBest(
        workload=source.workload,
        setting=source.key,
        trial_id=stored_id(source.best),
        tuned=cost_ratio(tuned, plain),
        alone=against_baseline(confirmed, source.key, source.workload),
        is_same_training=source.is_shared or training_id(source.best.config.training) == source.training,
    )


def _confirmed(record: SweepRecord, champion: Trial, metric: TimeMetric) -> dict[int, Cost]:
    origin = stored_id(champion)
    runs = [t for t in record.trials if t.config.phase == "confirm" and t.config.origin == origin]
    return {seed: cost for trial in runs for seed, cost in costs_of(trial, metric).items()}


def _shared(confirmed: SettingTable, searched: SettingTable) -> tuple[SharedSetting, ...]:
    """Of each setting, on confirm seeds where it ran there on every workload, else on those of search."""
    found: dict[str, SharedSetting] = {}
    kinds: tuple[tuple[EvidenceKind, SettingTable], ...] = (("confirmed", confirmed), ("exploratory", searched))
    for evidence, table in kinds:
        for each in shared_settings(table):
            told = SharedSetting(
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
    """What a sweep has confirmed leaving out, or else architectures, where there are several."""
    if len(set(architectures_of(sources).values())) < 2:
        return "workload"
    roles = sources[0].record.spec.confirm.candidates if sources[0].is_shared else ()
    return "workload" if "leave_one_out" in roles and "leave_architecture_out" not in roles else "architecture"


def _left_out(
    confirmed: SettingTable, searched: SettingTable, cells: Sequence[TransferCell], groups: Mapping[str, str]
) -> tuple[LeftOutWorkload, ...]:
    """Chosen where there is more to choose from, on confirm seeds where that is no less."""
    by_place = {(cell.setting, cell.workload): cell for cell in cells}
    on_fresh, on_search = (
        {each.workload: each for each in leave_one_out(table, groups=groups)} if len(table.workloads) > 1 else {}
        for table in (confirmed, searched)
    )
    found = []
    for workload in confirmed.workloads:
        fresh, search = on_fresh.get(workload), on_search.get(workload)
        is_fresh = search is None or (fresh is not None and fresh.num_candidates >= search.num_candidates)
        choice = fresh if is_fresh else search
        if choice is not None:
            found.append(
                LeftOutWorkload(
                    workload=workload,
                    beside=_beside(workload, groups),
                    setting=choice.setting,
                    num_candidates=choice.num_candidates,
                    others=choice.others,
                    chosen_on="confirmed" if is_fresh else "exploratory",
                    cell=by_place.get((choice.setting, workload)),
                )
            )
    return tuple(found)


def _beside(workload: str, groups: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(each for each, of in groups.items() if each != workload and of == groups[workload])


def _left_out_of_shared(
    sources: Sequence[Source], cells: Sequence[TransferCell], groups: Mapping[str, str]
) -> tuple[LeftOutWorkload, ...]:
    """Chosen as the sweep chose what it confirmed: by the search's objective and aggregate, over the others."""
    by_place = {(cell.setting, cell.workload): cell for cell in cells}
    spec, settings = sources[0].record.spec, shared_settings_of(sources[0])
    found = []
    for workload in spec.workloads:
        judges = judges_of("leave_architecture_out", workload, groups)
        choice = best_over(judges, settings)
        others = choice.over(judges)
        assert others is not None
        key = key_of(spec, choice)
        found.append(
            LeftOutWorkload(
                workload=workload,
                beside=_beside(workload, groups),
                setting=key,
                num_candidates=len(settings),
                others=others,
                chosen_on="exploratory",
                cell=by_place.get((key, workload)),
            )
        )
    return tuple(found)


def _stability(confirmed: SettingTable, searched: SettingTable) -> RankStability | None:
    """On the seeds on which more settings ran everywhere."""
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
    """Cost over the baseline's of each setting that ran everywhere, workload by workload."""
    rows = []
    for setting in table.settings:
        ratios = [against_baseline(table, setting.key, workload) for workload in table.workloads]
        known = [ratio for ratio in ratios if ratio is not None]
        if len(known) == len(ratios):
            rows.append(known)
    return rows
