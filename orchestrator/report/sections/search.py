"""The tables of the search: what was tried, what became of it, and which parameters mattered."""

from __future__ import annotations

from collections import Counter

from orchestrator.report.schema import Report, SearchTrial, StudyReport
from orchestrator.report.sections.section import Rows, Section
from orchestrator.report.wording import number, percent


def value_text(value: object) -> str:
    """Write a value of a configuration: floats short, the rest as it is."""
    return number(value, 4) if isinstance(value, float) else str(value)


def trial_section(report: Report, study: StudyReport) -> Section:
    """List the search trials of one study, the best first, with a column for each parameter.

    A sweep may have thousands of them, so the page alone shows this table; trials.csv has the same rows.
    """
    names = list(dict.fromkeys(name for trial in study.search for name in trial.values))
    ranks = {candidate.trial_id: candidate.rank for candidate in study.candidates}
    sign = 1.0 if report.sweep.objective.mode == "min" else -1.0
    is_shared = study.shared is not None

    def order(trial: SearchTrial) -> tuple[float, ...]:
        rank = ranks.get(trial.trial_id, len(study.search) + 1)
        aggregate = () if trial.aggregate is None else (trial.aggregate,)
        value = -trial.share if trial.value is None else sign * trial.value
        return (rank, trial.value is None, *aggregate, value)

    rows: Rows = [
        (
            str(trial.number),
            _state(trial) + (f" · confirmed ({ranks[trial.trial_id]})" if trial.trial_id in ranks else ""),
            *(number(trial.value, 4), number(trial.steps_to_target)),
            *((number(trial.aggregate, 4),) if is_shared else ()),
            *(value_text(trial.values[name]) if name in trial.values else "" for name in names),
            trial.trial_id,
        )
        for trial in sorted(study.search, key=order)
    ]
    shared = ("over all workloads",) if is_shared else ()
    header = ("#", "state", report.sweep.objective.metric, "median steps to target", *shared, *names, "trial")
    return Section("trials", "search", f"{study.workload} · {study.arm}", "", header, rows)


def _state(trial: SearchTrial) -> str:
    return f"{trial.state} at {percent(trial.share)}" if trial.state == "PRUNED" else trial.state


def candidate_section(report: Report) -> Section:
    """The candidates of each study that were confirmed, where there are several."""
    studies = [study for study in report.studies if len(study.candidates) > 1]
    has_roles = any(study.shared is not None for study in studies)
    rows: Rows = []
    for study in studies:
        for candidate in study.candidates:
            runs = [run for run in candidate.confirm if run.is_answer]
            reached = f"{sum(run.outcome == 'reached' for run in runs)}/{len(runs)}"
            told = (str(candidate.rank), candidate.trial_id, number(candidate.median_steps_to_target), reached)
            roles = (", ".join(candidate.roles).replace("_", " "),) if has_roles else ()
            rows.append((study.workload, study.arm, *told, *roles))
    header = (
        *("workload", "arm", "rank in search", "trial", "median steps", "reached"),
        *(("confirmed as",) if has_roles else ()),
    )
    note = "Only the first of each arm is compared: to choose among them by their confirm runs would flatter the arm."
    return Section("candidates", "search", "Confirmed candidates", note, header, rows)


def importance_section(report: Report) -> Section:
    """Which parameters mattered in search, the most important first."""
    rows: Rows = [
        (study.workload, study.arm, each.parameter, percent(each.share))
        for study in report.studies
        for each in study.importance
    ]
    note = (
        "Each parameter's share of the PED-ANOVA importances: how differently the best trials and all trials spread "
        "over its values. A parameter that fewer than ten trials had is left out."
    )
    header = ("workload", "arm", "parameter", "importance")
    return Section("importance", "search", "Which parameters mattered in search", note, header, rows)


def shared_section(report: Report) -> Section:
    """The searches that ran over all workloads at once."""
    found = {study.arm: study.shared for study in report.studies if study.shared is not None}
    rows: Rows = [
        (
            *(arm, f"{shared.num_settings:,}", f"{shared.num_complete:,}", f"{shared.num_pruned:,}"),
            *(f"{shared.num_units:,}", f"{shared.num_saved:,}"),
            *(shared.aggregation.replace("_", " "), number(shared.value, 4)),
        )
        for arm, shared in found.items()
    ]
    note = (
        "Each candidate runs on every workload and search seed. Its value is the aggregate of its costs over those of "
        "the tuned baselines; below 1 it is cheaper. Early stopping gives up a candidate that is worse than the "
        "leader, and saves its other runs."
    )
    header = ("arm", "candidates", "in full", "given up", "runs", "runs saved", "aggregate", "chosen")
    return Section("shared", "search", "Searches over all workloads", note, header, rows)


def fate_section(report: Report) -> Section:
    """How many trials of each study ended how."""
    counts = [_fates(study) for study in report.studies]
    names = list(dict.fromkeys(name for each in counts for name in each))
    rows: Rows = [
        (study.workload, study.arm, *(f"{each[name]:,}" for name in names))
        for study, each in zip(report.studies, counts, strict=True)
    ]
    note = (
        "A trial that diverged, ran out of its time or was pruned is an answer and has had its budget. A trial that "
        "crashed, was lost or ran out of memory is none. A lost trial runs again first; where that does not help, "
        "another configuration is tried in its place and counted as replaced."
    )
    header = ("workload", "arm", *names)
    return Section("fates", "search", "What became of the trials", note, header, rows if names else [])


def _fates(study: StudyReport) -> Counter[str]:
    """Count how the trials ended, in the order search, replaced, confirm."""
    search = Counter(trial.failure or trial.state for trial in study.search)
    runs = Counter(run.outcome for candidate in study.candidates for run in candidate.confirm)
    found = Counter({f"search: {name.lower()}": count for name, count in sorted(search.items())})
    found |= {"replaced": study.num_replaced}
    found |= {f"confirm: {name}": count for name, count in sorted(runs.items())}
    return +found
